//! The source dtypes as the kernels see them: bit patterns in, exact `f32` values out.

use crate::SourceDtype;

/// One source dtype; every method is small enough to be inlined into a vectorized loop.
pub(super) trait Element {
    /// The stored bytes of one element.
    type Raw: Copy;

    const DTYPE: SourceDtype;

    /// The bits without the sign: they order as the absolute values do, with infinity and NaN at the top. As a signed
    /// integer, since every instruction set has the maximum of signed words.
    type Magnitude: Copy + Ord + Default;

    /// The smallest magnitude that is not finite.
    const INFINITE: Self::Magnitude;

    /// The number of magnitudes between two powers of two.
    const MAGNITUDES_OF_AN_OCTAVE: usize;

    /// The bytes cut into elements.
    fn elements(bytes: &[u8]) -> &[Self::Raw];

    fn magnitude(raw: Self::Raw) -> Self::Magnitude;

    /// The bits of a magnitude.
    fn pattern(magnitude: Self::Magnitude) -> u32;

    /// The element of no sign with these bits of magnitude.
    fn positive(pattern: u32) -> Self::Raw;

    /// The value of a finite magnitude, exactly.
    fn widen(magnitude: Self::Magnitude) -> f32;

    /// The sign where E4M3 keeps it: `0x80` or `0`.
    fn sign(raw: Self::Raw) -> u8;

    /// The value of any element, infinity and NaN included.
    fn value(raw: Self::Raw) -> f32;

    /// Rounds a quotient in `0.0..=448.0` to this dtype, exactly down to `2^-14` and to something below `2^-13` under it.
    fn round_quotient(quotient: f32) -> f32;
}

pub(super) enum Bf16 {}
pub(super) enum F16 {}
pub(super) enum F32 {}

impl Element for Bf16 {
    type Raw = [u8; 2];
    type Magnitude = i16;
    const DTYPE: SourceDtype = SourceDtype::Bf16;
    const INFINITE: i16 = 0x7F80;
    const MAGNITUDES_OF_AN_OCTAVE: usize = 1 << 7;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn magnitude(raw: [u8; 2]) -> i16 {
        i16::from_le_bytes(raw) & 0x7FFF
    }

    #[inline(always)]
    fn pattern(magnitude: i16) -> u32 {
        magnitude as u32
    }

    #[inline(always)]
    fn positive(pattern: u32) -> [u8; 2] {
        (pattern as u16).to_le_bytes()
    }

    #[inline(always)]
    fn widen(magnitude: i16) -> f32 {
        f32::from_bits((magnitude as u32) << 16)
    }

    #[inline(always)]
    fn sign(raw: [u8; 2]) -> u8 {
        raw[1] & 0x80
    }

    fn value(raw: [u8; 2]) -> f32 {
        half::bf16::from_le_bytes(raw).to_f32()
    }

    #[inline(always)]
    fn round_quotient(quotient: f32) -> f32 {
        round_to_bits::<8>(quotient)
    }
}

impl Element for F16 {
    type Raw = [u8; 2];
    type Magnitude = i16;
    const DTYPE: SourceDtype = SourceDtype::F16;
    const INFINITE: i16 = 0x7C00;
    const MAGNITUDES_OF_AN_OCTAVE: usize = 1 << 10;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn magnitude(raw: [u8; 2]) -> i16 {
        i16::from_le_bytes(raw) & 0x7FFF
    }

    #[inline(always)]
    fn pattern(magnitude: i16) -> u32 {
        magnitude as u32
    }

    #[inline(always)]
    fn positive(pattern: u32) -> [u8; 2] {
        (pattern as u16).to_le_bytes()
    }

    #[inline(always)]
    fn widen(magnitude: i16) -> f32 {
        // The exponent moves into place with a bias that is 112 short; the multiplication is exact, subnormals included.
        f32::from_bits((magnitude as u32) << 13) * f32::from_bits((127 + 112) << 23)
    }

    #[inline(always)]
    fn sign(raw: [u8; 2]) -> u8 {
        raw[1] & 0x80
    }

    fn value(raw: [u8; 2]) -> f32 {
        half::f16::from_le_bytes(raw).to_f32()
    }

    #[inline(always)]
    fn round_quotient(quotient: f32) -> f32 {
        round_to_bits::<11>(quotient)
    }
}

impl Element for F32 {
    type Raw = [u8; 4];
    type Magnitude = i32;
    const DTYPE: SourceDtype = SourceDtype::F32;
    const INFINITE: i32 = 0x7F80_0000;
    const MAGNITUDES_OF_AN_OCTAVE: usize = 1 << 23;

    #[inline(always)]
    fn elements(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn magnitude(raw: [u8; 4]) -> i32 {
        i32::from_le_bytes(raw) & 0x7FFF_FFFF
    }

    #[inline(always)]
    fn pattern(magnitude: i32) -> u32 {
        magnitude as u32
    }

    #[inline(always)]
    fn positive(pattern: u32) -> [u8; 4] {
        pattern.to_le_bytes()
    }

    #[inline(always)]
    fn widen(magnitude: i32) -> f32 {
        f32::from_bits(magnitude as u32)
    }

    #[inline(always)]
    fn sign(raw: [u8; 4]) -> u8 {
        raw[3] & 0x80
    }

    fn value(raw: [u8; 4]) -> f32 {
        f32::from_le_bytes(raw)
    }

    #[inline(always)]
    fn round_quotient(quotient: f32) -> f32 {
        quotient
    }
}

/// Rounds to `BITS` significant bits, nearest even, for values of at least `2^-14`.
///
/// Adding a power of two that is `24 - BITS` binary places above the value leaves the adder to do the rounding. Values
/// below `2^-14` are rounded on the grid of that octave, which is also what F16 does with its subnormals.
#[inline(always)]
fn round_to_bits<const BITS: u32>(value: f32) -> f32 {
    let exponent = (value.to_bits() & 0x7F80_0000).max((127 - 14) << 23);
    let magic = f32::from_bits(exponent + ((24 - BITS) << 23));
    (value + magic) - magic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..F16::INFINITE {
            assert_eq!(F16::widen(bits), half::f16::from_bits(bits as u16).to_f32(), "{bits:#06x}");
        }
    }

    #[test]
    fn quotients_round_as_the_half_crate_does() {
        // Every 97th float of the range: all octaves, ties (the pattern below), and their neighbours.
        let strided = (0..=448f32.to_bits()).step_by(97);
        let ties = (0..=448f32.to_bits() >> 12).flat_map(|high| [0u32, 1, 0xFFF].map(|low| (high << 12) + low));
        for bits in strided.chain(ties).filter(|&bits| bits <= 448f32.to_bits()) {
            let value = f32::from_bits(bits);
            assert_eq!(F16::round_quotient(value), half::f16::from_f32(value).to_f32(), "{value:e}");
            let bf16 = half::bf16::from_f32(value).to_f32();
            if value >= 2f32.powi(-14) {
                assert_eq!(Bf16::round_quotient(value), bf16, "{value:e}");
            } else {
                assert!(Bf16::round_quotient(value) <= 2f32.powi(-13), "{value:e}");
            }
        }
    }
}
