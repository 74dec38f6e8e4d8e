//! Division by one number over and over, without dividing where multiplying gives the same integers.

use std::ops::RangeInclusive;

use super::signed::Signed;
use crate::Simd;
use crate::simd::InstructionSet;

/// A way to divide elements by a number, on the way to integers.
pub(super) trait Quotient: Copy {
    /// A number that lies [`Quotient::origin`] above one with the same nearest integer, ties to even, as the quotient plus
    /// `whole`, an integer of at most 8 bits.
    ///
    /// If `ROUNDED`, quotient and sum are first rounded to `E`, the dtype of the dividend. Without `whole` there is no sum.
    fn plus<E: Signed, const ROUNDED: bool>(self, dividend: f32, whole: Option<f32>) -> f32;

    /// An integer that the sums of all dividends contain.
    #[inline(always)]
    fn origin<const ROUNDED: bool>(self, _whole: Option<f32>) -> f32 {
        0.0
    }
}

/// Divides.
#[derive(Clone, Copy)]
pub(super) struct Divided(pub(super) f32);

impl Quotient for Divided {
    #[inline(always)]
    fn plus<E: Signed, const ROUNDED: bool>(self, dividend: f32, whole: Option<f32>) -> f32 {
        sum::<E, ROUNDED>(dividend / self.0, whole)
    }
}

/// Multiplies by the rounded reciprocal, where dividend and divisor have at most 11 significant bits ([`Signed::SHORT`]).
///
/// The product is off by some `2^-23` of itself, which changes no integer:
///
/// - Let the divisor be `s = S 2^e` with an integer `S < 2^11`, and the quotient be near `n + 1/2`. A dividend of at least
///   `s / 2` is a multiple of `2^(e-1)`, as `s (n + 1/2)` is, so that the quotient is `n + 1/2` or more than `2^-12` beside
///   it. A product that matters is below `2^8` and off by less than `2^-14`: rounded to multiples of `2^-13`, it is at the
///   tie if the quotient is, and else on the quotient's side of it.
/// - Let `S` and the numbers of a dtype have `p` bits. A middle between two of them has `p + 1` bits and is odd, so that
///   `S` times it has more bits than a dividend, and no quotient is a middle. It is more than `2^-(2p+1) >= 2^-23` of itself
///   beside it, and the two roundings of the product do not take it there. (Below the smallest normal number there are
///   other middles; all that is there has the nearest integer 0.)
#[derive(Clone, Copy)]
pub(super) struct Multiplied {
    reciprocal: f32,
    /// The instruction set has fused multiply-adds.
    fused: bool,
}

impl Multiplied {
    /// `None` where dividing is the only right way.
    #[inline(always)]
    pub(super) fn by<E: Signed>(divisor: f32, simd: Simd) -> Option<Self> {
        (E::SHORT && INVERTIBLE.contains(&divisor)).then(|| Self { reciprocal: 1.0 / divisor, fused: has_fused(simd) })
    }
}

/// Divisors that are normal numbers, and whose reciprocals are.
const INVERTIBLE: RangeInclusive<f32> = f32::MIN_POSITIVE..=1.0 / f32::MIN_POSITIVE;

/// `1.5 * 2^10`: next to this number `f32` steps by `2^-13`.
const GRID: f32 = 1536.0;

impl Quotient for Multiplied {
    #[inline(always)]
    fn plus<E: Signed, const ROUNDED: bool>(self, dividend: f32, whole: Option<f32>) -> f32 {
        if ROUNDED {
            let quotient = E::round_untied(dividend * self.reciprocal);
            return whole.map_or(quotient, |whole| E::round(quotient + whole));
        }
        product_plus(dividend, self.reciprocal, GRID, self.fused)
    }

    #[inline(always)]
    fn origin<const ROUNDED: bool>(self, whole: Option<f32>) -> f32 {
        if ROUNDED { 0.0 } else { GRID - whole.unwrap_or_default() }
    }
}

/// Multiplies by the rounded reciprocal and corrects the product twice by what is left over.
///
/// The remainder of a product near the quotient is exact with a fused multiply-add, and so is all but the last rounding.
/// The first correction brings the product to one of the two numbers nearest to the quotient, the second to the nearest
/// (Markstein, 1990).
#[derive(Clone, Copy)]
pub(super) struct Corrected {
    divisor: f32,
    reciprocal: f32,
}

impl Corrected {
    /// `None` where dividing is the faster way, or the only right one.
    #[inline(always)]
    pub(super) fn by(divisor: f32, simd: Simd) -> Option<Self> {
        (has_fused(simd) && CORRECTABLE.contains(&divisor)).then(|| Self { divisor, reciprocal: 1.0 / divisor })
    }

    /// The quotient, rounded to `f32` once; zero may lose its sign.
    #[inline(always)]
    fn of(self, dividend: f32) -> f32 {
        self.correct(dividend, self.correct(dividend, dividend * self.reciprocal))
    }

    #[inline(always)]
    fn correct(self, dividend: f32, quotient: f32) -> f32 {
        let remainder = (-quotient).mul_add(self.divisor, dividend);
        remainder.mul_add(self.reciprocal, quotient)
    }
}

