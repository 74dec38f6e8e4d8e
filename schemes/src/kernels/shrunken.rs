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

/// The powers of the magnitudes of a dtype, by their bits: infinity for those that are not finite.
type Powers = LazyLock<Box<[f32; MAGNITUDES]>>;

/// The number of magnitudes of a dtype of two bytes.
const MAGNITUDES: usize = 1 << 15;

/// Looking up takes a tenth of what a power takes.
static BF16_POWERS: Powers = LazyLock::new(powers::<Bf16>);
static F16_POWERS: Powers = LazyLock::new(powers::<F16>);

fn powers<E: Signed>() -> Box<[f32; MAGNITUDES]> {
    let exponent = f64::from(E::round(EXPONENT));
    let mut powers = Box::new([f32::INFINITY; MAGNITUDES]);
    for (bits, power) in (0..E::integer(E::INFINITE)).zip(&mut powers[..]) {
        let value = f64::from(E::widen(E::from_integer(bits)));
        *power = E::round(value.powf(exponent) as f32);
    }
    powers
}

/// The elements whose differences are computed before their powers are added up. Between them a candidate is given up that
/// is no longer the best.
const STRETCH: usize = 64;

/// The sums that grow side by side, of every fourth element each: one alone would wait for each addition. Their number is the
/// same for every instruction set, and so are the bits of a sum.
const SUMS: usize = 4;

/// The errors of candidates for elements of one dtype.
pub(super) struct CandidateErrors<E> {
    /// `None` for F32, which has too many magnitudes.
    powers: Option<&'static [f32; MAGNITUDES]>,
    source: PhantomData<E>,
}

impl<E: Signed> CandidateErrors<E> {
    pub(super) fn new() -> Self {
        let powers: Option<&'static [f32; MAGNITUDES]> = match E::DTYPE {
            SourceDtype::Bf16 => Some(&BF16_POWERS),
            SourceDtype::F16 => Some(&F16_POWERS),
            SourceDtype::F32 => None,
        };
        Self { powers, source: PhantomData }
    }

    /// Returns the error that the next candidate has to be below, where the first one leaves `error`: the observer begins with
    /// the largest number of the dtype, so that an error of that size is never less.
    #[inline(always)]
    pub(super) fn bound_after_first(error: f64) -> f64 {
        // Patterns of magnitudes are in the order of their numbers: the largest one is just below infinity.
        error.min(E::widen(E::from_integer(E::integer(E::INFINITE) - 1)).into())
    }

    /// Returns the error of elements under a scale, or some number of at least `bound` where the error is not below that.
    ///
    /// `number` is what the code of an element stands for before it is multiplied by the scale.
    #[inline(always)]
    pub(super) fn error(&self, elements: &[E::Raw], scale: f32, bound: f64, number: impl Fn(f32) -> f32) -> f64 {
        let mut patterns = [0; STRETCH];
        let mut sums = [0.0; SUMS];
        let mut error = 0.0;
        for stretch in elements.chunks(STRETCH) {
            let patterns = &mut patterns[..stretch.len()];
            for (pattern, &raw) in patterns.iter_mut().zip(stretch) {
                let element = E::signed(raw);
                *pattern = E::pattern_of(E::round(E::round(number(element) * scale) - element));
            }
            match self.powers {
                Some(powers) => {
                    add(&mut sums, patterns, |pattern| powers[(pattern as usize).min(MAGNITUDES - 1)].into())
                }
                None => add(&mut sums, patterns, |pattern| power(f32::from_bits(pattern).into())),
            }
            let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
            error = if self.powers.is_some() { E::round(sum as f32).into() } else { sum };
            // No power is negative, and so the error only grows.
            if error >= bound {
                break;
            }
        }
        error
    }
}

/// Adds the power of each difference to one of the sums.
#[inline(always)]
fn add(sums: &mut [f64; SUMS], patterns: &[u32], power: impl Fn(u32) -> f64) {
    let (fours, rest) = patterns.as_chunks::<SUMS>();
    for four in fours {
        for lane in 0..SUMS {
            sums[lane] += power(four[lane]);
        }
    }
    for (sum, &pattern) in sums.iter_mut().zip(rest) {
        *sum += power(pattern);
    }
}

