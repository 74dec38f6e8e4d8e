//! The content of a result: every tensor read in pieces, on all cores, and held against its source.

mod carried;
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

use std::collections::BTreeSet;

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
use super::source::Source;
use super::structure::Structure;
use carried::Carried;
use group::{Held, ScaleCount};
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

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
    /// FP8 in the source already: codes and scales are its bytes.
    Carried,
    /// What codes and scales of the source stand for, rounded once.
    Dequantized,
    /// Decoded, and as close to the source as its format is.
    Quantized,
    /// Its codes and scales are numbers; there is no source to hold them against.
    Decoded,
    /// Not read, since there is no source to hold it against.
    Unread,
}

impl CheckedTensor {
    /// A tensor of which nothing is known but what it is.
    fn plain(name: &str, action: Checked, bytes: u64) -> Self {
        let (name, scales) = (name.to_owned(), ScaleCount::default());
        Self { name, action, bytes, storage: None, figures: None, worst: None, scales, largest: 0.0 }
    }
}

/// A result and what it was made from.
pub(super) struct Content<'a> {
    output: &'a Checkpoint,
    shards: &'a Shards,
    source: Option<&'a Source<'a>>,
    structure: &'a Structure<'a>,
    recorded: &'a Recorded,
    /// Names of the result's tensors, and of its weights where their codes have another.
    here: BTreeSet<String>,
}

impl<'a> Content<'a> {
    pub(super) fn of(
        output: &'a Checkpoint,
        shards: &'a Shards,
        source: Option<&'a Source<'a>>,
        structure: &'a Structure<'a>,
        recorded: &'a Recorded,
    ) -> Self {
        let mut here: BTreeSet<String> = output.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        here.extend(structure.coded.iter().map(Coded::name));
        Self { output, shards, source, structure, recorded, here }
    }

    /// Reads every byte that matters.
    ///
    /// # Errors
    /// A file cannot be read, or changes meanwhile.
    pub(super) fn check(&self, findings: &mut Vec<Finding>) -> Result<Vec<CheckedTensor>, SourceError> {
        let reader = Reader { output: self.shards, recorded: self.recorded };
        let checked: Vec<_> = sorted(self.output)
            .par_iter()
            .map(|tensor| {
                let mut findings = Vec::new();
                let checked = match (self.structure.coded(tensor), self.source) {
                    (Some(coded), None) => Some(weight::check(&reader, coded, None, Held::Together, &mut findings)?),
                    (Some(coded), Some(source)) => self.coded(&reader, coded, source, &mut findings)?,
                    (None, None) => Some(CheckedTensor::plain(&tensor.name, Checked::Unread, tensor.len)),
                    (None, Some(source)) => self.plain(tensor, source, &mut findings)?,
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
        if let Some(source) = self.source {
            self.lost(source, findings);
            scale_rule(&results, findings);
            self.globals(&results, source, findings);
            source.check_unchanged()?;
        }
        self.shards.check_unchanged()?;
        Ok(results)
    }

    /// A weight in few bits.
    fn coded(
        &self,
        reader: &Reader<'_>,
        coded: &Coded<'_>,
        source: &Source<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        let Some(original) = self.original(source, &coded.name()) else {
            findings.push(extra(coded.codes));
            return Ok(None);
        };
        if !original.is_numbers() || original.shape() != coded.matrix {
            findings.push(changed_form(coded.codes, &coded.matrix, &original));
            return Ok(None);
        }
        match carried::check(reader, coded, &original)? {
            Carried::Yes(checked) => Ok(Some(checked)),
            Carried::Altered(finding) => {
                findings.push(finding);
                Ok(None)
            }
            Carried::No(held) => weight::check(reader, coded, Some(original), held, findings).map(Some),
        }
    }

    /// A tensor that is stored in full: one of the source's, or one that belongs to a quantized weight.
    fn plain(
        &self,
        tensor: &Tensor,
        source: &Source<'_>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<CheckedTensor>, SourceError> {
        if self.structure.is_companion(tensor) {
            return Ok(None);
        }
        let Some(original) = self.original(source, &tensor.name) else {
            findings.push(extra(tensor));
            return Ok(None);
        };
        if (tensor.dtype, &*tensor.shape) != (original.dtype(), original.shape()) {
            findings.push(changed_form(tensor, &tensor.shape, &original));
            return Ok(None);
        }
        if let Some(at) = compare::first_difference(self.shards, tensor, &original)? {
            let message =
                format!("{} differs from the source, first at byte {at} of {}", shown(&tensor.name), tensor.len);
            findings.push(Finding::new(&rules::BYTES_DIFFER, message).tensor(&tensor.name));
            return Ok(None);
        }
        let action = if original.as_coded().is_some() { Checked::Dequantized } else { Checked::Copied };
        Ok(Some(CheckedTensor::plain(&tensor.name, action, tensor.len)))
    }

    /// What the tensor of this name was made from; a matrix of a stack that the result has as well is one too many.
    fn original<'s>(&self, source: &'s Source<'_>, name: &str) -> Option<Original<'s>> {
        source.original(name).filter(|original| original.stack().is_none_or(|stack| !self.here.contains(&stack.name)))
    }

    fn lost(&self, source: &Source<'_>, findings: &mut Vec<Finding>) {
        for name in source.lost(&self.here) {
            let message = format!("{} of the source is missing", shown(&name));
            findings.push(Finding::new(&rules::LOST, message).tensor(&name));
        }
    }
}

/// Where tensors are read from, and what is known of them.
struct Reader<'a> {
    output: &'a Shards,
    recorded: &'a Recorded,
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
fn changed_form(tensor: &Tensor, shape: &[usize], original: &Original<'_>) -> Finding {
    let message = match (Stored::of(tensor), shape == original.shape()) {
        (Stored::Coded, true) => format!("{} is {} and cannot be decoded", shown(&tensor.name), tensor.dtype),
        _ => format!(
            "{} is {} {shape:?}, and in the source {} {:?}",
            shown(&tensor.name),
            tensor.dtype,
            original.dtype(),
            original.shape()
        ),
    };
    Finding::new(&rules::CHANGED_FORM, message).tensor(&tensor.name)
}

/// Scales are checked together: where nearly all follow one rule, one that does not was altered; where none do, they
/// come from another observer. Of those that were looked for, every one is what a search comes to.
fn scale_rule(tensors: &[CheckedTensor], findings: &mut Vec<Finding>) {
    let altered = |tensor: &CheckedTensor, why: String| {
        let ScaleCount { other, first, .. } = tensor.scales;
        let name = shown(&tensor.name);
        let message = format!("{name}: {other} of its scales, the first at position {first}, {why}");
        Finding::new(&rules::SCALE_ALTERED, message).tensor(&tensor.name)
    };
    let (others, alone): (Vec<_>, Vec<_>) = tensors.iter().partition(|tensor| tensor.scales.held == Held::Together);
    for tensor in alone.into_iter().filter(|tensor| tensor.scales.other > 0) {
        let why = match tensor.scales.held {
            Held::Search => {
                "are none that a search finds: it tries no such scale, or that of the largest weight leaves less error"
            }
            _ => {
                "are neither those of the source, whose codes are the same, nor follow from the weights of their group"
            }
        };
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
