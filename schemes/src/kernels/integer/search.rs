//! Quantization parameters of least error, among those of shrunken extremes.

use super::codes::{CodeRounding, MAGIC, WithQuotient, with_quotient};
use super::qparams::{IntegerCast, shifted, symmetric};
use crate::Simd;
use crate::kernels::quotient::Quotient;
use crate::kernels::scale;
use crate::kernels::shrunken::{CANDIDATES, CandidateErrors, shrunken};
use crate::kernels::signed::Signed;

/// The candidates of a cast.
pub(super) struct Candidates<'a, E: Signed, const ROUNDED: bool> {
    pub(super) cast: IntegerCast,
    pub(super) errors: &'a CandidateErrors<E>,
    pub(super) simd: Simd,
}

impl<E: Signed, const ROUNDED: bool> Candidates<'_, E, ROUNDED> {
    /// Returns scale and zero point of least error of a group of finite elements with these extremes, the first of those that
    /// leave the same; without a least extreme they are symmetric.
    #[inline(always)]
    pub(super) fn least_error(&self, elements: &[E::Raw], least: Option<f32>, greatest: f32) -> (f32, f32) {
        let mut best = self.qparams(least, greatest);
        let (mut last, mut least_error) = (best, f64::INFINITY);
        for candidate in 0..CANDIDATES {
            let least = least.map(|least| shrunken::<E>(least, candidate));
            let qparams = self.qparams(least, shrunken::<E>(greatest, candidate));
            // Neighbours often round to the same scale, and what was tried is not tried again.
            if candidate > 0 && qparams == last {
                continue;
            }
            last = qparams;
            // The first one too is judged here, so that this is compiled once.
            let error = self.error(elements, qparams, least_error);
            if candidate == 0 {
                least_error = CandidateErrors::<E>::bound_after_first(error);
            } else if error < least_error {
                // Of those that leave the same, the observer keeps the first, which shrinks the extremes least.
                (best, least_error) = (qparams, error);
            }
        }
        best
    }

    #[inline(always)]
    fn qparams(&self, least: Option<f32>, greatest: f32) -> (f32, f32) {
        let epsilon = scale::epsilon(E::DTYPE);
        match least {
            Some(least) => shifted::<E>(least, greatest, self.cast, epsilon),
            None => (symmetric::<E>(greatest, self.cast, epsilon), 0.0),
        }
    }

    /// Returns the error under a scale and a zero point, or some number of at least `bound` where it is not below that.
    #[inline(always)]
    fn error(&self, elements: &[E::Raw], (scale, zero): (f32, f32), bound: f64) -> f64 {
        let bounds = (self.cast.least(), self.cast.largest());
        let work = ErrorOfCodes { elements, bounds, scale, zero, bound, errors: self.errors };
        with_quotient::<E, ROUNDED, _>(scale, zero, self.simd, work)
    }
}

/// The error that the codes of elements leave.
struct ErrorOfCodes<'a, E: Signed> {
    elements: &'a [E::Raw],
    bounds: (f32, f32),
    scale: f32,
    zero: f32,
    bound: f64,
    errors: &'a CandidateErrors<E>,
}

impl<E: Signed> WithQuotient<E> for ErrorOfCodes<'_, E> {
    type Output = f64;

    #[inline(always)]
    fn run<const ROUNDED: bool>(self, quotient: impl Quotient, zero: Option<f32>) -> f64 {
        // The zero point is taken off afterwards: an odd number in the sum would send ties to odd integers.
        let codes = CodeRounding::of::<ROUNDED>(quotient, zero, self.bounds, 0.0);
        let raised_by = MAGIC + self.zero;
        let number = |element| codes.raised::<E, ROUNDED>(element) - raised_by;
        self.errors.error(self.elements, self.scale, self.bound, number)
    }
}
