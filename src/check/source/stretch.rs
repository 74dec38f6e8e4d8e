//! Stretches of weights whose codes rounding explains, which is nearly all there are: checked and summed up many at a
//! time.
//!
//! Each step is a loop over plain arrays, which compilers turn into vector instructions. What does not pass here is
//! looked at weight by weight, by the code that knows why a code may differ.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, f32x8};
use safetensors::Dtype;

use super::occurrences::Occurrences;
use super::quotients::{agree, beyond, clamped, is_clamped, is_explained};
use crate::decode::{Codebook, Extremes, Qparams};

/// The most weights of a stretch: few enough for all arrays to stay in the first cache.
pub(super) const STRETCH: usize = 256;

/// The most groups of a stretch: with those of 16 weights, the smallest that formats have, it is full.
pub(super) const GROUPS: usize = STRETCH / 16;

/// Sums that are kept side by side, so that none waits for the one before it.
const LANES: usize = 8;

/// Arrays for one stretch.
pub(super) struct StretchArrays {
    /// Zero point of each weight's group.
    zero: [f32; STRETCH],
    /// Value of each code; later less the zero point.
    number: [f32; STRETCH],
    /// Weight over scale; later less the number, which is the error.
    quotient: [f32; STRETCH],
    /// Extremes of each group.
    least: [f32; GROUPS],
    greatest: [f32; GROUPS],
    groups: [GroupFigures; GROUPS],
    /// Set where the quotients of the stretch before were rounded to the dtype of the weights first. Those of the next one most
    /// likely are too.
    is_rounded_first: bool,
    level: Level,
}

/// Consecutive weights of one row and their codes: as many of each of its groups, of which there are no more than [`GROUPS`].
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) codes: &'a [u8],
    pub(super) weights: &'a [f32],
    /// The dtype that the weights are stored in.
    pub(super) dtype: Dtype,
    /// Those of each group.
    pub(super) qparams: &'a [Qparams],
}

/// Figures of a stretch.
pub(super) struct StretchFigures<'a> {
    pub(super) saturated: u64,
    pub(super) flushed: u64,
    pub(super) groups: &'a [GroupFigures],
}

/// Figures of the weights of a group that lie in a stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct GroupFigures {
    pub(super) extremes: Extremes,
    pub(super) source: f64,
    pub(super) decoded: f64,
    pub(super) product: f64,
    pub(super) error: f64,
    /// A bound of the largest error, and a close one.
    pub(super) largest_error: f64,
    /// Weights that were clamped to an end of the format from further away than rounding explains, counted from the first weight
    /// of the group.
    pub(super) clamped: Occurrences,
}

impl Default for StretchArrays {
    fn default() -> Self {
        let arrays = [0.0; STRETCH];
        Self {
            zero: arrays,
            number: arrays,
            quotient: arrays,
            least: [0.0; GROUPS],
            greatest: [0.0; GROUPS],
            groups: [GroupFigures::default(); GROUPS],
            is_rounded_first: false,
            level: Level::new(),
        }
    }
}

