//! Looks for the scale of a row or tile under which the stored codes are nearest to the weights, by squared error.
//!
//! E4M3 is a floating-point format: under a scale and twice that scale nearly all numbers are rounded alike. What
//! matters is where between two powers of two the scale lies, so that scales above that of the absolute maximum are
//! looked at as well; those below it clip the largest weights.
//!
//! Equal magnitudes have equal errors. Where a granule has many more elements than there are magnitudes, each magnitude is
//! judged once and counts as often as it occurs ([`Tally`]); what is left to do for each element is to be counted.

use super::amax::maximum;
use super::e4m3;
use super::element::Element;
use super::lossless;
use super::scale::{self, ScaleChoice};
use super::tally::{LANES, TakeTally, Tally, TallyError, square};
use super::walk::{Caster, FoundNonFinite, Walk};
use crate::Simd;
use crate::simd::Vectorized;

/// Factors of the absolute maximum, as sixteenths added to 1: an octave, and some clipping. 0 is the
/// absolute maximum itself, so that no result is worse than without a search.
const COARSE: std::ops::RangeInclusive<i8> = -4..=12;

/// Factors around the best of these, as 64ths added to it.
const FINE: std::ops::RangeInclusive<i8> = -3..=3;

/// Relative difference of two sums of the same squares, added in different orders, that no rounding explains: a sum of 2^20
/// has at most 2^20 roundings of 2^-53 each.
const ROUNDING: f64 = 1e-9;

/// Casts a band whose granules are blocks; a channel is one of as many columns as the weight.
///
/// It is compiled once for each way to cast. What walks over elements is [`Vectorized`] by itself and not this as a whole: the
/// cast would stand in it seven times for each instruction set, half a megabyte in all.
pub(super) struct BySearch<'a, C: Caster> {
    pub(super) walk: Walk<'a, C>,
    pub(super) shape: [usize; 2],
    pub(super) groups_of_a_row: usize,
    pub(super) choice: ScaleChoice,
}

impl<C: Caster> BySearch<'_, C> {
    pub(super) fn run(self, simd: Simd) -> Result<(), FoundNonFinite> {
        let Self { mut walk, shape: [height, width], groups_of_a_row, choice } = self;
        let (mut tally, mut scales) = (Tally::new(), TriedScales::default());
        for (row_of_groups, first_row) in (0..walk.rows).step_by(height).enumerate() {
            for index in 0..groups_of_a_row {
                let first_column = index * width;
                let rows = height.min(walk.rows - first_row);
                let columns = width.min(walk.columns - first_column);
                let group = SearchGroup { first_row, rows, first_column, columns };
                let maximum = simd.run(GroupMaximum { group, walk: &walk });
                if maximum >= C::Source::INFINITE {
                    return Err(FoundNonFinite);
                }
                let scale = match choice {
                    ScaleChoice::PowerOfTwo => lossless::power_of_two(C::Source::widen(maximum), walk.scale_dtype),
                    ScaleChoice::Absmax | ScaleChoice::LeastError => {
                        group.least_error(maximum, &mut walk, &mut tally, &mut scales, simd)
                    }
                };
                walk.store(row_of_groups * groups_of_a_row + index, scale);
                simd.run(GroupCast { group, walk: &mut walk, scale, judged: false });
            }
        }
        Ok(())
    }
}

/// A scale that was tried.
#[derive(Clone, Copy)]
struct Candidate {
    /// What the absolute maximum was multiplied by.
    factor: f32,
    scale: f32,
    /// The sum of the squared differences under it.
    error: f64,
}

