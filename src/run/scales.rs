//! The scales among the tensors of an output: which they are, their values, and whether those are finite.

use half::{bf16, f16};
use qwen_fp8_schemes::TensorSpec;
use safetensors::Dtype;

/// How many of the scales in these bytes of an output are NaN or infinite.
pub(super) fn non_finite_scales(spec: &TensorSpec, bytes: &[u8]) -> u64 {
    if !spec.role.is_scale() {
        return 0;
    }
    values(spec.dtype, bytes).filter(|value| !value.is_finite()).count() as u64
}

/// The first element of these bytes of an output that is a scale and no finite number.
pub(super) fn first_infinite(spec: &TensorSpec, bytes: &[u8]) -> Option<usize> {
    if !spec.role.is_scale() {
        return None;
    }
    values(spec.dtype, bytes).position(|value| !value.is_finite())
}

/// The values of a scale tensor; none of a dtype that is no number of its own, such as E8M0's exponents.
pub(super) fn values(dtype: Dtype, bytes: &[u8]) -> Box<dyn Iterator<Item = f32> + '_> {
    match dtype {
        Dtype::F32 => {
            Box::new(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])))
        }
        Dtype::BF16 => Box::new(bytes.chunks_exact(2).map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32())),
        Dtype::F16 => Box::new(bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32())),
        _ => Box::new(std::iter::empty()),
    }
}
