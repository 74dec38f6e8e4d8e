//! Scales: made of absolute maxima, rounded to their dtype, stored.

use half::{bf16, f16};

use crate::SourceDtype;

/// The choice of the scale of each channel or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleChoice {
    /// The absolute maximum becomes the largest number.
    Absmax,
    /// The one of several that leaves the least squared error.
    LeastError,
    /// The least power of two under which nothing is clamped.
    PowerOfTwo,
}

/// The scale that takes the absolute maximum `amax` of a group to `largest`, rounded to `dtype`.
///
/// A quotient that rounds to zero (all weights zero, or nearly) is replaced by the machine epsilon of `dtype`, as
/// compressed-tensors does.
pub(super) fn scale(amax: f32, largest: f32, dtype: SourceDtype) -> f32 {
    let exact = amax / largest;
    let rounded = match dtype {
        SourceDtype::Bf16 => bf16::from_f32(exact).to_f32(),
        SourceDtype::F16 => f16::from_f32(exact).to_f32(),
        SourceDtype::F32 => exact,
    };
    if rounded == 0.0 { epsilon(dtype) } else { rounded }
}

/// Whether a positive scale, and each that is larger, is a normal number of `dtype`.
pub(super) fn is_normal(scale: f32, dtype: SourceDtype) -> bool {
    let smallest = match dtype {
        SourceDtype::Bf16 => bf16::MIN_POSITIVE.to_f32(),
        SourceDtype::F16 => f16::MIN_POSITIVE.to_f32(),
        SourceDtype::F32 => f32::MIN_POSITIVE,
    };
    scale >= smallest
}

/// Returns the number that stands in for a scale of zero.
pub(super) fn epsilon(dtype: SourceDtype) -> f32 {
    match dtype {
        SourceDtype::Bf16 => bf16::EPSILON.to_f32(),
        SourceDtype::F16 => f16::EPSILON.to_f32(),
        SourceDtype::F32 => f32::EPSILON,
    }
}

/// Writes a scale that [`scale`] made as one little-endian `dtype`.
#[inline(always)]
pub(super) fn store(scale: f32, dtype: SourceDtype, out: &mut [u8]) {
    match dtype {
        SourceDtype::Bf16 => out.copy_from_slice(&bf16::from_f32(scale).to_le_bytes()),
        SourceDtype::F16 => out.copy_from_slice(&f16::from_f32(scale).to_le_bytes()),
        SourceDtype::F32 => out.copy_from_slice(&scale.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_of_zero_is_the_epsilon_of_its_dtype() {
        assert_eq!(scale(0.0, 448.0, SourceDtype::Bf16), 2f32.powi(-7));
        assert_eq!(scale(0.0, 448.0, SourceDtype::F16), 2f32.powi(-10));
        assert_eq!(scale(0.0, 448.0, SourceDtype::F32), 2f32.powi(-23));
        // 448 * 2^-25 is the tie that still rounds to zero in F16; the next float is not.
        let tie = 448.0 * 2f32.powi(-25);
        assert_eq!(scale(tie, 448.0, SourceDtype::F16), 2f32.powi(-10));
        assert_eq!(scale(tie.next_up(), 448.0, SourceDtype::F16), 2f32.powi(-24));
    }

    #[test]
    fn a_scale_is_rounded_to_the_dtype_it_is_stored_in() {
        assert_eq!(scale(1.0, 448.0, SourceDtype::F32), 1.0 / 448.0);
        assert_eq!(scale(1.0, 448.0, SourceDtype::Bf16).to_bits(), 0x3B12_0000);
        assert_eq!(scale(f32::MAX, 448.0, SourceDtype::Bf16), bf16::from_f32(f32::MAX / 448.0).to_f32());
        let mut bytes = [0; 2];
        store(scale(1.0, 448.0, SourceDtype::Bf16), SourceDtype::Bf16, &mut bytes);
        assert_eq!(bytes, [0x12, 0x3B]);
    }
}
