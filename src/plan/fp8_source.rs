//! A checkpoint that is FP8 already, as a source: the codes and scales of each weight are one input of a plan.

mod groups;

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Dtype, Matrix, SourceDtype, Strategy, TensorRole};

use crate::checkpoint::models::is_beside_quantized_weight;
use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};

use super::planned_input::{Fp8Source, InputData, PlannedInput};

use groups::SourceGroups;

/// The FP8 weights of a checkpoint and their scales, by number of the stored tensor.
#[derive(Default)]
pub(super) struct Fp8Tensors {
    /// The input that each tensor of codes is to become.
    pub(super) weights: BTreeMap<usize, PlannedInput>,
    scales: BTreeSet<usize>,
}

impl Fp8Tensors {
    /// Pairs every tensor of codes with its scales, as the config declares them.
    ///
    /// # Errors
    /// The reason for which the checkpoint cannot be read as a source.
    pub(super) fn find(checkpoint: &Checkpoint) -> Result<Self, String> {
        let groups = SourceGroups::read(&checkpoint.config)?;
        let dtype = checkpoint.config.float_dtype().and_then(|dtype| SourceDtype::try_from(dtype).ok());
        let dtype = dtype.unwrap_or(SourceDtype::Bf16);
        let is_scale = |tensor: &Tensor| is_beside_quantized_weight(tensor.parameter());
        let tensors = || checkpoint.tensors.iter().enumerate();
        let scales: BTreeSet<usize> =
            tensors().filter(|(_, tensor)| is_scale(tensor)).map(|(index, _)| index).collect();
        let mut unclaimed: BTreeMap<&str, &Tensor> = scales
            .iter()
            .map(|&index| &checkpoint.tensors[index])
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect();
        let mut weights = BTreeMap::new();
        for (index, tensor) in tensors().filter(|(index, _)| !scales.contains(index)) {
            match tensor.dtype {
                Dtype::F8_E4M3 if tensor.parameter() == "weight" => {
                    weights.insert(index, weight(tensor, &groups, dtype, &mut unclaimed)?);
                }
                Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4 | Dtype::I8 if tensor.shape.len() >= 2 => {
                    return Err(format!(
                        "{} is {} and no FP8 weight of a linear layer",
                        shown(&tensor.name),
                        tensor.dtype
                    ));
                }
                _ => {}
            }
        }
        // Scales that nothing reads would be lost without a word: static activation scales, a KV cache's, those of
        // another format.
        match unclaimed.keys().next() {
            Some(left) => Err(format!("{} belongs to no FP8 weight with scales alone", shown(left))),
            None => Ok(Self { weights, scales }),
        }
    }

    /// Reports whether this stored tensor belongs to a weight, and is no input of its own.
    pub(super) fn is_scale(&self, index: usize) -> bool {
        self.scales.contains(&index)
    }
}

fn weight(
    codes: &Tensor,
    groups: &SourceGroups,
    dtype: SourceDtype,
    unclaimed: &mut BTreeMap<&str, &Tensor>,
) -> Result<PlannedInput, String> {
    let name = shown(&codes.name).to_string();
    let &[rows, columns] = codes.shape.as_slice() else {
        return Err(format!("{name} is FP8 and has {} dimensions", codes.shape.len()));
    };
    let scheme = groups.scheme(codes)?;
    let granule = match scheme.weights().strategy {
        Strategy::Block(block) => block,
        Strategy::Channel => [1, columns.max(1)],
        _ => [rows.max(1), columns.max(1)],
    };
    let scale_name = format!("{}.{}", codes.module(), groups.scale_parameter());
    let scales = unclaimed.remove(scale_name.as_str());
    let scales = scales.ok_or_else(|| format!("{name} is FP8 and has no {}", shown(&scale_name)))?;
    if !matches!(scales.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
        return Err(format!("{} is {}, not BF16, F16 or F32", shown(&scales.name), scales.dtype));
    }
    let outputs = scheme.outputs(Matrix { dtype, rows, columns }).map_err(|error| format!("{name}: {error}"))?;
    let scales_spec = outputs.into_iter().find(|spec| spec.role == TensorRole::Scale);
    let shape = scales_spec.map(|spec| spec.shape).unwrap_or_default();
    // A single scale, or one per row, is also written flat.
    let squeezed = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
    let is_flat =
        !matches!(scheme.weights().strategy, Strategy::Block(_)) && squeezed(&shape) == squeezed(&scales.shape);
    if shape != scales.shape && !is_flat {
        return Err(format!("{} has shape {:?}, and {name} needs {shape:?}", shown(&scales.name), scales.shape));
    }
    // The header's reader has proven that the codes are in the file; the decoded values may be too many for a count of
    // bytes.
    let len = codes.len.checked_mul(dtype.bytes() as u64).ok_or_else(|| format!("{name} is too large"))?;
    let source = Fp8Source { codes: codes.clone(), scales: scales.clone(), granule, scheme };
    Ok(PlannedInput {
        name: codes.name.clone(),
        dtype: dtype.into(),
        shape: codes.shape.clone(),
        len,
        data: InputData::Fp8(Box::new(source)),
        part_of: None,
        layer: codes.layer,
    })
}
