//! The source dtypes with their signs: ordered bit patterns, exact signed values, and rounding to a dtype.

use super::element::{Bf16, Element, F16, F32};

/// What schemes other than plain E4M3 need of a source dtype; inlined into vectorized loops, as [`Element`] is.
pub(super) trait Signed: Element {
    /// Bits of the significand that are stored.
    const SIGNIFICAND: u32;

    /// What the stored exponent of 1 is.
    const BIAS: i32;

    /// Whether a quotient of two values differs so much from the middle between any two `f32` that an error of some
    /// `2^-45` cannot carry it there.
    const SHORT: bool;

    /// The smallest normal value.
    const SMALLEST_NORMAL: f32;

    /// The E8M0 code of the smallest power of two.
    const LEAST_SCALE: i32;

    /// Half of the smallest value: all up to it round to zero.
    const VANISHING: f32;

    /// The value of a finite element, exactly, zero with its sign.
    fn signed(raw: Self::Raw) -> f32;

    /// Bits as an integer that orders as the values do; infinities and NaN are beyond `INFINITE` and its complement.
    fn ordered(raw: Self::Raw) -> Self::Magnitude;

    /// The magnitude of a negative value, given as `ordered` gives it.
    fn negated(ordered: Self::Magnitude) -> Self::Magnitude;

    /// A magnitude as an integer.
    fn integer(magnitude: Self::Magnitude) -> i32;

    /// The magnitude that `integer` gives this for.
    fn from_integer(integer: i32) -> Self::Magnitude;

    /// Rounds any number to this dtype, nearest even, with its subnormals and with infinity for what is too large.
    fn round(value: f32) -> f32;
}

impl Signed for Bf16 {
    const SIGNIFICAND: u32 = 7;
    const BIAS: i32 = 127;
    const SHORT: bool = true;
    const SMALLEST_NORMAL: f32 = f32::MIN_POSITIVE;
    const LEAST_SCALE: i32 = 0;
    const VANISHING: f32 = f32::from_bits(1 << 15);

    #[inline(always)]
    fn signed(raw: [u8; 2]) -> f32 {
        f32::from_bits((u16::from_le_bytes(raw) as u32) << 16)
    }

    #[inline(always)]
    fn ordered(raw: [u8; 2]) -> i16 {
        let bits = i16::from_le_bytes(raw);
        bits ^ (bits >> 15 & i16::MAX)
    }

    #[inline(always)]
    fn negated(ordered: i16) -> i16 {
        !ordered
    }

    #[inline(always)]
    fn integer(magnitude: i16) -> i32 {
        magnitude.into()
    }

    #[inline(always)]
    fn from_integer(integer: i32) -> i16 {
        integer as i16
    }

    #[inline(always)]
    fn round(value: f32) -> f32 {
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }
}

impl Signed for F16 {
    const SIGNIFICAND: u32 = 10;
    const BIAS: i32 = 15;
    const SHORT: bool = true;
    const SMALLEST_NORMAL: f32 = f32::from_bits((127 - 14) << 23);
    const LEAST_SCALE: i32 = 127 - 24;
    const VANISHING: f32 = f32::from_bits((127 - 25) << 23);

    #[inline(always)]
    fn signed(raw: [u8; 2]) -> f32 {
        let sign = (raw[1] as u32 & 0x80) << 24;
        f32::from_bits(Self::widen(Self::magnitude(raw)).to_bits() | sign)
    }

    #[inline(always)]
    fn ordered(raw: [u8; 2]) -> i16 {
        Bf16::ordered(raw)
    }

    #[inline(always)]
    fn negated(ordered: i16) -> i16 {
        !ordered
    }

    #[inline(always)]
    fn integer(magnitude: i16) -> i32 {
        magnitude.into()
    }

    #[inline(always)]
    fn from_integer(integer: i32) -> i16 {
        integer as i16
    }

