//! Quantization parameters of least error, among those of shrunken extremes.

use super::super::scale;
use super::super::shrunken::{CANDIDATES, CandidateErrors, shrunken};
use super::super::signed::Signed;
use super::{CodeForm, Groups, IntegerCast, cast_group, shifted, symmetric};
use crate::Simd;

/// The search for the groups of a row.
pub(super) struct IntegerSearch<E: Signed> {
    /// The arithmetic of codes that are a byte each.
    cast: IntegerCast,
    errors: CandidateErrors<E>,
    /// The codes of a group under the candidate that is tried.
    codes: Vec<u8>,
}

impl<E: Signed> IntegerSearch<E> {
    pub(super) fn of(cast: IntegerCast) -> Self {
        let cast = IntegerCast { packed: false, ..cast };
        Self { cast, errors: CandidateErrors::new(), codes: vec![0; cast.width] }
    }

    /// Replaces the quantization parameters of a row's groups, which are those of their extremes, by those of least error.
    #[inline(always)]
    pub(super) fn row<const ROUNDED: bool>(
        &mut self,
        elements: &[E::Raw],
        groups: &mut Groups<E::Magnitude>,
        simd: Simd,
    ) {
        let (cast, epsilon) = (self.cast, scale::epsilon(E::DTYPE));
        for group in 0..cast.groups {
            let elements = &elements[group * cast.width..][..cast.width];
            let greatest = E::widen(groups.above[group]);
            let least = groups.below.get(group).map(|&below| -E::widen(below));
            let mut best = (groups.scales[group], groups.zeros[group]);
            let mut last = best;
            let mut least_error = self.error::<ROUNDED>(elements, best, simd);
            for candidate in 1..CANDIDATES {
                let greatest = shrunken::<E>(greatest, candidate);
                let qparams = match least {
                    Some(least) => shifted::<E>(shrunken::<E>(least, candidate), greatest, cast, epsilon),
                    None => (symmetric::<E>(greatest, cast, epsilon), 0.0),
                };
                if qparams == last {
                    continue;
                }
                last = qparams;
                let error = self.error::<ROUNDED>(elements, qparams, simd);
                if error < least_error {
                    (best, least_error) = (qparams, error);
                }
            }
            (groups.scales[group], groups.zeros[group]) = best;
        }
    }

    /// Returns the error of a group under a scale and a zero point.
    #[inline(always)]
    fn error<const ROUNDED: bool>(&mut self, elements: &[E::Raw], (scale, zero): (f32, f32), simd: Simd) -> f64 {
        cast_group::<E, ROUNDED>(elements, scale, zero, CodeForm::of(self.cast, simd), &mut self.codes, simd);
        let mut sum = 0.0;
        for (&raw, &code) in elements.iter().zip(&self.codes) {
            sum += self.errors.power(raw, f32::from(code as i8) - zero, scale);
        }
        self.errors.error(sum)
    }
}
