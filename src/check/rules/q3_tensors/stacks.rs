//! Q301, Q302, Q304 to Q306 and Q308 of stacks of experts that are stored as blocks and scales.

use super::scales::{self, NO_SCALE, ORPHAN_SCALE, SCALE_DTYPE, SCALE_SHAPE};
use super::weights::{self, WEIGHT_DTYPE, WEIGHT_RANK};
use crate::decode::{Module, WeightState};
use crate::report::Finding;
use crate::rules::q1_config::{NOTHING_QUANTIZED, UNKNOWN_METHOD};
use qwen_fp8_checkpoint::experts::{BlockStack, BlocksError};
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// Checks the stacks of a checkpoint whose config declares `mxfp4`, and returns those that can be decoded.
pub(crate) fn check<'a>(
    checkpoint: &'a Checkpoint,
    modules: &[Module<'_>],
    findings: &mut Vec<Finding>,
) -> Vec<BlockStack<'a>> {
    let found = checkpoint.block_stacks();
    if found.is_empty() {
        let message = "config.json declares `mxfp4`, and no stack of experts is stored as `_blocks` and `_scales`";
        findings.push(Finding::new(&NOTHING_QUANTIZED, message).config(""));
    }
    let mut stacks = Vec::new();
    for stack in found {
        match stack {
            Ok(stack) => stacks.push(stack),
            Err(error) => findings.push(Finding::new(rule(&error), error.to_string()).tensor(error.tensor())),
        }
    }
    // The method has no other codes than those of stacks, of which one that is at fault was told.
    let is_of_stack = |weight: &Tensor| ["_blocks", "_scales"].iter().any(|end| weight.name.ends_with(end));
    let codes = modules.iter().filter(|module| module.is(WeightState::Quantized)).filter_map(Module::stored);
    codes.filter(|weight| !is_of_stack(weight)).for_each(|weight| weights::undeclared_dtype(weight, findings));
    let plain = modules.iter().filter(|module| !module.is(WeightState::Quantized));
    plain.for_each(|module| scales::orphans(module, findings));
    stacks
}

fn rule(error: &BlocksError) -> &'static crate::report::LintRule {
    match error {
        BlocksError::NoScales { .. } => &NO_SCALE,
        BlocksError::NoBlocks { .. } => &ORPHAN_SCALE,
        BlocksError::BlocksDtype { .. } => &WEIGHT_DTYPE,
        BlocksError::ScalesDtype { .. } => &SCALE_DTYPE,
        BlocksError::BlocksShape { .. } => &WEIGHT_RANK,
        BlocksError::ScalesShape { .. } => &SCALE_SHAPE,
        BlocksError::Unknown { .. } => &UNKNOWN_METHOD,
    }
}
