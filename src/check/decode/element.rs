//! The floats of files: BF16, F16, F32 and F64, to and from F32.

use half::{bf16, f16};
use safetensors::Dtype;

/// The dtypes of scales that are floats as weights are.
pub(crate) const SCALE_FLOATS: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::F16];

/// Returns the bytes of an element; `None` for a dtype that [`widen`] does not read.
pub(crate) fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::BF16 | Dtype::F16 => Some(2),
        Dtype::F32 => Some(4),
        Dtype::F64 => Some(8),
        _ => None,
    }
}

/// Reads little-endian floats; F64 is rounded to F32. Elements of another dtype become NaN.
pub(crate) fn widen(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    out.resize(bytes.len() / width(dtype).unwrap_or(1), 0.0);
    widen_into(dtype, bytes, out);
}

/// Reads as many floats as `out` has room for, as [`widen`] does.
pub(crate) fn widen_into(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    fn each<const WIDTH: usize>(bytes: &[u8], out: &mut [f32], wide: impl Fn([u8; WIDTH]) -> f32) {
        for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<WIDTH>().0) {
            *out = wide(*raw);
        }
    }
    match dtype {
        Dtype::BF16 => each(bytes, out, |raw| f32::from_bits(u32::from(u16::from_le_bytes(raw)) << 16)),
        Dtype::F16 => each(bytes, out, |raw| f16::from_le_bytes(raw).to_f32()),
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::F64 => each(bytes, out, |raw| f64::from_le_bytes(raw) as f32),
        _ => out.fill(f32::NAN),
    }
}

/// Returns the power of two that an E8M0 byte stands for; byte 255 is NaN.
pub(crate) fn power_of_two(byte: u8) -> f32 {
    match byte {
        255 => f32::NAN,
        // 2^-127, which F32 holds as half of its smallest normal number.
        0 => f32::MIN_POSITIVE / 2.0,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// Rounds numbers to a dtype that [`widen`] reads and writes them as little-endian floats. Returns whether one of them is
/// another number then.
pub(crate) fn narrow(dtype: Dtype, numbers: &[f32], out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut changed = false;
    match dtype {
        Dtype::BF16 => out.extend(numbers.iter().flat_map(|&number| {
            let rounded = bf16::from_f32(number);
            changed |= rounded.to_f32() != number;
            rounded.to_le_bytes()
        })),
        Dtype::F16 => out.extend(numbers.iter().flat_map(|&number| {
            let rounded = f16::from_f32(number);
            changed |= rounded.to_f32() != number;
            rounded.to_le_bytes()
        })),
        Dtype::F64 => out.extend(numbers.iter().flat_map(|&number| f64::from(number).to_le_bytes())),
        _ => out.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
    }
    changed
}

/// Rounds to the nearest number of `dtype`, ties to even.
#[inline]
pub(crate) fn round(number: f32, dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => round_to_bf16(number),
        Dtype::F16 => f16::from_f32(number).to_f32(),
        _ => number,
    }
}

/// Rounds to the nearest number of BF16, ties to even.
//
// What `half` does, without its branch for numbers that are none, so that a loop over it becomes vector instructions.
#[inline(always)]
pub(crate) fn round_to_bf16(number: f32) -> f32 {
    let bits = number.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000);
    if number.is_nan() { number } else { rounded }
}

/// Returns the distance from 1 to the next number of `dtype`.
pub(crate) fn epsilon(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => bf16::EPSILON.to_f32(),
        Dtype::F16 => f16::EPSILON.to_f32(),
        _ => f32::EPSILON,
    }
}

/// Returns the smallest normal number of `dtype`.
pub(crate) fn smallest_normal(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => f16::MIN_POSITIVE.to_f32(),
        _ => f32::MIN_POSITIVE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_bf16_as_half_does() {
        for high in 0..=u32::from(u16::MAX) {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let number = f32::from_bits(high << 16 | low);
                let (ours, theirs) = (round_to_bf16(number), bf16::from_f32(number).to_f32());
                assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{number:e}");
            }
        }
    }
}
