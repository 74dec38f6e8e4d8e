//! The source dtypes with their signs: ordered bit patterns, exact signed values, and rounding to a dtype.

use super::element::{Bf16, Element, F16, F32};

/// A source dtype as schemes other than plain E4M3 need it; inlined into vectorized loops, as [`Element`] is.
pub(super) trait Signed: Element {
    /// Bits of the significand that are stored.
    const SIGNIFICAND: u32;

    /// The stored exponent of 1.
    const BIAS: i32;

    /// True if values have at most 11 significant bits, which [`Multiplied`](super::quotient::Multiplied) counts on.
    const SHORT: bool;

    /// The smallest normal value.
    const SMALLEST_NORMAL: f32;

    /// The E8M0 code of the smallest power of two.
    const LEAST_SCALE: i32;

    /// Half of the smallest value: all up to it round to zero.
    const VANISHING: f32;

    /// The value of a finite element, exactly, zero with its sign.
    fn signed(raw: Self::Raw) -> f32;

    /// The values of two finite elements beside each other, which is less work than one after the other.
    #[inline(always)]
    fn signed_pair(pair: [Self::Raw; 2]) -> [f32; 2] {
        pair.map(Self::signed)
    }

    /// The magnitude of a positive element; of a negative one a number below zero.
    fn above(raw: Self::Raw) -> Self::Magnitude;

    /// The magnitude of a negative element; of a positive one a number below zero.
    fn below(raw: Self::Raw) -> Self::Magnitude;

    /// A magnitude as an integer.
    fn integer(magnitude: Self::Magnitude) -> i32;

    /// The magnitude that `integer` gives this for.
    fn from_integer(integer: i32) -> Self::Magnitude;

    /// The bits of a number of this dtype without its sign, as [`Element::pattern`] has them.
    fn pattern_of(number: f32) -> u32;

    /// Rounds any number to this dtype, nearest even, with its subnormals and with infinity for what is too large.
    fn round(value: f32) -> f32;

    /// The same for a number that lies in the middle between no two of this dtype; what is below the smallest normal
    /// value stays more exact.
    #[inline(always)]
    fn round_untied(value: f32) -> f32 {
        let dropped = 23 - Self::SIGNIFICAND;
        f32::from_bits((value.to_bits() + (1 << dropped >> 1)) >> dropped << dropped)
    }
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
    fn signed_pair(pair: [[u8; 2]; 2]) -> [f32; 2] {
        let bits = word_of(pair);
        [bits << 16, bits & 0xFFFF_0000].map(f32::from_bits)
    }

    #[inline(always)]
    fn above(raw: [u8; 2]) -> i16 {
        i16::from_le_bytes(raw)
    }

