//! The content of a result: every tensor read in pieces, on all cores, and held against its source.

mod compare;
mod globals;
mod group;
mod matrix;
mod places;
mod scales;
mod weight;

pub(super) use compare::first_difference;
pub(super) use globals::merged_differ;
pub(super) use scales::check_scales;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use super::coded::Coded;
use super::finding::Finding;
use super::modules::Stored;
use super::original::Original;
use super::quality::{Figures, WorstBlock};
use super::recorded::Recorded;
use super::rules;
use super::shards::Shards;
use super::structure::Structure;
use crate::checkpoint::source::SourceError;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::shown::shown;
use group::ScaleCount;

/// A tensor of the result and what was found of it.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedTensor {
    pub name: String,
    pub action: Checked,
    pub bytes: u64,
    /// How it is stored, such as `blocks of 128 × 128`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Against the source, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstBlock>,
    #[serde(skip)]
    scales: ScaleCount,
    /// The largest magnitude of the source.
    #[serde(skip)]
    largest: f32,
}

/// What a tensor was checked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Checked {
    /// Byte for byte that of the source.
    Copied,
    /// Decoded, and as close to the source as its format is.
    Quantized,
    /// Its codes and scales are numbers; there is no source to hold them against.
    Decoded,
    /// Not read, since there is no source to hold it against.
    Unread,
}

/// A result and what it was made from.
pub(super) struct Content<'a> {
    pub(super) output: &'a Checkpoint,
    pub(super) shards: &'a Shards,
    pub(super) source: Option<&'a Checkpoint>,
    pub(super) structure: &'a Structure<'a>,
    pub(super) recorded: &'a Recorded,
}

impl Content<'_> {
    /// Reads every byte that matters.
    ///
    /// # Errors
    /// A file cannot be read, or changes meanwhile.
    pub(super) fn check(&self, findings: &mut Vec<Finding>) -> Result<Vec<CheckedTensor>, SourceError> {
        let source = self.source.map(Shards::open).transpose()?;
        let originals: BTreeMap<&str, &Tensor> = by_name(self.source);
        let reader = Reader { output: self.shards, source: source.as_ref(), recorded: self.recorded };
        let checked: Vec<_> = sorted(self.output)
            .par_iter()
            .map(|tensor| {
                let mut findings = Vec::new();
                let checked = match self.structure.coded(tensor) {
                    Some(coded) => {
                        let original = originals.get(coded.name().as_str()).copied();
                        self.coded(&reader, coded, original, &mut findings)?
                    }
                    None => {
                        let original = originals.get(tensor.name.as_str()).copied();
                        self.plain(&reader, tensor, original, &mut findings)?
                    }
                };
                Ok((checked, findings))
            })
            .collect::<Result<_, SourceError>>()?;
        let mut results = Vec::new();
        for (checked, found) in checked {
            results.extend(checked);
            findings.extend(found);
        }
        merged_differ(&self.structure.coded, findings);
        if self.source.is_some() {
            self.lost(findings);
            scale_rule(&results, findings);
            self.globals(&results, &originals, findings);
        }
        self.shards.check_unchanged()?;
        source.iter().try_for_each(Shards::check_unchanged)?;
        Ok(results)
    }

    /// A weight in few bits.
    fn coded(
        &self,
        reader: &Reader<'_>,
        coded: &Coded<'_>,
        original: Option<&Tensor>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        let original = match (reader.source, original) {
            (None, _) => None,
            (Some(_), None) => {
                findings.push(extra(coded.codes));
                return Ok(None);
            }
            (Some(source), Some(original)) => match Original::of(source, original) {
                Some(same) if *original.shape == coded.matrix => Some(same),
                _ => {
                    findings.push(changed_form(coded.codes, &coded.matrix, original));
                    return Ok(None);
                }
            },
        };
        weight::check(reader, coded, original, findings).map(Some)
    }

    /// A tensor that is not decoded: one of the source's, or one that belongs to a quantized weight.
    fn plain(
        &self,
        reader: &Reader<'_>,
        tensor: &Tensor,
        original: Option<&Tensor>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        let checked = |action| {
            Some(CheckedTensor {
                name: tensor.name.clone(),
                action,
                bytes: tensor.len,
                storage: None,
                figures: None,
                worst: None,
                scales: ScaleCount::default(),
                largest: 0.0,
            })
        };
        let (Some(source), Some(original)) = (reader.source, original) else {
            if self.source.is_none() {
                return Ok(checked(Checked::Unread));
            }
            if !self.structure.is_companion(tensor) {
                findings.push(extra(tensor));
            }
            return Ok(None);
        };
        if (tensor.dtype, &tensor.shape) != (original.dtype, &original.shape) {
            findings.push(changed_form(tensor, &tensor.shape, original));
            return Ok(None);
        }
        if let Some(at) = compare::first_difference(reader.output, tensor, source, original)? {
            let message =
                format!("{} differs from the source, first at byte {at} of {}", shown(&tensor.name), tensor.len);
            findings.push(Finding::new(&rules::BYTES_DIFFER, message).tensor(&tensor.name));
            return Ok(None);
        }
        Ok(checked(Checked::Copied))
    }

    fn lost(&self, findings: &mut Vec<Finding>) {
        let mut here: BTreeSet<String> = self.output.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        here.extend(self.structure.coded.iter().map(Coded::name));
        for original in self.source.into_iter().flat_map(sorted) {
            if !here.contains(&original.name) {
                let message = format!("{} of the source is missing", shown(&original.name));
                findings.push(Finding::new(&rules::LOST, message).tensor(&original.name));
            }
        }
    }
}

