//! The source behind a result: what each of the result's tensors was made from, and how far it is from it.
//!
//! As a rule, a tensor was made from the tensor of its name. Experts may be stacked in the source and not in the
//! result, and a source may be FP8 already; the original is then a matrix of the stack, or the decoded weight. What
//! is found here is counts and values; the rules judge them.

mod adapters;
mod bytes;
mod checked;
mod comparison;
mod experts;
mod global_scales;
mod group;
mod occurrences;
mod original;
mod quotients;
mod recorded;
mod recorded_source;
mod runs;
mod scales;
mod stretch;

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use crate::decode::{QuantizedWeight, Shards};
use adapters::SourceAdapters;
use experts::StackedExperts;
use qwen_fp8_checkpoint::experts::BlockStack;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

pub use adapters::AdapterFault;
pub use checked::{CheckedAs, CheckedTensor};
pub(crate) use recorded_source::other_source;
pub use recorded_source::{NoSource, recorded_source};

pub(crate) use bytes::first_difference;
pub(crate) use comparison::{Comparison, WeightComparison};
pub(crate) use global_scales::{GlobalScaleCheck, fused_layers};
pub(crate) use group::{ScaleCount, ScaleRule};
pub(crate) use occurrences::Occurrences;
pub(crate) use original::Original;
pub(crate) use recorded::RecordedActions;
pub(crate) use scales::{QparamsScan, scan};

/// An opened source.
pub(crate) struct OpenedSource<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    shards: Shards,
    /// Quantized weights, in order of name.
    quantized: Vec<QuantizedWeight<'a>>,
    /// Index in `quantized`, by the name of the weight.
    by_name: BTreeMap<String, usize>,
    /// Tensors of quantized weights by other names than the weight's, which are lost with it or not at all.
    scales: BTreeSet<&'a str>,
    tensors: BTreeMap<&'a str, &'a Tensor>,
    /// Stacked experts, by their module.
    experts: BTreeMap<String, StackedExperts<'a>>,
    /// Stacks of experts in MXFP4.
    blocks: Vec<BlockStack<'a>>,
    /// The dtype that a decoded weight is rounded to.
    dtype: Dtype,
    adapters: SourceAdapters<'a>,
}

impl<'a> OpenedSource<'a> {
    /// Prepares a source whose quantized weights, if it has any, are those.
    ///
    /// # Errors
    /// Those of [`SourceAdapters::open`].
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        shards: Shards,
        quantized: Vec<QuantizedWeight<'a>>,
        blocks: Vec<BlockStack<'a>>,
    ) -> Result<Self, AdapterFault> {
        let by_name = quantized.iter().enumerate().map(|(index, weight)| (weight.name(), index)).collect();
        let scales = quantized
            .iter()
            .flat_map(|weight| weight.beside().chain([weight.scale, weight.codes]))
            .filter(|tensor| tensor.parameter() != "weight")
            .chain(blocks.iter().map(|stack| stack.scales))
            .map(|tensor| tensor.name.as_str())
            .collect();
        let tensors = checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        // The dtype that the engine decodes to: that of the model, or BF16 where config.json does not say.
        let dtype = checkpoint.config.float_dtype().unwrap_or(Dtype::BF16);
        let experts = experts::stacked(checkpoint, &blocks);
        let adapters = SourceAdapters::default();
        let plain = Self { checkpoint, shards, quantized, by_name, scales, tensors, experts, blocks, dtype, adapters };
        let shape = |name: &str| Some(plain.original(name)?.shape().to_vec());
        let adapters = SourceAdapters::open(checkpoint, shape)?;
        Ok(Self { adapters, ..plain })
    }

    /// Returns what the result's tensor with this name was made from.
    pub(crate) fn original(&self, name: &str) -> Option<Original<'_>> {
        Some(self.unchanged(name)?.changed(self.adapters.of(name)))
    }

    /// Returns what it was made from before adapters were merged into it.
    fn unchanged(&self, name: &str) -> Option<Original<'_>> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(Original::decoded(&self.shards, &self.quantized[index], self.dtype));
        }
        // A tensor of the name wins over a matrix of a stack: a checkpoint may have both spellings.
        if let Some(tensor) = self.tensors.get(name) {
            return Some(Original::stored(&self.shards, tensor));
        }
        if let Some(stack) = self.blocks.iter().find(|stack| stack.name == name) {
            return Some(Original::decoded_stack(&self.shards, stack, self.dtype));
        }
        let mut slices =
            experts::readings(name).filter_map(|(module, expert)| self.experts.get(module)?.slice(expert, name));
        slices.next().map(|slice| Original::slice(&self.shards, slice, self.dtype))
    }

    /// Lists names that a result with these tensors should have and does not.
    pub(crate) fn lost(&self, here: &BTreeSet<String>) -> Vec<String> {
        let weights = self.quantized.iter().filter(|weight| weight.codes.parameter() != "weight");
        let mut lost: Vec<String> = weights.map(QuantizedWeight::name).filter(|name| !here.contains(name)).collect();
        for name in self.tensors.keys() {
            if here.contains(*name) || self.scales.contains(name) {
                continue;
            }
            // Decoded, a stack has another name than its blocks.
            let decoded = self.blocks.iter().find(|stack| stack.blocks.name == **name).map(|stack| stack.name);
            if decoded.is_some_and(|decoded| here.contains(decoded)) {
                continue;
            }
            match self.experts.values().find_map(|experts| experts.parts_of(name)) {
                None => lost.push((*name).to_owned()),
                // A stack that was split is not lost, but each of its matrices may be.
                Some(parts) => lost.extend(parts.into_iter().filter(|name| !here.contains(name))),
            }
        }
        lost
    }

    /// Proves that no file changed while it was read.
    pub(crate) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.adapters.check_unchanged()?;
        self.shards.check_unchanged()
    }
}
