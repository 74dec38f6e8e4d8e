//! A checkpoint that is quantized already, as a source: the codes, scales and other tensors of each weight are one
//! input of a plan.

mod awq;
mod compressed_tensors;
mod fp8;
mod gptq;
mod group;
mod groups;
mod layout;
mod modelopt;
mod stacks;
mod transposed;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Dtype, SourceDtype};

use crate::checkpoint::experts::declares_block_stacks;
use crate::checkpoint::hf_quant_config::HF_QUANT_CONFIG;
use crate::checkpoint::models::is_beside_quantized_weight;
use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};

use super::planned_input::PlannedInput;

pub(super) use stacks::take_apart;

use groups::SourceGroups;
use stacks::FoundStacks;
use weight::Beside;

/// The quantized weights of a checkpoint, and the tensors that belong to them, by number of the stored tensor.
#[derive(Default)]
pub(super) struct QuantizedTensors {
    /// The input that each tensor of codes is to become.
    pub(super) weights: BTreeMap<usize, PlannedInput>,
    beside: BTreeSet<usize>,
    /// The stacks of experts among the weights, as they are unquantized.
    pub(super) stacks: Vec<Tensor>,
}

impl QuantizedTensors {
    /// Pairs every tensor of codes with its scales and what else belongs to it, as the config declares them.
    ///
    /// # Errors
    /// The reason for which the checkpoint cannot be read as a source.
    pub(super) fn find(checkpoint: &Checkpoint) -> Result<Self, String> {
        let dtype = checkpoint.config.float_dtype().and_then(|dtype| SourceDtype::try_from(dtype).ok());
        let dtype = dtype.unwrap_or(SourceDtype::Bf16);
        if declares_block_stacks(&checkpoint.config) {
            let FoundStacks { weights, beside, decoded } = stacks::find(checkpoint, dtype)?;
            return Ok(Self { weights, beside, stacks: decoded });
        }
        let groups = SourceGroups::read(checkpoint)?;
        let layouts: Vec<_> =
            checkpoint.tensors.iter().map(|tensor| groups.layout(&checkpoint.model, tensor)).collect();
        let with_codes: BTreeSet<&str> = checkpoint
            .tensors
            .iter()
            .zip(&layouts)
            .filter(|(_, layout)| layout.is_some())
            .map(|(tensor, _)| tensor.module())
            .collect();
        // DeepSeek-V4 calls a scale plain `scale`, as some norms call their factors.
        let is_beside = |tensor: &Tensor| {
            is_beside_quantized_weight(tensor.parameter())
                || matches!(tensor.parameter(), "scale" | "scales" | "g_idx" | "activation_scale")
                    && with_codes.contains(tensor.module())
        };
        let tensors = || checkpoint.tensors.iter().zip(&layouts).enumerate();
        let beside: BTreeSet<usize> = tensors()
            .filter(|(_, (tensor, layout))| layout.is_none() && is_beside(tensor))
            .map(|(index, _)| index)
            .collect();
        let mut unclaimed = Beside::new(beside.iter().map(|&index| &checkpoint.tensors[index]));
        let mut weights = BTreeMap::new();
        for (index, (tensor, layout)) in tensors() {
            if let Some(layout) = layout {
                weights.insert(index, weight::weight(checkpoint, tensor, layout, dtype, &mut unclaimed)?);
            } else if !beside.contains(&index) && is_narrow(tensor) {
                return Err(groups.why_none(tensor));
            }
        }
        if weights.is_empty() && beside.is_empty() {
            let what = match checkpoint.config.declared_in() {
                HF_QUANT_CONFIG => format!("`{HF_QUANT_CONFIG}` away"),
                file => format!("`quantization_config` out of `{file}`"),
            };
            return Err(format!(
                "no weight is stored in the layout that it declares: if none is quantized, take {what}"
            ));
        }
        // Tensors that nothing reads would be lost without a word: those of another format.
        let Some(left) = unclaimed.first() else { return Ok(Self { weights, beside, stacks: Vec::new() }) };
        let name = shown(&left.name);
        Err(match groups.codes_dtype(left.parameter()) {
            Some(dtype) if dtype != left.dtype => format!("{name} is {}, not {dtype}", left.dtype),
            _ if with_codes.contains(left.module()) => format!("{name} is not known beside a weight of its format"),
            _ => format!("{name} belongs to no quantized weight"),
        })
    }

    /// Reports whether this stored tensor belongs to a weight, and is no input of its own.
    pub(super) fn is_beside(&self, index: usize) -> bool {
        self.beside.contains(&index)
    }
}

/// Reports whether a tensor has a dtype that only codes have.
fn is_narrow(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4 | Dtype::I8 | Dtype::U8)
        && tensor.shape.len() >= 2
}
