//! Q401 for the scales of a KV cache, which belong to no weight.

use crate::decode::{SCALE_FLOATS, Shards, widen};
use crate::report::Finding;
use crate::rules::q4_values::SCALE_VALUE;
use qwen_fp8_checkpoint::models::is_scale_of_cache;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// Bytes of a scale for each of more heads than any model has.
const LARGEST: u64 = 1 << 16;

/// Reports whether a tensor of a quantized checkpoint is a scale of its keys or values.
//
// Models without quantization call other parameters so.
pub(crate) fn is_cache_scale(checkpoint: &Checkpoint, tensor: &Tensor) -> bool {
    checkpoint.quantized.is_some()
        && is_scale_of_cache(tensor.parameter())
        && SCALE_FLOATS.contains(&tensor.dtype)
        && tensor.len <= LARGEST
}

/// Checks that each is positive and finite.
///
/// # Errors
/// One cannot be read.
pub(crate) fn check(checkpoint: &Checkpoint, shards: &Shards, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for tensor in checkpoint.tensors.iter().filter(|tensor| is_cache_scale(checkpoint, tensor)) {
        shards.read(tensor, 0, tensor.len as usize, &mut bytes)?;
        widen(tensor.dtype, &bytes, &mut values);
        // vLLM 0.33 takes scales below zero for missing ones, and works with 1.
        if let Some(scale) = values.iter().find(|scale| !scale.is_finite() || **scale <= 0.0) {
            let message = format!("{} is {scale:e}, and a scale is positive and finite", shown(&tensor.name));
            findings.push(Finding::new(&SCALE_VALUE, message).tensor(&tensor.name));
        }
    }
    Ok(())
}
