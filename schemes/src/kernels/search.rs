//! Looks for the scale of a row or tile under which the stored codes are nearest to the weights, by squared error.
//!
//! E4M3 is a floating-point format: under a scale and twice that scale nearly all numbers are rounded alike. What
//! matters is where between two powers of two the scale lies, so that scales above that of the absolute maximum are
//! looked at as well; those below it clip the largest weights.

use super::amax::maximum;
use super::e4m3;
use super::element::Element;
use super::lossless;
use super::scale::{self, ScaleChoice};
use super::walk::{Caster, FoundNonFinite, Walk};
use crate::Simd;
use crate::simd::Vectorized;

/// Factors of the absolute maximum, as sixteenths added to 1: an octave, and some clipping. 0 is the
/// absolute maximum itself, so that no result is worse than without a search.
const COARSE: std::ops::RangeInclusive<i8> = -4..=12;

/// Factors around the best of these, as 64ths added to it.
const FINE: std::ops::RangeInclusive<i8> = -3..=3;

/// Sums that squares go to, an element to that of its column: in the same order under every instruction
/// set, since sums of floating-point numbers depend on it.
const LANES: usize = 16;

/// Casts a band whose granules are blocks; a channel is one of as many columns as the weight.
pub(super) struct BySearch<'a, C: Caster> {
    pub(super) walk: Walk<'a, C>,
    pub(super) shape: [usize; 2],
    pub(super) groups_of_a_row: usize,
    pub(super) choice: ScaleChoice,
}

impl<C: Caster> Vectorized for BySearch<'_, C> {
    type Output = Result<(), FoundNonFinite>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), FoundNonFinite> {
        let Self { mut walk, shape: [height, width], groups_of_a_row, choice } = self;
        for (row_of_groups, first_row) in (0..walk.rows).step_by(height).enumerate() {
            for index in 0..groups_of_a_row {
                let first_column = index * width;
                let rows = height.min(walk.rows - first_row);
                let columns = width.min(walk.columns - first_column);
                let group = SearchGroup { first_row, rows, first_column, columns };
                let amax = group.amax(&walk)?;
                let scale = match choice {
                    ScaleChoice::PowerOfTwo => lossless::power_of_two(amax, walk.scale_dtype),
                    ScaleChoice::Absmax | ScaleChoice::LeastError => group.least_error(amax, &mut walk, simd),
                };
                walk.store(row_of_groups * groups_of_a_row + index, scale);
                group.cast(&mut walk, scale, simd);
            }
        }
        Ok(())
    }
}

/// Elements that share a scale.
#[derive(Clone, Copy)]
struct SearchGroup {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
}

impl SearchGroup {
    /// Returns the absolute maximum.
    #[inline(always)]
    fn amax<C: Caster>(self, walk: &Walk<'_, C>) -> Result<f32, FoundNonFinite> {
        let rows = self.first_row..self.first_row + self.rows;
        let maxima = rows.map(|row| maximum::<C::Source>(walk.part(row, self.first_column, self.columns)));
        let maximum = maxima.max().unwrap_or_default();
        if maximum >= C::Source::INFINITE {
            return Err(FoundNonFinite);
        }
        Ok(C::Source::widen(maximum))
    }

    /// Returns the scale under which the codes are nearest to the elements; the first of those that are equally good.
    #[inline(always)]
    fn least_error<C: Caster>(self, amax: f32, walk: &mut Walk<'_, C>, simd: Simd) -> f32 {
        let mut least = f64::INFINITY;
        let mut best = (1.0, scale::scale(amax, e4m3::MAX, walk.scale_dtype));
        for (offsets, unit) in [(COARSE, 1.0 / 16.0), (FINE, 1.0 / 64.0)] {
            let (middle, _) = best;
            for offset in offsets {
                let factor = middle + f32::from(offset) * unit;
                let scale = scale::scale(amax * factor, e4m3::MAX, walk.scale_dtype);
                if !scale.is_finite() {
                    continue;
                }
                // The real cast, not a formula for its error: the codes that are judged are those that would be stored.
                self.cast(walk, scale, simd);
                let error = self.error(walk, scale);
                if error < least {
                    least = error;
                    best = (factor, scale);
                }
            }
        }
        best.1
    }

    #[inline(always)]
    fn cast<C: Caster>(self, walk: &mut Walk<'_, C>, scale: f32, simd: Simd) {
        let divisor = [C::divisor(scale)];
        for row in self.first_row..self.first_row + self.rows {
            walk.cast(row, self.first_column, self.columns, &divisor, self.columns.max(1), simd);
        }
    }

    /// Returns the sum of the squared differences between the elements and what their codes stand for.
    #[inline(always)]
    fn error<C: Caster>(self, walk: &Walk<'_, C>, scale: f32) -> f64 {
        let mut sums = [0f64; LANES];
        for row in self.first_row..self.first_row + self.rows {
            let elements = walk.part(row, self.first_column, self.columns);
            let codes = walk.codes(row, self.first_column, self.columns);
            let (chunks, rest) = elements.as_chunks::<LANES>();
            let (chunks_of_codes, rest_of_codes) = codes.as_chunks::<LANES>();
            for (elements, codes) in chunks.iter().zip(chunks_of_codes) {
                let squares: [f64; LANES] =
                    std::array::from_fn(|lane| square::<C::Source>(elements[lane], codes[lane], scale));
                sums = std::array::from_fn(|lane| sums[lane] + squares[lane]);
            }
            for ((sum, &raw), &code) in sums.iter_mut().zip(rest).zip(rest_of_codes) {
                *sum += square::<C::Source>(raw, code, scale);
            }
        }
        sums.iter().sum()
    }
}

/// The squared difference between an element and its code: exact but for the rounding of the difference and the square.
#[inline(always)]
fn square<E: Element>(raw: E::Raw, code: u8, scale: f32) -> f64 {
    let decoded = f64::from(e4m3::decode(code & 0x7F)) * f64::from(scale);
    // A code has the sign of its element.
    let difference = f64::from(E::widen(E::magnitude(raw))) - decoded;
    difference * difference
}
