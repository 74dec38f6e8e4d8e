//! Division by one number over and over, without dividing where multiplying gives the same quotients.

use crate::Simd;
use crate::simd::Level;

/// A way to divide by a number.
pub(super) trait Quotient: Copy {
    /// The quotient, rounded to `f32` once; zero may lose its sign.
    fn of(self, dividend: f32) -> f32;
}

/// Divides.
#[derive(Clone, Copy)]
pub(super) struct Divided(pub(super) f32);

impl Quotient for Divided {
    #[inline(always)]
    fn of(self, dividend: f32) -> f32 {
        dividend / self.0
    }
}

/// Multiplies by the rounded reciprocal and corrects the product by what is left over.
///
/// The remainder of a product near the quotient is exact with a fused multiply-add, and so is all but the last rounding.
/// One correction leaves an error of less than `2^-45` before that rounding, too little to matter to quotients of
/// numbers with few bits (`short`). Any quotient is right after a second correction, since the first one brings it to one
/// of the two nearest numbers (Markstein, 1990).
#[derive(Clone, Copy)]
pub(super) struct Corrected {
    divisor: f32,
    reciprocal: f32,
    /// Whether one correction is enough.
    short: bool,
}

impl Corrected {
    /// `None` where dividing is the faster way, or the only right one.
    #[inline(always)]
    pub(super) fn by(divisor: f32, short: bool, simd: Simd) -> Option<Self> {
        (Self::is_faster(simd) && Self::is_right(divisor)).then(|| Self::new(divisor, 1.0 / divisor, short))
    }

    /// With the reciprocal rounded to the nearest number, for a divisor that [`Self::is_right`] for.
    #[inline(always)]
    pub(super) fn new(divisor: f32, reciprocal: f32, short: bool) -> Self {
        Self { divisor, reciprocal, short }
    }

    /// Whether there are fused multiply-adds.
    #[inline(always)]
    pub(super) fn is_faster(simd: Simd) -> bool {
        simd.level() != Level::Portable
    }

    /// Whether no remainder that matters is too small for `f32`.
    #[inline(always)]
    pub(super) fn is_right(divisor: f32) -> bool {
        (SMALLEST..=1.0).contains(&divisor)
    }

    #[inline(always)]
    fn correct(self, dividend: f32, quotient: f32) -> f32 {
        let remainder = (-quotient).mul_add(self.divisor, dividend);
        remainder.mul_add(self.reciprocal, quotient)
    }
}

/// `2^-64`. Under a divisor of at least this, whatever is too small for an exact remainder has a quotient below `2^-30`,
/// which is zero to every narrow dtype; under one of at most 1 no quotient is zero.
const SMALLEST: f32 = f32::from_bits((127 - 64) << 23);

impl Quotient for Corrected {
    #[inline(always)]
    fn of(self, dividend: f32) -> f32 {
        let quotient = self.correct(dividend, dividend * self.reciprocal);
        if self.short { quotient } else { self.correct(dividend, quotient) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the proof that the machine has fused multiply-adds: `mul_add` is exact without, only slower.
    fn corrected(divisor: f32, short: bool) -> Corrected {
        Corrected::new(divisor, 1.0 / divisor, short)
    }

    #[test]
    fn quotients_of_all_bf16_significands_are_right() {
        for divisor in (128..256).map(|s| f32::from_bits(s << 16 | 120 << 23)) {
            let corrected = corrected(divisor, true);
            for dividend in (0..128 * 40).map(|x| f32::from_bits(x << 16 | 90 << 23)) {
                assert_eq!(corrected.of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
                assert_eq!(corrected.of(-dividend), -dividend / divisor, "-{dividend:e} {divisor:e}");
            }
        }
    }

    #[test]
    fn quotients_of_any_numbers_are_right() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for _ in 0..2_000_000 {
            let divisor = f32::from_bits(random() & 0x007F_FFFF | 120 << 23);
            let dividend = f32::from_bits(random() & 0x007F_FFFF | (100 + random() % 40) << 23);
            assert_eq!(corrected(divisor, false).of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
            // The hardest are next to the middle between two numbers.
            let near = divisor * f32::from_bits(random() & 0x007F_FFFF | 127 << 23);
            for dividend in [near.next_down(), near, near.next_up()] {
                assert_eq!(corrected(divisor, false).of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
            }
        }
    }

    #[test]
    fn quotients_of_f16_are_right() {
        for divisor in (1..0x3C00u16).step_by(7).map(|bits| half::f16::from_bits(bits).to_f32()) {
            let corrected = corrected(divisor, true);
            for dividend in (0..0x7C00u16).step_by(5).map(|bits| half::f16::from_bits(bits).to_f32()) {
                assert_eq!(corrected.of(dividend), dividend / divisor, "{dividend:e} {divisor:e}");
            }
        }
    }
}