    #[inline(always)]
    fn below(raw: [u8; 2]) -> i16 {
        i16::from_le_bytes(raw) ^ i16::MIN
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
    fn pattern_of(number: f32) -> u32 {
        number.to_bits() >> 16 & 0x7FFF
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
        Self::in_high_half((u16::from_le_bytes(raw) as u32) << 16)
    }

    #[inline(always)]
    fn signed_pair(pair: [[u8; 2]; 2]) -> [f32; 2] {
        let bits = word_of(pair);
        [bits << 16, bits].map(Self::in_high_half)
    }

    #[inline(always)]
    fn above(raw: [u8; 2]) -> i16 {
        Bf16::above(raw)
    }

    #[inline(always)]
    fn below(raw: [u8; 2]) -> i16 {
        Bf16::below(raw)
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
    fn pattern_of(number: f32) -> u32 {
        // The inverse of `widen`: infinity stays beyond all finite ones.
        (number.abs() * f32::from_bits((127 - 112) << 23)).to_bits() >> 13
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

impl F16 {
    /// The value of the element in the high half of `bits`.
    #[inline(always)]
    fn in_high_half(bits: u32) -> f32 {
        // The exponent moves into place with a bias that is 112 short; the multiplication is exact, subnormals included.
        f32::from_bits((bits as i32 >> 3) as u32 & 0x8FFF_E000) * f32::from_bits((127 + 112) << 23)
    }
}

/// Two elements as one word, the first in its low half.
#[inline(always)]
fn word_of([[a, b], [c, d]]: [[u8; 2]; 2]) -> u32 {
    u32::from_le_bytes([a, b, c, d])
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
    fn above(raw: [u8; 4]) -> i32 {
        i32::from_le_bytes(raw)
    }

    #[inline(always)]
    fn below(raw: [u8; 4]) -> i32 {
        i32::from_le_bytes(raw) ^ i32::MIN
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
    fn pattern_of(number: f32) -> u32 {
        number.to_bits() & 0x7FFF_FFFF
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
    fn every_element_widens_to_its_value() {
        for bits in 0..=u16::MAX {
            let (raw, other) = (bits.to_le_bytes(), (!bits).to_le_bytes());
            if bf16::from_bits(bits).is_finite() {
                let value = bf16::from_bits(bits).to_f32().to_bits();
                assert_eq!(Bf16::signed(raw).to_bits(), value);
                assert_eq!(Bf16::signed_pair([raw, other])[0].to_bits(), value);
                assert_eq!(Bf16::signed_pair([other, raw])[1].to_bits(), value);
            }
            if f16::from_bits(bits).is_finite() {
                let value = f16::from_bits(bits).to_f32().to_bits();
                assert_eq!(F16::signed(raw).to_bits(), value);
                assert_eq!(F16::signed_pair([raw, other])[0].to_bits(), value);
                assert_eq!(F16::signed_pair([other, raw])[1].to_bits(), value);
            }
        }
        assert_eq!(F32::signed_pair([1.5f32, -2.5].map(f32::to_le_bytes)), [1.5, -2.5]);
    }

    #[test]
    fn an_element_lies_above_or_below_zero() {
        for bits in 0..=i16::MAX {
            let [positive, negative] = [bits, bits | i16::MIN].map(i16::to_le_bytes);
            assert_eq!((Bf16::above(positive), Bf16::below(negative)), (bits, bits));
            assert!(Bf16::above(negative) < 0 && Bf16::below(positive) < 0);
        }
        let [positive, negative] = [1.5f32, -1.5].map(f32::to_le_bytes);
        assert_eq!([F32::above(positive), F32::below(negative)], [F32::magnitude(positive); 2]);
        assert!(F32::above(negative) < 0 && F32::below(positive) < 0);
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
                if bits & 0xFFFF != 0x8000 {
                    assert_eq!(Bf16::round_untied(value).to_bits(), Bf16::round(value).to_bits(), "{value:e}");
                }
                if bits & 0x1FFF != 0x1000 && (F16::SMALLEST_NORMAL..65520.0).contains(&value.abs()) {
                    assert_eq!(F16::round_untied(value).to_bits(), F16::round(value).to_bits(), "{value:e}");
                }
            }
        }
        assert_eq!((Bf16::round(f32::INFINITY), F16::round(f32::NEG_INFINITY)), (f32::INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn the_bits_of_a_number_are_those_that_widen() {
        for bits in 0..=i16::MAX {
            if bits < Bf16::INFINITE {
                assert_eq!(Bf16::pattern_of(-Bf16::widen(bits)), bits as u32);
            }
            if bits < F16::INFINITE {
                assert_eq!(F16::pattern_of(-F16::widen(bits)), bits as u32);
            }
        }
        assert!(F16::pattern_of(f32::INFINITY) >= F16::INFINITE as u32);
        assert_eq!(F32::pattern_of(-1.5), 1.5f32.to_bits());
    }

    #[test]
    fn values_up_to_half_of_the_smallest_round_to_zero() {
        assert_eq!((Bf16::round(Bf16::VANISHING), F16::round(F16::VANISHING)), (0.0, 0.0));
        assert!(Bf16::round(Bf16::VANISHING.next_up()) > 0.0 && F16::round(F16::VANISHING.next_up()) > 0.0);
        assert_eq!(F16::SMALLEST_NORMAL, f16::MIN_POSITIVE.to_f32());
    }
}