impl StretchArrays {
    /// Returns the figures of at most [`STRETCH`] weights; `None` unless every weight and every scale is finite and every code
    /// is one that rounding gives.
    pub(super) fn figures(&mut self, book: &Codebook, stretch: Stretch<'_>) -> Option<StretchFigures<'_>> {
        // The loops below are compiled once for each instruction set, and the best that this machine has is taken.
        dispatch!(self.level, simd => simd.vectorize(
            #[inline(always)]
            || self.vectorized_figures(simd, book, stretch)
        ))
    }

    #[inline(always)]
    fn vectorized_figures<S: Simd>(
        &mut self,
        simd: S,
        book: &Codebook,
        stretch: Stretch<'_>,
    ) -> Option<StretchFigures<'_>> {
        let Stretch { codes, weights, dtype, qparams } = stretch;
        let (len, width) = (codes.len(), codes.len() / qparams.len());
        // Of the sizes that most small groups have, the compiler is to know that their loops are short.
        match width {
            16 => self.divide(simd, 16, book, stretch),
            32 => self.divide(simd, 32, book, stretch),
            _ => self.divide(simd, width, book, stretch),
        }
        let (zero, number, quotient) = (&self.zero[..len], &mut self.number[..len], &mut self.quotient[..len]);
        let (least, greatest) = (&self.least[..qparams.len()], &self.greatest[..qparams.len()]);
        // Bits and no branches: a loop that becomes vector instructions, as those over weights do.
        let (mut unfit, mut beyond_last, mut beyond_rounding) = (0u32, 0u32, 0u32);
        for ((&Qparams { scale, zero }, &least), &greatest) in qparams.iter().zip(least).zip(greatest) {
            // Of an infinite weight, and under a scale that is none.
            let [low, high] = [least / scale + zero, greatest / scale + zero];
            unfit |= u32::from(
                !((scale > 0.0) & (scale < f32::INFINITY) & (low > f32::NEG_INFINITY) & (high < f32::INFINITY)),
            );
            beyond_last |= u32::from((low < book.least) | (high > book.largest));
            beyond_rounding |= u32::from(book.is_beyond_rounding(low, zero) | book.is_beyond_rounding(high, zero));
        }
        if unfit != 0 {
            return None;
        }
        // A code without a value is no number, and equal to none. Neither is a weight that is none.
        let mut is_agreed = false;
        for is_rounded in [self.is_rounded_first, !self.is_rounded_first] {
            is_agreed = match is_rounded {
                true => dtype == Dtype::BF16 && agree::<true>(book, zero, quotient, number),
                false => agree::<false>(book, zero, quotient, number),
            };
            if is_agreed {
                self.is_rounded_first = is_rounded;
                break;
            }
        }
        if !is_agreed && !is_explained(book, zero, quotient, codes, dtype) {
            return None;
        }
        let saturated = if beyond_last == 0 { 0 } else { beyond(book, zero, quotient) };
        let groups = &mut self.groups[..qparams.len()];
        for (at, (&Qparams { scale, zero }, group)) in qparams.iter().zip(&mut *groups).enumerate() {
            let ends = [least[at], greatest[at]];
            group.extremes = Extremes { least: ends[0], greatest: ends[1] };
            group.clamped = Occurrences::default();
            // Rounding keeps the order: where the ends are not clamped, no weight between them is.
            if beyond_rounding != 0 && ends.into_iter().any(|end| is_clamped(book, zero, end / scale, dtype)) {
                group.clamped = clamped(book, zero, &quotient[at * width..(at + 1) * width], dtype);
            }
        }
        let mut flushed = 0u32;
        for (((&weight, &zero), number), quotient) in weights.iter().zip(zero).zip(&mut *number).zip(&mut *quotient) {
            *number -= zero;
            *quotient -= *number;
            flushed += u32::from((*number == 0.0) & (weight != 0.0));
        }
        match width {
            16 => self.sum(simd, 16, qparams),
            32 => self.sum(simd, 32, qparams),
            _ => self.sum(simd, width, qparams),
        }
        let groups = &self.groups[..qparams.len()];
        Some(StretchFigures { saturated: saturated.into(), flushed: flushed.into(), groups })
    }

    /// Divides the weights of each group by its scale, reads the numbers of their codes, finds the extremes, and spreads out the
    /// zero points. Weights that are no numbers may go without notice.
    //
    // Division and reading together: neither waits for what the other is busy with.
    #[inline(always)]
    fn divide<S: Simd>(&mut self, simd: S, width: usize, book: &Codebook, stretch: Stretch<'_>) {
        for (at, &Qparams { scale, zero }) in stretch.qparams.iter().enumerate() {
            let range = at * width..(at + 1) * width;
            let (codes, last_codes) = stretch.codes[range.clone()].as_chunks::<LANES>();
            let (weights, last_weights) = stretch.weights[range.clone()].as_chunks::<LANES>();
            let (numbers, last_numbers) = self.number[range.clone()].as_chunks_mut::<LANES>();
            let (quotients, last_quotients) = self.quotient[range.clone()].as_chunks_mut::<LANES>();
            let [mut least, mut greatest] = [f32x8::splat(simd, 0.0); 2];
            for ((codes, numbers), (weights, quotients)) in codes.iter().zip(numbers).zip(weights.iter().zip(quotients))
            {
                let weights = f32x8::load_array_ref(simd, weights);
                (weights / scale).store_array(quotients);
                (least, greatest) = (least.min(weights), greatest.max(weights));
                for (&code, number) in codes.iter().zip(numbers) {
                    *number = book.value[usize::from(code)];
                }
            }
            let [mut least, mut greatest] = [least.reduce_min(), greatest.reduce_max()];
            // Fewer than a vector are left, as a rule none.
            for ((&code, number), (&weight, quotient)) in
                last_codes.iter().zip(last_numbers).zip(last_weights.iter().zip(last_quotients))
            {
                *quotient = weight / scale;
                (least, greatest) = (least.min(weight), greatest.max(weight));
                *number = book.value[usize::from(code)];
            }
            (self.least[at], self.greatest[at]) = (least, greatest);
            self.zero[range].fill(zero);
        }
    }