/// Divisors that [`Corrected`] takes. From `2^-64`: whatever is too small for an exact remainder has a quotient below `2^-30` then, which has the nearest
/// integer 0. To 1: no quotient becomes zero.
const CORRECTABLE: RangeInclusive<f32> = f32::from_bits((127 - 64) << 23)..=1.0;

impl Quotient for Corrected {
    #[inline(always)]
    fn plus<E: Signed, const ROUNDED: bool>(self, dividend: f32, whole: Option<f32>) -> f32 {
        sum::<E, ROUNDED>(self.of(dividend), whole)
    }
}

#[inline(always)]
fn sum<E: Signed, const ROUNDED: bool>(quotient: f32, whole: Option<f32>) -> f32 {
    let quotient = if ROUNDED { E::round(quotient) } else { quotient };
    let Some(whole) = whole else { return quotient };
    if ROUNDED { E::round(quotient + whole) } else { quotient + whole }
}

/// A product plus a number, in one operation if `fused`, for where that makes no difference.
#[inline(always)]
pub(super) fn product_plus(factor: f32, other: f32, number: f32, fused: bool) -> f32 {
    // Asked of each caller: without the instruction, `mul_add` is a call of a library function for every element.
    if fused { factor.mul_add(other, number) } else { factor * other + number }
}

/// Returns whether the instruction set has fused multiply-adds: `mul_add` is exact without, only slower.
#[inline(always)]
pub(super) fn has_fused(simd: Simd) -> bool {
    simd.level() != InstructionSet::Portable
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::super::element::{Bf16, F16};
    use super::*;

    /// Holds products against quotients in all that is made of them.
    fn check<E: Signed>(dividend: f32, divisor: f32) {
        let divided = Divided(divisor);
        for fused in [false, true] {
            let multiplied = Multiplied { reciprocal: 1.0 / divisor, fused };
            for whole in [None, Some(-8.0), Some(127.0)] {
                let product = multiplied.plus::<E, false>(dividend, whole) - multiplied.origin::<false>(whole);
                let quotient = divided.plus::<E, false>(dividend, whole);
                assert_eq!(product.round_ties_even(), quotient.round_ties_even(), "{dividend:e} {divisor:e} {whole:?}");
                let [product, quotient] =
                    [multiplied.plus::<E, true>(dividend, whole), divided.plus::<E, true>(dividend, whole)];
                assert_eq!(product.round_ties_even(), quotient.round_ties_even(), "{dividend:e} {divisor:e} {whole:?}");
            }
            let (product, quotient) = (dividend * multiplied.reciprocal, dividend / divisor);
            if quotient.abs() >= E::SMALLEST_NORMAL {
                assert_eq!(E::round_untied(product), E::round(quotient), "{dividend:e} {divisor:e}");
            }
        }
    }

    #[test]
    fn products_of_all_bf16_significands_are_as_good_as_quotients() {
        for divisor in (128..256).map(|s| f32::from_bits(s << 16 | 120 << 23)) {
            for dividend in (128 * 110..128 * 129).map(|x| f32::from_bits(x << 16)) {
                check::<Bf16>(dividend, divisor);
                check::<Bf16>(-dividend, divisor);
            }
        }
    }

    #[test]
    fn products_of_f16_are_as_good_as_quotients() {
        // The smallest are subnormal; 127.5 times the divisor, and twice that, are the greatest dividends.
        for divisor in (1..0x0800).chain(0x1000..0x1400).step_by(3).map(|bits| f16::from_bits(bits).to_f32()) {
            let greatest = f16::from_f32(256.0 * divisor).to_bits();
            for dividend in (0..greatest).step_by(7).map(|bits| f16::from_bits(bits).to_f32()) {
                check::<F16>(dividend, divisor);
            }
            // Ties, and the numbers beside them.
            for tie in (0..256).map(|n| f16::from_f32((n as f32 + 0.5) * divisor).to_bits()) {
                for bits in tie.saturating_sub(1)..=tie + 1 {
                    check::<F16>(-f16::from_bits(bits).to_f32(), divisor);
                }
            }
        }
    }

    #[test]
    fn infinite_products_do_not_become_nan() {
        let multiplied = Multiplied { reciprocal: 1.0 / f32::MIN_POSITIVE, fused: true };
        assert_eq!(multiplied.plus::<Bf16, false>(f32::MAX, None), f32::INFINITY);
        assert_eq!(multiplied.plus::<Bf16, true>(f32::MIN, Some(1.0)), f32::NEG_INFINITY);
    }

    #[test]
    fn corrected_quotients_of_any_numbers_are_right() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for _ in 0..2_000_000 {
            let divisor = f32::from_bits(random() & 0x007F_FFFF | 120 << 23);
            let corrected = Corrected { divisor, reciprocal: 1.0 / divisor };
            let dividend = f32::from_bits(random() & 0x007F_FFFF | (100 + random() % 40) << 23);
            assert_eq!(corrected.of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
            // The hardest are next to the middle between two numbers.
            let near = divisor * f32::from_bits(random() & 0x007F_FFFF | 127 << 23);
            for dividend in [near.next_down(), near, near.next_up()] {
                assert_eq!(corrected.of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
            }
        }
    }
}
