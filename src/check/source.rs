//! The source as it is seen from a result: what each of the result's tensors was made from.
//!
//! As a rule that is the tensor of its name. Experts may be stacked in the source and not in the result, and a source may be
//! FP8 already; then it is a matrix of the stack, or what codes and scales stand for.

mod experts;

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use super::coded::Coded;
use super::open::CheckError;
use super::original::Original;
use super::rules;
use super::shards::Shards;
use super::storage::Kind;
use super::structure::{self, Structure};
use experts::Experts;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// A source, opened.
pub(super) struct Source<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    shards: Shards,
    /// What of it is FP8.
    structure: Structure<'a>,
    /// Index of FP8 weights, by name.
    coded: BTreeMap<String, usize>,
    /// Scales of FP8 weights, which are lost with the weight or not at all.
    scales: BTreeSet<&'a str>,
    tensors: BTreeMap<&'a str, &'a Tensor>,
    /// By the module that they are the experts of.
    experts: BTreeMap<&'a str, Experts<'a>>,
    /// What a decoded weight is rounded to.
    dtype: Dtype,
}

impl<'a> Source<'a> {
    /// Opens a checkpoint that is not quantized, or FP8.
    ///
    /// # Errors
    /// It is quantized in another way, or cannot be read.
    pub(super) fn open(checkpoint: &'a Checkpoint) -> Result<Self, CheckError> {
        let shards = Shards::open(checkpoint)?;
        let mut findings = Vec::new();
        let structure = structure::check(checkpoint, &shards, &mut findings)?;
        if let Some(how) = &checkpoint.quantized {
            let is_float8 = |coded: &Coded<'_>| matches!(coded.form.kind, Kind::Float8(_));
            let is_known = findings.iter().all(|finding| finding.rule != &rules::UNKNOWN_METHOD);
            if !is_known || structure.coded.is_empty() || !structure.coded.iter().all(is_float8) {
                return Err(CheckError::QuantizedSource(how.clone()));
            }
        }
        let coded = structure.coded.iter().enumerate().map(|(index, coded)| (coded.name(), index)).collect();
        let scales = structure.coded.iter().map(|coded| coded.scale.name.as_str()).collect();
        let tensors = checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let dtype = checkpoint.config.float_dtype().unwrap_or(Dtype::BF16);
        let experts = experts::stacked(checkpoint);
        Ok(Self { checkpoint, shards, structure, coded, scales, tensors, experts, dtype })
    }

    /// What the tensor of the result with this name was made from.
    pub(super) fn original(&self, name: &str) -> Option<Original<'_>> {
        if let Some(&index) = self.coded.get(name) {
            return Some(Original::decoded(&self.shards, &self.structure.coded[index], self.dtype));
        }
        if let Some(tensor) = self.tensors.get(name) {
            return Some(Original::stored(&self.shards, tensor));
        }
        let (module, expert, part) = experts::parse(name)?;
        let slice = self.experts.get(module)?.slice(expert, part)?;
        Some(Original::slice(&self.shards, slice))
    }

    /// Names that the result should have, of all that it has.
    pub(super) fn lost(&self, here: &BTreeSet<String>) -> Vec<String> {
        let mut lost = Vec::new();
        for name in self.tensors.keys() {
            if here.contains(*name) || self.scales.contains(name) {
                continue;
            }
            let stacked = self.experts.iter().find_map(|(module, experts)| Some((module, experts.parts_of(name)?)));
            match stacked {
                None => lost.push((*name).to_owned()),
                Some((module, parts)) => {
                    let parts = parts.into_iter().map(|(expert, part)| format!("{module}.{expert}.{part}.weight"));
                    lost.extend(parts.filter(|name| !here.contains(name)));
                }
            }
        }
        lost
    }

    /// Proves that no file changed while it was read.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.shards.check_unchanged()
    }
}