/// Returns the power of 2.4 of a number: its square times that of its fifth root.
///
/// Nothing but multiplications and subtractions, which every machine rounds alike, and many at a time: powers of libraries
/// differ in their last bits.
#[inline(always)]
fn power(value: f64) -> f64 {
    // The reciprocal of the fifth root. Bits are about a logarithm, and those of the guess a fifth of it below those of 1: it is
    // wrong by up to 4 %, and each step of Newton's method squares the error.
    let mut root = f64::from_bits(0x4CB8_A7F0_0000_0000 - (value.to_bits() >> 32) * (u32::MAX / 5) as u64);
    for _ in 0..4 {
        let squared = root * root;
        root *= 1.2 - 0.2 * value * (squared * squared * root);
    }
    let squared = root * root;
    let fifth_root = value * (squared * squared);
    let product = value * value * (fifth_root * fifth_root);
    // Nothing, infinity and NaN are their own power.
    if value > 0.0 && value < f64::INFINITY { product } else { value }
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

    /// The error of one element under a scale.
    fn error<E: Signed>(raw: E::Raw, number: f32, scale: f32) -> f64 {
        CandidateErrors::<E>::new().error(&[raw], scale, f64::INFINITY, |_| number)
    }

    #[test]
    fn powers_are_rounded_as_the_dtype_is() {
        // The exponent is 2.40625 in BF16 and 2.400390625 in F16.
        assert_eq!(error::<Bf16>(half::bf16::from_f32(-1.0).to_le_bytes(), 2.0, 0.5), 5.3125);
        assert_eq!(error::<F16>(half::f16::from_f32(-1.0).to_le_bytes(), 2.0, 0.5), 5.281_25);
        // What F16 cannot hold is nothing.
        assert_eq!(error::<F16>(half::f16::from_f32(0.0005).to_le_bytes(), 0.0, 1.0), 0.0);
        assert_eq!(error::<F16>(half::f16::from_f32(60000.0).to_le_bytes(), -60000.0, 1.0), f64::INFINITY);
        assert!((error::<F32>((-1f32).to_le_bytes(), 2.0, 0.5) - 5.278_031_643).abs() < 1e-6);
    }

    #[test]
    fn sums_are_rounded_as_the_dtype_is() {
        let ones = [1.0f32; 257].map(|one| half::bf16::from_f32(one).to_le_bytes());
        assert_eq!(CandidateErrors::<Bf16>::new().error(&ones, 1.0, f64::INFINITY, |_| 0.0), 256.0);
        let ones = [1.0f32; 257].map(f32::to_le_bytes);
        assert_eq!(CandidateErrors::<F32>::new().error(&ones, 1.0, f64::INFINITY, |_| 0.0), 257.0);
    }

    #[test]
    fn an_error_as_large_as_the_largest_number_is_not_less_than_infinity() {
        assert_eq!(CandidateErrors::<Bf16>::bound_after_first(f64::INFINITY), half::bf16::MAX.to_f64());
        assert_eq!(CandidateErrors::<F16>::bound_after_first(f64::INFINITY), 65504.0);
        assert_eq!(CandidateErrors::<F32>::bound_after_first(f64::INFINITY), f64::from(f32::MAX));
        assert_eq!(CandidateErrors::<F32>::bound_after_first(0.5), 0.5);
    }

    #[test]
    fn what_is_not_below_a_bound_is_given_up_and_stays_at_it_or_above() {
        let raw: Vec<[u8; 4]> = (0..1000u16).map(|at| f32::from(at % 7).to_le_bytes()).collect();
        let errors = CandidateErrors::<F32>::new();
        let whole = errors.error(&raw, 1.0, f64::INFINITY, |_| 0.0);
        assert_eq!(errors.error(&raw, 1.0, whole.next_up(), |_| 0.0), whole);
        for part in [0.0, 0.1, 0.5, 0.9] {
            let given_up = errors.error(&raw, 1.0, whole * part, |_| 0.0);
            assert!((whole * part..whole).contains(&given_up), "{given_up} of {whole}");
        }
    }

    #[test]
    fn a_power_is_that_of_the_library_but_for_the_last_bits() {
        for bits in (1..0x7F80_0000u32).step_by(9973) {
            let value = f64::from(f32::from_bits(bits));
            let expected = value.powf(2.4);
            assert!((power(value) / expected - 1.0).abs() < 3e-14, "{value}");
        }
        assert_eq!((power(0.0), power(f64::INFINITY)), (0.0, f64::INFINITY));
        assert!(power(f64::NAN).is_nan());
    }
}
