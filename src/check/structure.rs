//! The structural pass: container, config.json, ignore list and tensors against each other, and the scales of a KV cache.
//!
//! `lint`, `verify` and `diff` begin with it, and so does the opening of a source. No weight is read, and of other
//! tensors only those that hold a number or two.

use crate::config::DeclaredConfig;
use crate::decode::{QuantizedWeight, Shards, WeightState, modules};
use crate::report::Finding;
use crate::rules::{Subject, q0_container, q1_config, q2_ignore_list, q3_tensors, q4_cache};
use qwen_fp8_checkpoint::experts::{BlockStack, declares_block_stacks};
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// The quantized weights of a checkpoint.
#[derive(Debug)]
pub(crate) struct Structure<'a> {
    /// Weights that can be decoded, in order of name.
    pub(crate) weights: Vec<QuantizedWeight<'a>>,
    /// Names of quantization tensors, each of which belongs to some weight; in order.
    auxiliary: Vec<&'a str>,
    /// Stacks of experts in MXFP4 that can be decoded, in order of name.
    pub(crate) stacks: Vec<BlockStack<'a>>,
}

impl<'a> Structure<'a> {
    /// Returns the weight whose codes this tensor holds.
    pub(crate) fn weight(&self, tensor: &Tensor) -> Option<&QuantizedWeight<'a>> {
        let at = self.weights.binary_search_by(|weight| weight.codes.name.cmp(&tensor.name)).ok()?;
        Some(&self.weights[at])
    }

    /// Returns the stack that this tensor holds the blocks or scales of.
    pub(crate) fn stack(&self, tensor: &Tensor) -> Option<&BlockStack<'a>> {
        self.stacks.iter().find(|stack| [&stack.blocks.name, &stack.scales.name].contains(&&tensor.name))
    }

    /// Reports whether the tensor belongs to some quantized weight.
    pub(crate) fn is_auxiliary(&self, tensor: &Tensor) -> bool {
        self.auxiliary.binary_search(&tensor.name.as_str()).is_ok()
    }
}

/// Checks a checkpoint by the rules Q0 to Q3, with the scales of its KV cache, and finds its quantized weights.
///
/// # Errors
/// A tensor that says how others are read cannot be read.
pub(crate) fn check<'a>(
    checkpoint: &'a Checkpoint,
    shards: &Shards,
    findings: &mut Vec<Finding>,
) -> Result<Structure<'a>, SourceError> {
    q0_container::check(checkpoint, findings);
    q3_tensors::siblings::check(checkpoint, findings);
    q3_tensors::experts::check(checkpoint, findings);
    let modules = modules(checkpoint);
    let names = modules.iter().flat_map(|module| &module.auxiliary).map(|tensor| tensor.name.as_str());
    let mut auxiliary: Vec<&str> = names.collect();
    auxiliary.sort_unstable();
    let has_codes = modules.iter().find(|module| module.is(WeightState::Quantized) || !module.auxiliary.is_empty());
    let mut faults = Vec::new();
    let declared = DeclaredConfig::read(&checkpoint.config, &checkpoint.model, &mut faults);
    q1_config::faults(faults, findings);
    q1_config::agreement(checkpoint, declared.as_ref(), has_codes, findings);
    let mut weights = Vec::new();
    if let (Some(declared), Some(_)) = (&declared, has_codes) {
        let subject = Subject { checkpoint, shards, declared, modules: &modules };
        q2_ignore_list::check(&subject, findings);
        weights = q3_tensors::check(&subject, findings)?;
    }
    q4_cache::check(checkpoint, shards, findings)?;
    // Modules come in order of their names, and tensors are looked up by those of their codes.
    weights.sort_by(|a, b| a.codes.name.cmp(&b.codes.name));
    let stacks = if declares_block_stacks(&checkpoint.config) {
        q3_tensors::stacks::check(checkpoint, &modules, findings)
    } else {
        Vec::new()
    };
    Ok(Structure { weights, auxiliary, stacks })
}
