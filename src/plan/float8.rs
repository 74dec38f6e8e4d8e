//! A checkpoint that is FP8 already, as a source: each weight's codes and scales are seen as one tensor of numbers.

mod declared;

use std::collections::BTreeMap;
use std::sync::Arc;

use qwen_fp8_schemes::{Dtype, Matrix, SourceDtype, Strategy, TensorRole};

use crate::checkpoint::view::{Float8, ScaleTensor};
use crate::checkpoint::{Checkpoint, Tensor, View};
use crate::shown::shown;

use declared::Declared;

/// Parameters that stand beside a quantized weight only.
const QUANTIZED: [&str; 13] = [
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "weight_zero_point",
    "weight_packed",
    "weight_shape",
    "weight_g_idx",
    "input_scale",
    "input_global_scale",
    "output_scale",
    "k_scale",
    "v_scale",
];

/// The same checkpoint with every FP8 weight seen as numbers, in place of its codes; its scales are no tensors any more.
///
/// # Errors
/// Why it cannot be read as a source.
pub(super) fn decoded(mut checkpoint: Checkpoint) -> Result<Checkpoint, String> {
    let declared = Declared::read(&checkpoint.config)?;
    let dtype = checkpoint.config.float_dtype().unwrap_or(SourceDtype::Bf16);
    let is_scale = |tensor: &Tensor| QUANTIZED.contains(&tensor.parameter());
    let (scales, others): (Vec<Tensor>, Vec<Tensor>) = checkpoint.tensors.into_iter().partition(is_scale);
    let mut scales: BTreeMap<String, Tensor> = scales.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let seen = |tensor: Tensor| match tensor.dtype {
        Dtype::F8_E4M3 if tensor.parameter() == "weight" => weight(tensor, &declared, dtype, &mut scales),
        Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F4 | Dtype::I8 if tensor.shape.len() >= 2 => {
            Err(format!("{} is {} and no FP8 weight of a linear layer", shown(&tensor.name), tensor.dtype))
        }
        _ => Ok(tensor),
    };
    checkpoint.tensors = others.into_iter().map(seen).collect::<Result<_, _>>()?;
    match scales.keys().next() {
        Some(left) => Err(format!("{} belongs to no FP8 weight with scales alone", shown(left))),
        None => Ok(checkpoint),
    }
}

fn weight(
    codes: Tensor,
    declared: &Declared,
    dtype: SourceDtype,
    scales: &mut BTreeMap<String, Tensor>,
) -> Result<Tensor, String> {
    let name = shown(&codes.name).to_string();
    let &[rows, columns] = codes.shape.as_slice() else {
        return Err(format!("{name} is FP8 and has {} dimensions", codes.shape.len()));
    };
    let scheme = declared.scheme(&codes)?;
    let group = match scheme.weights().strategy {
        Strategy::Block(block) => block,
        Strategy::Channel => [1, columns.max(1)],
        _ => [rows.max(1), columns.max(1)],
    };
    let scale_name = format!("{}.{}", codes.module(), declared.scale_parameter());
    let scale = scales.remove(&scale_name).ok_or_else(|| format!("{name} is FP8 and has no {}", shown(&scale_name)))?;
    if !matches!(scale.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
        return Err(format!("{} is {}, not BF16, F16 or F32", shown(&scale.name), scale.dtype));
    }
    let outputs = scheme.outputs(Matrix { dtype, rows, columns }).map_err(|error| format!("{name}: {error}"))?;
    let scales_spec = outputs.into_iter().find(|spec| spec.role == TensorRole::Scale);
    let shape = scales_spec.map(|spec| spec.shape).unwrap_or_default();
    // A single scale, or one per row, is also written flat.
    let squeezed = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
    let is_flat =
        !matches!(scheme.weights().strategy, Strategy::Block(_)) && squeezed(&shape) == squeezed(&scale.shape);
    if shape != scale.shape && !is_flat {
        return Err(format!("{} has shape {:?}, and {name} needs {shape:?}", shown(&scale.name), scale.shape));
    }
    let Tensor { name: scale_name, dtype: scale_dtype, shard, offset, len, .. } = scale;
    let stored = ScaleTensor { name: scale_name, dtype: scale_dtype, shape, shard, offset, len };
    Ok(Tensor {
        dtype: dtype.into(),
        // The header's reader has proven that the codes are in the file; their numbers may be too many for a count of bytes.
        len: codes.len.checked_mul(dtype.bytes() as u64).ok_or_else(|| format!("{name} is too large"))?,
        view: View::Float8(Arc::new(Float8 { scale: stored, group, scheme })),
        ..codes
    })
}
