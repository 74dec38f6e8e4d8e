//! What the elements of a group are divided by, under each code of a scale, and the code of least squared error.

use super::super::signed::Signed;
use super::super::thresholds::Thresholds;
use super::super::{e2m1, e4m3};
use crate::Simd;

/// Columns that share a scale.
pub(crate) const NVFP4_GROUP: usize = 16;

/// The finite E4M3 that have no sign.
const SCALES: usize = 127;

/// The scales that a search looks at, in parts of that of the absolute maximum: the range of llm-compressor's
/// `nvfp4_expanded_mse`.
const SEARCHED: std::ops::RangeInclusive<f32> = 0.8..=1.8;

/// The E4M3 code of 0.125.
pub(super) const EIGHTH: u8 = 0x20;

/// Rounds a scale to the code that is stored: a scale of zero is replaced by an eighth.
#[inline(always)]
pub(super) fn stored(exact: f32) -> u8 {
    let code = e4m3::encode(exact);
    if code == 0 { EIGHTH } else { code }
}

/// The divisor under each code of a scale.
pub(super) struct GroupDivisors<E: Signed>([GroupDivisor<E>; SCALES]);

/// The divisor of the elements of a group, as a number and as thresholds.
struct GroupDivisor<E: Signed> {
    divisor: f32,
    thresholds: Option<Thresholds<E>>,
}

impl<E: Signed> GroupDivisors<E> {
    /// Returns the divisors under a global scale.
    pub(super) fn under(global_scale: f32) -> Self {
        Self(std::array::from_fn(|code| {
            let divisor = e4m3::decode(code as u8) / global_scale;
            GroupDivisor { divisor, thresholds: Thresholds::of(divisor) }
        }))
    }

    /// Casts a group under the scale of this code.
    #[inline(always)]
    pub(super) fn encode(&self, scale: u8, group: &[E::Raw; NVFP4_GROUP], codes: &mut [u8; NVFP4_GROUP], simd: Simd) {
        let GroupDivisor { divisor, thresholds } = &self.0[usize::from(scale)];
        match thresholds {
            Some(thresholds) => thresholds.encode(group, codes, simd),
            None => {
                for (code, &raw) in codes.iter_mut().zip(group) {
                    *code = e2m1::encode(E::signed(raw) / divisor);
                }
            }
        }
    }

    /// Returns the code of the scale that leaves the least squared error, where `exact` is the scale of the absolute maximum
    /// before it is rounded: that scale, if none in the range of the search is better.
    #[inline(always)]
    pub(super) fn least_error(&self, exact: f32, group: &[E::Raw; NVFP4_GROUP], simd: Simd) -> u8 {
        let nearest = e4m3::encode(exact);
        let (mut first, mut last) = (nearest.max(1), nearest);
        // Codes are ordered as what they stand for, so that the range is a run of them, of a dozen at most.
        while first > 1 && e4m3::decode(first - 1) >= SEARCHED.start() * exact {
            first -= 1;
        }
        while usize::from(last) + 1 < SCALES && e4m3::decode(last + 1) <= SEARCHED.end() * exact {
            last += 1;
        }
        let mut best = stored(exact);
        let mut least = self.error(best, group, simd);
        for code in first..=last {
            let error = self.error(code, group, simd);
            if error < least {
                (best, least) = (code, error);
            }
        }
        best
    }

    /// Returns that of two codes of scales which leaves the lesser squared error; the first where both leave the same.
    #[inline(always)]
    pub(super) fn better(&self, first: u8, second: u8, group: &[E::Raw; NVFP4_GROUP], simd: Simd) -> u8 {
        if self.error(second, group, simd) < self.error(first, group, simd) { second } else { first }
    }

    /// Returns the sum of the squared differences between the elements and what their codes stand for.
    #[inline(always)]
    fn error(&self, scale: u8, group: &[E::Raw; NVFP4_GROUP], simd: Simd) -> f64 {
        // Cast and decoded again, which no threshold between two codes could be wrong about.
        let mut codes = [0; NVFP4_GROUP];
        self.encode(scale, group, &mut codes, simd);
        let divisor = f64::from(self.0[usize::from(scale)].divisor);
        // One step for all elements, and then the next one: a sum for which each element waits took three times as long.
        let mut squares = [0f64; NVFP4_GROUP];
        for lane in 0..NVFP4_GROUP {
            let difference = f64::from(E::signed(group[lane])) - f64::from(e2m1::decode(codes[lane])) * divisor;
            squares[lane] = difference * difference;
        }
        let mut half = NVFP4_GROUP / 2;
        while half > 0 {
            for lane in 0..half {
                squares[lane] += squares[lane + half];
            }
            half /= 2;
        }
        squares[0]
    }
}
