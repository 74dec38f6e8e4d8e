//! The values of the scales among the tensors of an output.

use qwen_fp8_schemes::{TensorSpec, scale_values};
use safetensors::Dtype;

/// Returns the number of scales in these bytes of an output that are NaN or infinite; zero if it holds no scales.
pub(super) fn non_finite_scales(spec: &TensorSpec, bytes: &[u8]) -> u64 {
    if !spec.role.is_scale() {
        return 0;
    }
    values(spec.dtype, bytes).filter(|value| !value.is_finite()).count() as u64
}

/// Returns the first scale in these bytes of an output that is NaN or infinite.
pub(super) fn first_infinite(spec: &TensorSpec, bytes: &[u8]) -> Option<usize> {
    if !spec.role.is_scale() {
        return None;
    }
    values(spec.dtype, bytes).position(|value| !value.is_finite())
}

/// Returns the values of a scale tensor of a float dtype; nothing for any other dtype, such as the exponents of E8M0.
pub(super) fn values(dtype: Dtype, bytes: &[u8]) -> impl Iterator<Item = f32> + use<> {
    let mut values = Vec::new();
    if matches!(dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
        scale_values(dtype, bytes, None, &mut values);
    }
    values.into_iter()
}