    /// Sums up each group: weight = number + error, in units of the scale, in which they neither overflow nor vanish.
    #[inline(always)]
    fn sum<S: Simd>(&mut self, simd: S, width: usize, qparams: &[Qparams]) {
        let parts = self.number.chunks_exact(width).zip(self.quotient.chunks_exact(width));
        for ((qparams, group), (number, error)) in qparams.iter().zip(&mut self.groups).zip(parts) {
            let mut sums = LaneSums::new(simd);
            let ((numbers, last_numbers), (errors, last_errors)) = (number.as_chunks(), error.as_chunks());
            for (number, error) in numbers.iter().zip(errors) {
                sums.add(f32x8::load_array_ref(simd, number), f32x8::load_array_ref(simd, error));
            }
            if !last_numbers.is_empty() {
                let [mut number, mut error] = [[0.0; LANES]; 2];
                number[..last_numbers.len()].copy_from_slice(last_numbers);
                error[..last_errors.len()].copy_from_slice(last_errors);
                sums.add(f32x8::load_array(simd, number), f32x8::load_array(simd, error));
            }
            let LaneSums { decoded, product, error, largest } = sums;
            let [decoded, product, error] = [total(decoded), total(product), total(error)];
            let scale = f64::from(qparams.scale);
            let square = scale * scale;
            group.source = (decoded + 2.0 * product + error).max(0.0) * square;
            group.decoded = decoded * square;
            group.product = (decoded + product) * square;
            group.error = error * square;
            // The quotient is rounded, to within 2^-24 of 448 at most.
            group.largest_error = (f64::from(largest.reduce_max()) * 1.000_001 + 3e-5) * scale;
        }
    }
}

/// Sums of number², number × error and error², and the largest error.
struct LaneSums<S: Simd> {
    decoded: f32x8<S>,
    product: f32x8<S>,
    error: f32x8<S>,
    largest: f32x8<S>,
}

impl<S: Simd> LaneSums<S> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let zero = f32x8::splat(simd, 0.0);
        Self { decoded: zero, product: zero, error: zero, largest: zero }
    }

    #[inline(always)]
    fn add(&mut self, number: f32x8<S>, error: f32x8<S>) {
        self.decoded += number * number;
        self.product += number * error;
        self.error += error * error;
        self.largest = self.largest.max(error.abs());
    }
}