/// The scales that were tried for a group. They are kept in one place for all groups: a list that grows takes the lock of the
/// allocator a few times for each, for which 16 threads waited longer than they searched.
#[derive(Default)]
struct TriedScales {
    tried: Vec<Candidate>,
    /// Those whose errors are too near to the least to tell them apart.
    near: Vec<Candidate>,
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
    /// Its part of each row.
    #[inline(always)]
    fn parts<'w, C: Caster>(
        self,
        walk: &'w Walk<'_, C>,
    ) -> impl Iterator<Item = &'w [<C::Source as Element>::Raw]> + Clone {
        let rows = self.first_row..self.first_row + self.rows;
        rows.map(move |row| walk.part(row, self.first_column, self.columns))
    }

    /// Returns the scale under which the codes are nearest to the elements; the first of those that are equally good.
    fn least_error<C: Caster>(
        self,
        maximum: <C::Source as Element>::Magnitude,
        walk: &mut Walk<'_, C>,
        tally: &mut Tally<C::Source>,
        scales: &mut TriedScales,
        simd: Simd,
    ) -> f32 {
        let amax = C::Source::widen(maximum);
        let tallied = self.rows * self.columns >= Tally::<C::Source>::PAYS_FROM;
        if tallied {
            let normal_scales = scale::is_normal(amax / (2.0 * e4m3::MAX), walk.scale_dtype);
            simd.run(TakeTally { rows: self.parts(walk), maximum, normal_scales, tally });
        }
        let mut best: Option<Candidate> = None;
        for (offsets, unit) in [(COARSE, 1.0 / 16.0), (FINE, 1.0 / 64.0)] {
            let middle = best.map_or(1.0, |best| best.factor);
            scales.tried.clear();
            scales.tried.extend(best);
            for offset in offsets {
                let factor = middle + f32::from(offset) * unit;
                let scale = scale::scale(amax * factor, e4m3::MAX, walk.scale_dtype);
                if !scale.is_finite() || scales.tried.iter().any(|tried| tried.scale == scale) {
                    continue;
                }
                // The real cast, not a formula for its error: the codes that are judged are those that would be stored.
                let error = if tallied {
                    simd.run(TallyError::<C> { tally, scale })
                } else {
                    simd.run(GroupCast { group: self, walk, scale, judged: true })
                };
                scales.tried.push(Candidate { factor, scale, error });
            }
            best = self.least(scales, tallied, walk, simd);
        }
        best.expect("the scale of a finite absolute maximum is finite").scale
    }

    /// Returns the first of those candidates whose error is least.
    ///
    /// Sums over a tally are added in another order than those over the elements. Where they are too near to one another for
    /// that to make no difference, those over the elements decide, so that a scale never depends on the way it was found.
    fn least<C: Caster>(
        self,
        TriedScales { tried, near }: &mut TriedScales,
        tallied: bool,
        walk: &mut Walk<'_, C>,
        simd: Simd,
    ) -> Option<Candidate> {
        let first_least = |candidates: &[Candidate]| {
            candidates.iter().copied().reduce(|best, next| if next.error < best.error { next } else { best })
        };
        let least = first_least(tried)?;
        near.clear();
        near.extend(tried.iter().filter(|candidate| candidate.error <= least.error * (1.0 + ROUNDING)));
        if !tallied || near.len() == 1 || least.error == 0.0 {
            return Some(least);
        }
        for candidate in &mut *near {
            candidate.error = simd.run(GroupCast { group: self, walk, scale: candidate.scale, judged: true });
        }
        first_least(near)
    }
}

/// The largest magnitude of a group.
struct GroupMaximum<'w, 'a, C: Caster> {
    group: SearchGroup,
    walk: &'w Walk<'a, C>,
}

impl<C: Caster> Vectorized for GroupMaximum<'_, '_, C> {
    type Output = <C::Source as Element>::Magnitude;

    #[inline(always)]
    fn run(self, _: Simd) -> Self::Output {
        self.group.parts(self.walk).map(maximum::<C::Source>).max().unwrap_or_default()
    }
}

/// The cast of a group under a scale; where it is judged, it returns the sum of the squared differences between the elements and
/// what their codes stand for.
struct GroupCast<'w, 'a, C: Caster> {
    group: SearchGroup,
    walk: &'w mut Walk<'a, C>,
    scale: f32,
    judged: bool,
}

impl<C: Caster> Vectorized for GroupCast<'_, '_, C> {
    type Output = f64;

    #[inline(always)]
    fn run(self, simd: Simd) -> f64 {
        let Self { group: SearchGroup { first_row, rows, first_column, columns }, walk, scale, judged } = self;
        let divisor = [C::divisor(scale)];
        let mut sums = [0f64; LANES];
        for row in first_row..first_row + rows {
            walk.cast(row, first_column, columns, &divisor, columns.max(1), simd);
            if !judged {
                continue;
            }
            let (chunks, rest) = walk.part(row, first_column, columns).as_chunks::<LANES>();
            let (chunks_of_codes, rest_of_codes) = walk.codes(row, first_column, columns).as_chunks::<LANES>();
            for (elements, codes) in chunks.iter().zip(chunks_of_codes) {
                // A loop: closures that are called elsewhere lose the instruction set.
                for lane in 0..LANES {
                    sums[lane] += square(value::<C::Source>(elements[lane]), codes[lane], scale);
                }
            }
            for ((sum, &raw), &code) in sums.iter_mut().zip(rest).zip(rest_of_codes) {
                *sum += square(value::<C::Source>(raw), code, scale);
            }
        }
        sums.iter().sum()
    }
}

/// The absolute value of an element.
#[inline(always)]
fn value<E: Element>(raw: E::Raw) -> f64 {
    f64::from(E::widen(E::magnitude(raw)))
}