    #[inline(always)]
    fn round(value: f32) -> f32 {
        // A number 13 binary places above the octave (or above that of the subnormals) leaves the rounding to the adder;
        // half as much again keeps the sum of either sign in one octave.
        let octave = (value.to_bits() & 0x7F80_0000).max((127 - 14) << 23);
        let magic = f32::from_bits(octave.wrapping_add(13 << 23) | 1 << 22);
        let rounded = (value + magic) - magic;
        let magnitude = if value.abs() < 65520.0 { rounded.to_bits() & 0x7FFF_FFFF } else { 0x7F80_0000 };
        f32::from_bits(magnitude | value.to_bits() & 0x8000_0000)
    }
}

impl Signed for F32 {
    const SIGNIFICAND: u32 = 23;
    const BIAS: i32 = 127;
    const SHORT: bool = false;
    const SMALLEST_NORMAL: f32 = f32::MIN_POSITIVE;
    const LEAST_SCALE: i32 = 0;
    const VANISHING: f32 = 0.0;

    #[inline(always)]
    fn signed(raw: [u8; 4]) -> f32 {
        f32::from_le_bytes(raw)
    }

    #[inline(always)]
    fn ordered(raw: [u8; 4]) -> i32 {
        let bits = i32::from_le_bytes(raw);
        bits ^ (bits >> 31 & i32::MAX)
    }

    #[inline(always)]
    fn negated(ordered: i32) -> i32 {
        !ordered
    }

    #[inline(always)]
    fn integer(magnitude: i32) -> i32 {
        magnitude
    }

    #[inline(always)]
    fn from_integer(integer: i32) -> i32 {
        integer
    }

    #[inline(always)]
    fn round(value: f32) -> f32 {
        value
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_element_has_its_value_and_its_place() {
        let (mut last_bf16, mut last_f16) = (None, None);
        // From the least to the greatest: negative ones fall with their bits.
        for bits in (0x8000..=0xFFFFu16).rev().chain(0..0x8000) {
            let raw = bits.to_le_bytes();
            if bf16::from_bits(bits).is_finite() {
                assert_eq!(Bf16::signed(raw).to_bits(), bf16::from_bits(bits).to_f32().to_bits());
                assert!(last_bf16.replace(Bf16::ordered(raw)).is_none_or(|last| last < Bf16::ordered(raw)));
            }
            if f16::from_bits(bits).is_finite() {
                assert_eq!(F16::signed(raw).to_bits(), f16::from_bits(bits).to_f32().to_bits());
                assert!(last_f16.replace(F16::ordered(raw)).is_none_or(|last| last < F16::ordered(raw)));
            }
        }
        assert_eq!(F16::negated(F16::ordered(f16::from_f32(-1.5).to_le_bytes())), F16::magnitude([0x00, 0x3E]));
        assert_eq!(F32::negated(F32::ordered((-1.5f32).to_le_bytes())), 1.5f32.to_bits() as i32);
    }

    #[test]
    fn numbers_round_as_the_half_crate_does() {
        // Every 97th float: all octaves, ties (the pattern below), and their neighbours.
        let strided = (0..0x7F80_0000u32).step_by(97);
        let ties = (0..0x7F80_0000u32 >> 12).flat_map(|high| [0u32, 1, 0xFFF].map(|low| (high << 12) + low));
        for bits in strided.chain(ties) {
            for value in [f32::from_bits(bits), -f32::from_bits(bits)] {
                assert_eq!(Bf16::round(value).to_bits(), bf16::from_f32(value).to_f32().to_bits(), "{value:e}");
                assert_eq!(F16::round(value).to_bits(), f16::from_f32(value).to_f32().to_bits(), "{value:e}");
            }
        }
        assert_eq!((Bf16::round(f32::INFINITY), F16::round(f32::NEG_INFINITY)), (f32::INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn what_vanishes_is_half_of_the_smallest_value() {
        assert_eq!((Bf16::round(Bf16::VANISHING), F16::round(F16::VANISHING)), (0.0, 0.0));
        assert!(Bf16::round(Bf16::VANISHING.next_up()) > 0.0 && F16::round(F16::VANISHING.next_up()) > 0.0);
        assert_eq!(F16::SMALLEST_NORMAL, f16::MIN_POSITIVE.to_f32());
    }
}