/// Returns the sum of the lanes.
//
// Halves are added to halves, which vectors can do, where one sum of F64 after the other takes as long as a group of few weights.
#[inline(always)]
fn total<S: Simd>(lanes: f32x8<S>) -> f64 {
    let (low, high) = lanes.split();
    let half = low + high;
    f64::from((half[0] + half[2]) + (half[1] + half[3]))
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::decode::in_format;

    /// The codebooks of all forms that have codes of at most eight bits.
    fn books() -> Vec<&'static Codebook> {
        let formats = [
            "float-quantized",
            "int-quantized",
            "pack-quantized",
            "mxfp8-quantized",
            "mxfp6-pack-quantized",
            "mxfp4-pack-quantized",
        ];
        formats.iter().flat_map(|format| in_format(format)).map(|form| form.codebook()).collect()
    }

    /// Weights of both signs and all magnitudes up to the largest of the format, as BF16.
    fn stored(book: &Codebook, scale: f32, len: usize) -> Vec<u8> {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..len)
            .flat_map(|_| {
                let (part, sign) = (random() * random(), if random() < 0.5 { book.least } else { book.largest });
                bf16::from_f32(sign * part * scale).to_le_bytes()
            })
            .collect()
    }

    fn code_of(book: &Codebook, number: f32) -> u8 {
        book.value.iter().position(|&value| value == number).unwrap() as u8
    }

    #[test]
    fn figures_are_those_of_a_plain_sum_and_one_wrong_code_anywhere_is_noticed() {
        let (scale, zero) = (0.0137, 0.0);
        for (number, book) in books().into_iter().enumerate() {
            let len = [STRETCH, STRETCH - 3, 16, 5][number % 4];
            let stored = stored(book, scale, len);
            let mut weights = vec![0.0; len];
            crate::decode::widen_into(Dtype::BF16, &stored, &mut weights);
            let mut codes: Vec<u8> = weights.iter().map(|weight| code_of(book, book.nearest(weight / scale))).collect();
            let mut arrays = StretchArrays::default();
            let mut figures = |codes: &[u8]| {
                let stretch =
                    Stretch { codes, weights: &weights, dtype: Dtype::BF16, qparams: &[Qparams { scale, zero }] };
                let StretchFigures { saturated, flushed, groups } = arrays.figures(book, stretch)?;
                Some((saturated, flushed, groups[0]))
            };
            let (found_saturated, found_flushed, found) = figures(&codes).unwrap();
            let decoded = |code: u8| f64::from(book.value[usize::from(code)]) * f64::from(scale);
            let pairs = || weights.iter().zip(&codes).map(|(&weight, &code)| (f64::from(weight), decoded(code)));
            let close = |found: f64, sum: f64| assert!((found - sum).abs() <= 1e-5 * sum.abs(), "{found} {sum}");
            close(found.source, pairs().map(|(weight, _)| weight * weight).sum());
            close(found.decoded, pairs().map(|(_, decoded)| decoded * decoded).sum());
            close(found.product, pairs().map(|(weight, decoded)| weight * decoded).sum());
            close(found.error, pairs().map(|(weight, decoded)| (weight - decoded).powi(2)).sum());
            let largest = pairs().map(|(weight, decoded)| (weight - decoded).abs()).fold(0.0, f64::max);
            assert!(found.largest_error >= largest && found.largest_error <= largest + 1e-4 * f64::from(scale));
            let extremes = weights.iter().fold(Extremes::default(), |mut all, &weight| {
                all.add(weight);
                all
            });
            assert_eq!(found.extremes, extremes);
            let flushed = weights.iter().zip(&codes).filter(|&(&weight, &code)| weight != 0.0 && decoded(code) == 0.0);
            assert_eq!((found_flushed, found_saturated), (flushed.count() as u64, 0));
            for at in 0..len {
                let right = codes[at];
                for wrong in 0..=255u8 {
                    // The two zeros are one number. A tie has two codes within the tolerance of the rules, not here.
                    if book.value[usize::from(wrong)] == book.value[usize::from(right)] {
                        continue;
                    }
                    codes[at] = wrong;
                    let is_tie = book.interval[usize::from(wrong)].contains(&(weights[at] / scale));
                    assert!(is_tie || figures(&codes).is_none() || is_rounded(book, weights[at] / scale, wrong));
                }
                codes[at] = right;
            }
        }
    }

    #[test]
    fn weights_that_an_end_of_the_format_clamps_are_counted() {
        for book in books() {
            let (scale, zero) = (0.25, 1.0);
            // As far beyond the end as the next value would be, on its boundary, and past that.
            let step = book.interval[usize::from(code_of(book, book.largest))][1] - book.largest;
            let beyond = [0.0, 0.5, 1.0, 1.5, 3.0].map(|steps| book.largest + steps * step - zero);
            let below = [0.0, 1.0, 2.0].map(|steps| book.least - steps * step - zero);
            let weights: Vec<f32> =
                [-1.0, -1.25].into_iter().chain(beyond).chain(below).map(|quotient| quotient * scale).collect();
            let mut codes: Vec<u8> =
                weights.iter().map(|weight| code_of(book, book.nearest(weight / scale + zero))).collect();
            let mut arrays = StretchArrays::default();
            let mut figures = |codes: &[u8]| {
                let stretch =
                    Stretch { codes, weights: &weights, dtype: Dtype::F32, qparams: &[Qparams { scale, zero }] };
                arrays.figures(book, stretch).map(|figures| (figures.saturated, figures.groups[0].clamped))
            };
            let (saturated, clamped) = figures(&codes).unwrap();
            assert_eq!((clamped.number, clamped.first, saturated), (3, [0, 5], 6));
            // The other end, and zero, are no codes of what is clamped.
            for wrong in [book.least, 0.0] {
                codes[6] = code_of(book, wrong);
                assert!(figures(&codes).is_none());
            }
        }
    }

    #[test]
    fn the_rounding_that_explained_a_stretch_is_tried_first_and_the_other_one_then() {
        let (book, scale) = (books()[0], 0.0137);
        let stored = stored(book, scale, STRETCH);
        let mut weights = vec![0.0; STRETCH];
        crate::decode::widen_into(Dtype::BF16, &stored, &mut weights);
        let codes = |rounded: &dyn Fn(f32) -> f32| -> Vec<u8> {
            weights.iter().map(|weight| code_of(book, book.nearest(rounded(weight / scale)))).collect()
        };
        let (exact, rounded) = (codes(&|quotient| quotient), codes(&|quotient| bf16::from_f32(quotient).to_f32()));
        assert_ne!(exact, rounded);
        let mut arrays = StretchArrays::default();
        for (codes, is_rounded) in [(&exact, false), (&rounded, true), (&rounded, true), (&exact, false)] {
            let stretch =
                Stretch { codes, weights: &weights, dtype: Dtype::BF16, qparams: &[Qparams { scale, zero: 0.0 }] };
            assert!(arrays.figures(book, stretch).is_some());
            assert_eq!(arrays.is_rounded_first, is_rounded);
        }
    }

    /// Says whether the quotient, rounded to BF16 as the reference does on a CPU, has this code.
    fn is_rounded(book: &Codebook, quotient: f32, code: u8) -> bool {
        let [low, high] = book.interval[usize::from(code)];
        (low..=high).contains(&bf16::from_f32(quotient).to_f32())
    }

    #[test]
    fn what_is_not_finite_is_left_to_the_other_way() {
        let book = books()[0];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = [1.0; 40];
            weights[33] = bad;
            let codes = [code_of(book, 1.0); 40];
            let is_left = |len: usize, scale: f32| {
                let (codes, weights, qparams) = (&codes[..len], &weights[..len], &[Qparams { scale, zero: 0.0 }]);
                let stretch = Stretch { codes, weights, dtype: Dtype::F32, qparams };
                StretchArrays::default().figures(book, stretch).is_none()
            };
            assert!(is_left(40, 1.0) && !is_left(33, 1.0));
            for scale in [bad, 0.0, -1.0] {
                assert!(is_left(33, scale));
            }
        }
    }

    #[test]
    fn groups_of_a_stretch_have_the_figures_that_they_have_alone() {
        for book in books() {
            for width in [1, 5, 16, 24, 32, 128] {
                let groups = GROUPS.min(STRETCH / width);
                let stored = stored(book, 0.01, groups * width);
                let mut weights = vec![0.0; groups * width];
                crate::decode::widen_into(Dtype::BF16, &stored, &mut weights);
                // Some scales are too small for the largest weight of their group.
                let scale = |group: usize| 0.01 * [1.0, 0.6, 3.0][group % 3];
                let zero = |group: usize| [0.0, 1.0][group % 2];
                let qparams: Vec<Qparams> =
                    (0..groups).map(|group| Qparams { scale: scale(group), zero: zero(group) }).collect();
                let exact = |at: usize| weights[at] / scale(at / width) + zero(at / width);
                let codes: Vec<u8> = (0..weights.len()).map(|at| code_of(book, book.nearest(exact(at)))).collect();
                let (mut arrays, mut alone) = (StretchArrays::default(), StretchArrays::default());
                let stretch = Stretch { codes: &codes, weights: &weights, dtype: Dtype::BF16, qparams: &qparams };
                let together = arrays.figures(book, stretch).unwrap();
                let mut counts = [0, 0];
                for group in 0..groups {
                    let range = group * width..(group + 1) * width;
                    let (codes, weights) = (&codes[range.clone()], &weights[range]);
                    let of_group = Stretch { codes, weights, qparams: &qparams[group..=group], ..stretch };
                    let figures = alone.figures(book, of_group).unwrap();
                    counts = [counts[0] + figures.saturated, counts[1] + figures.flushed];
                    assert_eq!(together.groups[group], figures.groups[0]);
                }
                assert_eq!([together.saturated, together.flushed], counts);
                let mut wrong = codes.clone();
                for at in 0..codes.len() {
                    // Of no value, or further away than any rounding explains.
                    wrong[at] = code_of(book, if exact(at) > 0.0 { book.least } else { book.largest });
                    assert!(arrays.figures(book, Stretch { codes: &wrong, ..stretch }).is_none());
                    wrong[at] = codes[at];
                }
            }
        }
    }
}