/// Where tensors are read from.
struct Reader<'a> {
    output: &'a Shards,
    source: Option<&'a Shards>,
    recorded: &'a Recorded,
}

fn by_name(checkpoint: Option<&Checkpoint>) -> BTreeMap<&str, &Tensor> {
    checkpoint.iter().flat_map(|checkpoint| &checkpoint.tensors).map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

fn sorted(checkpoint: &Checkpoint) -> Vec<&Tensor> {
    let mut tensors: Vec<_> = checkpoint.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn extra(tensor: &Tensor) -> Finding {
    let message = format!("{} is not in the source", shown(&tensor.name));
    Finding::new(&rules::EXTRA, message).tensor(&tensor.name)
}

/// A tensor that stands for a weight of this shape, and not for that of the source.
fn changed_form(tensor: &Tensor, shape: &[usize], original: &Tensor) -> Finding {
    let message = match (Stored::of(tensor), shape == original.shape) {
        (Stored::Coded, true) => format!("{} is {} and cannot be decoded", shown(&tensor.name), tensor.dtype),
        _ => format!(
            "{} is {} {shape:?}, and in the source {} {:?}",
            shown(&tensor.name),
            tensor.dtype,
            original.dtype,
            original.shape
        ),
    };
    Finding::new(&rules::CHANGED_FORM, message).tensor(&tensor.name)
}

/// Scales are checked together: where nearly all follow one rule, one that does not was altered; where none do, they
/// come from another observer. Of those that were looked for, every one is what a search comes to.
fn scale_rule(tensors: &[CheckedTensor], findings: &mut Vec<Finding>) {
    let (searched, others): (Vec<_>, Vec<_>) = tensors.iter().partition(|tensor| tensor.scales.searched);
    let altered = |tensor: &CheckedTensor, why: String| {
        let ScaleCount { other, first, .. } = tensor.scales;
        let name = shown(&tensor.name);
        let message = format!("{name}: {other} of its scales, the first at position {first}, {why}");
        Finding::new(&rules::SCALE_ALTERED, message).tensor(&tensor.name)
    };
    for tensor in searched.into_iter().filter(|tensor| tensor.scales.other > 0) {
        let why =
            "are none that a search finds: it tries no such scale, or that of the largest weight leaves less error";
        findings.push(altered(tensor, why.to_owned()));
    }
    let following: u64 = others.iter().map(|tensor| tensor.scales.following).sum();
    let other: u64 = others.iter().map(|tensor| tensor.scales.other).sum();
    if following < other {
        let message = format!("{other} of {} scales do not follow from the weights of their group", following + other);
        findings.push(Finding::new(&rules::SCALE_RULE, message));
        return;
    }
    for tensor in others.into_iter().filter(|tensor| tensor.scales.other > 0) {
        let why = format!("do not follow from the weights of their group as {following} others do");
        findings.push(altered(tensor, why));
    }
}
