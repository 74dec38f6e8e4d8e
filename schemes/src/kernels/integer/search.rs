//! Quantization parameters of least error, among those of shrunken extremes.

use super::super::shrunken::{CANDIDATES, CandidateErrors, shrunken};
use super::super::signed::Signed;
use crate::Simd;

/// What a search asks of a cast to integers of a byte each.
pub(super) trait CandidateCast<E: Signed> {
    /// Returns scale and zero point between two extremes; without a least one they are symmetric.
    fn qparams(&self, least: Option<f32>, greatest: f32) -> (f32, f32);

    /// Casts finite elements under a scale and a zero point.
    fn cast(&self, elements: &[E::Raw], qparams: (f32, f32), codes: &mut [u8], simd: Simd);
}

/// The search for one group after the other.
pub(super) struct IntegerSearch<E: Signed> {
    errors: CandidateErrors<E>,
    /// The codes of a group under the candidate that is tried.
    codes: Vec<u8>,
}

impl<E: Signed> IntegerSearch<E> {
    /// Makes room for the codes of a group.
    pub(super) fn of(width: usize) -> Self {
        Self { errors: CandidateErrors::new(), codes: vec![0; width] }
    }

    /// Returns the quantization parameters of least error of a group with these extremes, the first of those that leave the
    /// same.
    #[inline(always)]
    pub(super) fn group(
        &mut self,
        elements: &[E::Raw],
        least: Option<f32>,
        greatest: f32,
        cast: &impl CandidateCast<E>,
        simd: Simd,
    ) -> (f32, f32) {
        let mut best = cast.qparams(least, greatest);
        let mut last = best;
        let mut least_error = self.error(elements, best, cast, simd);
        for candidate in 1..CANDIDATES {
            let least = least.map(|least| shrunken::<E>(least, candidate));
            let qparams = cast.qparams(least, shrunken::<E>(greatest, candidate));
            // Neighbours often round to the same scale, and what was tried is not tried again.
            if qparams == last {
                continue;
            }
            last = qparams;
            let error = self.error(elements, qparams, cast, simd);
            if error < least_error {
                (best, least_error) = (qparams, error);
            }
        }
        best
    }

    /// Returns the error of a group under a scale and a zero point.
    #[inline(always)]
    fn error(&mut self, elements: &[E::Raw], qparams: (f32, f32), cast: &impl CandidateCast<E>, simd: Simd) -> f64 {
        cast.cast(elements, qparams, &mut self.codes, simd);
        let (scale, zero) = qparams;
        let mut sum = 0.0;
        for (&raw, &code) in elements.iter().zip(&self.codes) {
            sum += self.errors.power(raw, f32::from(code as i8) - zero, scale);
        }
        self.errors.error(sum)
    }
}
