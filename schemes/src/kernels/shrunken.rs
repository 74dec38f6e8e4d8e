//! The search of llm-compressor 0.14's `memoryless_mse`, for one group after the other.
//!
//! It shrinks the extremes of a group in steps of a hundredth, down to 0.81 times what they are, makes the scale of each
//! pair, and keeps the one of least error. An error is the sum of the powers of 2.4 of all differences, and every step on the
//! way to it is rounded to the dtype of the weight, as PyTorch on a CPU does: differences, powers, the sum, and 2.4 itself. So
//! two candidates are often equally good, and the first of them is taken. That is all repeated here, down to the last bit for
//! BF16 and F16; of F32, sums are more exact here.
//!
//! There the search also ends where five steps in a row improve no group of the whole weight, which is not repeated: a
//! weight would have to be read as a whole, and only one of few groups has no group that improves.

use std::marker::PhantomData;
use std::sync::LazyLock;

use super::element::{Bf16, F16};
use super::signed::Signed;
use crate::SourceDtype;

/// The number of candidates; the first are the extremes as they are.
pub(super) const CANDIDATES: u8 = 20;

/// Returns an extreme as the candidate of this number has it.
#[inline(always)]
pub(super) fn shrunken<E: Signed>(extreme: f32, candidate: u8) -> f32 {
    E::round(extreme * (1.0 - f64::from(candidate) / 100.0) as f32)
}

/// The exponent of a difference.
const EXPONENT: f32 = 2.4;

/// The powers of the magnitudes of a dtype, by their bits.
type Powers = LazyLock<Vec<f32>>;

/// Of 2^15 numbers and infinity: looking up takes a tenth of what a power takes.
static BF16_POWERS: Powers = LazyLock::new(powers::<Bf16>);
static F16_POWERS: Powers = LazyLock::new(powers::<F16>);

fn powers<E: Signed>() -> Vec<f32> {
    let exponent = f64::from(E::round(EXPONENT));
    let finite = 0..E::integer(E::INFINITE);
    let values = finite.map(|bits| f64::from(E::widen(E::from_integer(bits))));
    values.map(|value| E::round(value.powf(exponent) as f32)).chain([f32::INFINITY]).collect()
}

/// The errors of candidates for elements of one dtype.
pub(super) struct CandidateErrors<E> {
    /// `None` for F32, which has too many magnitudes.
    powers: Option<&'static [f32]>,
    source: PhantomData<E>,
}

impl<E: Signed> CandidateErrors<E> {
    pub(super) fn new() -> Self {
        let powers: Option<&'static [f32]> = match E::DTYPE {
            SourceDtype::Bf16 => Some(&BF16_POWERS),
            SourceDtype::F16 => Some(&F16_POWERS),
            SourceDtype::F32 => None,
        };
        Self { powers, source: PhantomData }
    }

    /// Returns the power of the difference between an element and what its code stands for: `number`, a code less the zero
    /// point, times the scale.
    #[inline(always)]
    pub(super) fn power(&self, raw: E::Raw, number: f32, scale: f32) -> f64 {
        let difference = E::round(E::round(number * scale) - E::signed(raw));
        match self.powers {
            Some(powers) => powers[(E::pattern_of(difference) as usize).min(powers.len() - 1)].into(),
            None => f64::from(difference.abs()).powf(EXPONENT.into()),
        }
    }

    /// Returns the error that a sum of powers is.
    #[inline(always)]
    pub(super) fn error(&self, sum: f64) -> f64 {
        match self.powers {
            Some(_) => E::round(sum as f32).into(),
            None => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::F32;
    use super::*;

    #[test]
    fn extremes_shrink_to_four_fifths() {
        assert_eq!([0, 10, 19].map(|candidate| shrunken::<F32>(2.0, candidate)), [2.0, 1.8, 1.62]);
        assert_eq!(shrunken::<Bf16>(-2.0, 1), -1.976_562_5);
    }

    #[test]
    fn powers_are_rounded_as_the_dtype_is() {
        // The exponent is 2.40625 in BF16 and 2.400390625 in F16.
        let bf16 = CandidateErrors::<Bf16>::new();
        assert_eq!(bf16.power(half::bf16::from_f32(-1.0).to_le_bytes(), 2.0, 0.5), 5.3125);
        let f16 = CandidateErrors::<F16>::new();
        assert_eq!(f16.power(half::f16::from_f32(-1.0).to_le_bytes(), 2.0, 0.5), 5.281_25);
        // What F16 cannot hold is nothing.
        assert_eq!(f16.power(half::f16::from_f32(0.0005).to_le_bytes(), 0.0, 1.0), 0.0);
        assert_eq!(f16.power(half::f16::from_f32(60000.0).to_le_bytes(), -60000.0, 1.0), f64::INFINITY);
        let f32 = CandidateErrors::<F32>::new();
        assert!((f32.power((-1f32).to_le_bytes(), 2.0, 0.5) - 5.278_031_643).abs() < 1e-6);
        assert_eq!((bf16.error(1.003), f32.error(1.003)), (1.0, 1.003));
    }
}
