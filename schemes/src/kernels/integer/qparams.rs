//! The form of a cast to integers, and the quantization parameters that lie between two extremes.

use crate::kernels::signed::Signed;

/// The arithmetic of a cast to integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntegerCast {
    /// Bits of a code, from 2 to 8.
    pub(crate) bits: u32,
    /// Rounds the quotient to the source dtype before it is rounded to an integer.
    pub(crate) round_quotient: bool,
    /// Packs the integers, each raised by half of their range; otherwise each has a byte.
    pub(crate) packed: bool,
    /// Groups of a row; a tensor whose maximum comes with the band is one.
    pub(crate) groups: usize,
    /// Columns of a group.
    pub(crate) width: usize,
    /// Looks for the quantization parameters of least error among those of shrunken extremes.
    pub(crate) search: bool,
}

impl IntegerCast {
    /// Returns the divisor of the absolute maximum: half of the range, which is the mean of the largest integer and the
    /// magnitude of the least.
    pub(super) fn symmetric_range(self) -> f32 {
        self.range() / 2.0
    }

    pub(super) fn range(self) -> f32 {
        ((1 << self.bits) - 1) as f32
    }

    /// Returns whether both codes of every packed pair belong to one group.
    pub(super) fn pairs(self) -> bool {
        self.groups == 1 || self.width.is_multiple_of(2)
    }

    pub(super) fn half(self) -> u8 {
        1 << (self.bits - 1)
    }

    pub(super) fn least(self) -> f32 {
        -f32::from(self.half())
    }

    pub(super) fn largest(self) -> f32 {
        f32::from(self.half() - 1)
    }
}

/// Returns the scale of a group up to the magnitude `greatest`.
#[inline(always)]
pub(super) fn symmetric<E: Signed>(greatest: f32, cast: IntegerCast, epsilon: f32) -> f32 {
    // As `scale::scale`, but with a rounding that is vectorized: calling that one cost 8 % of W7A16.
    let rounded = E::round(greatest / cast.symmetric_range());
    if rounded == 0.0 { epsilon } else { rounded }
}

/// Returns scale and zero point of a group between `least`, which is not positive, and `greatest`, which is not negative.
///
/// Every operation is rounded to the dtype of the weight. A difference beyond that dtype gives an infinite scale, as in
/// compressed-tensors.
#[inline(always)]
pub(super) fn shifted<E: Signed>(least: f32, greatest: f32, cast: IntegerCast, epsilon: f32) -> (f32, f32) {
    let scale = E::round(E::round(greatest - least) / cast.range());
    // The zero point is that of the scale before the epsilon stands in for it, and of nothing divided by nothing it is 0.
    let zero = E::round(cast.least() - E::round(least / scale));
    let zero = if zero > cast.least() { zero } else { cast.least() };
    let zero = if zero < cast.largest() { zero } else { cast.largest() };
    let zero = if scale == 0.0 && least == 0.0 { 0.0 } else { zero };
    (if scale == 0.0 { epsilon } else { scale }, zero.round_ties_even())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceDtype;
    use crate::kernels::element::{F16, F32};
    use crate::kernels::scale;

    const CAST: IntegerCast =
        IntegerCast { bits: 4, round_quotient: false, packed: false, groups: 1, width: 4, search: false };

    #[test]
    fn a_group_lies_between_its_extremes() {
        assert_eq!(shifted::<F32>(-1.0, 2.0, CAST, f32::EPSILON), (0.2, -3.0));
        // Of one sign, the range begins at zero.
        assert_eq!(shifted::<F32>(0.0, 3.0, CAST, f32::EPSILON), (0.2, -8.0));
        assert_eq!(shifted::<F32>(0.0, 0.0, CAST, f32::EPSILON), (f32::EPSILON, 0.0));
        // Too small for a scale, and still below zero.
        let epsilon = scale::epsilon(SourceDtype::F16);
        assert_eq!(shifted::<F16>(-f32::from_bits((127 - 24) << 23), 0.0, CAST, epsilon), (2f32.powi(-10), 7.0));
    }
}
