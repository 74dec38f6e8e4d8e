//! Stretches of weights whose codes rounding explains, which is nearly all there are: checked and summed up many at a
//! time.
//!
//! Each step is a loop over plain arrays, which compilers turn into vector instructions. What does not pass here is
//! looked at weight by weight, by the code that knows why a code may differ.

use fearless_simd::{Level, Simd, dispatch};
use half::bf16;
use safetensors::Dtype;

use super::occurrences::Occurrences;
use crate::decode::{Codebook, Extremes, Qparams, round};

/// The most weights of a stretch: few enough for all arrays to stay in the first cache.
pub(super) const STRETCH: usize = 256;

/// Sums that are kept side by side, so that none waits for the one before it.
const LANES: usize = 8;

/// Arrays for one stretch.
pub(super) struct StretchArrays {
    /// Value of each code; later less the zero point.
    number: [f32; STRETCH],
    /// Weight over scale; later less the number, which is the error.
    quotient: [f32; STRETCH],
    /// Set where the quotients of the stretch before were rounded to the dtype of the weights first. Those of the next one most
    /// likely are too.
    is_rounded_first: bool,
    level: Level,
}

/// A stretch of weights, as they are stored and as numbers, and their codes.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    pub(super) codes: &'a [u8],
    pub(super) weights: &'a [f32],
    pub(super) stored: &'a [u8],
    pub(super) dtype: Dtype,
}

/// Figures of a stretch.
pub(super) struct StretchFigures {
    pub(super) extremes: Extremes,
    pub(super) source: f64,
    pub(super) decoded: f64,
    pub(super) product: f64,
    pub(super) error: f64,
    /// A bound of the largest error, and a close one.
    pub(super) largest_error: f64,
    pub(super) saturated: u64,
    pub(super) flushed: u64,
    /// Weights that were clamped to an end of the format from further away than rounding explains, counted from the first weight
    /// of the stretch.
    pub(super) clamped: Occurrences,
}

impl Default for StretchArrays {
    fn default() -> Self {
        let arrays = [0.0; STRETCH];
        Self { number: arrays, quotient: arrays, is_rounded_first: false, level: Level::new() }
    }
}

impl StretchArrays {
    /// Returns the figures of at most [`STRETCH`] weights of one group; `None` unless every weight and the scale are
    /// finite and every code is one that rounding gives.
    pub(super) fn figures(
        &mut self,
        book: &Codebook,
        qparams: Qparams,
        stretch: Stretch<'_>,
    ) -> Option<StretchFigures> {
        // The loops below are compiled once for each instruction set, and the best that this machine has is taken.
        dispatch!(self.level, simd => simd.vectorize(
            #[inline(always)]
            || self.vectorized_figures(book, qparams, stretch)
        ))
    }

    #[inline(always)]
    fn vectorized_figures(
        &mut self,
        book: &Codebook,
        Qparams { scale, zero }: Qparams,
        stretch: Stretch<'_>,
    ) -> Option<StretchFigures> {
        let Stretch { codes, weights, dtype, .. } = stretch;
        let len = codes.len();
        let (number, quotient) = (&mut self.number[..len], &mut self.quotient[..len]);
        if !scale.is_finite() || scale <= 0.0 {
            return None;
        }
        for (&code, number) in codes.iter().zip(&mut *number) {
            *number = book.value[usize::from(code)];
        }
        for (&weight, quotient) in weights.iter().zip(&mut *quotient) {
            *quotient = weight / scale;
        }
        let extremes = extremes(stretch);
        let [least, greatest] = [extremes.least, extremes.greatest].map(|weight| weight / scale + zero);
        if !least.is_finite() || !greatest.is_finite() {
            return None;
        }
        let is_saturated = (greatest > book.largest) | (least < book.least);
        // A code without a value is no number, and equal to none.
        let agree_exactly = || match is_saturated {
            false => agree(quotient, number, |exact| book.spacing.round(exact + zero)),
            true => agree(quotient, number, |exact| book.nearest(exact + zero)),
        };
        let agree_rounded = || match is_saturated {
            _ if dtype != Dtype::BF16 => false,
            false => agree(quotient, number, |exact| book.spacing.round(to_bf16(to_bf16(exact) + zero))),
            true => agree(quotient, number, |exact| book.nearest(to_bf16(to_bf16(exact) + zero))),
        };
        let is_agreed = |is_rounded| if is_rounded { agree_rounded() } else { agree_exactly() };
        if !is_agreed(self.is_rounded_first) {
            if is_agreed(!self.is_rounded_first) {
                self.is_rounded_first = !self.is_rounded_first;
            } else if !is_explained(book, zero, quotient, codes, dtype) {
                return None;
            }
        }
        let mut flushed = 0u32;
        for (&weight, number) in weights.iter().zip(&mut *number) {
            *number -= zero;
            flushed += u32::from((*number == 0.0) & (weight != 0.0));
        }
        let (saturated, clamped) = match is_saturated {
            false => (0, Occurrences::default()),
            true => (beyond(book, zero, quotient), clamped(book, zero, quotient, codes, dtype)),
        };
        for (quotient, number) in quotient.iter_mut().zip(&*number) {
            *quotient -= number;
        }
        // Weight = number + error, in units of the scale: in these they neither overflow nor vanish.
        let [decoded, product, error, largest] = products(number, quotient);
        let square = f64::from(scale) * f64::from(scale);
        Some(StretchFigures {
            extremes,
            source: (decoded + 2.0 * product + error).max(0.0) * square,
            decoded: decoded * square,
            product: (decoded + product) * square,
            error: error * square,
            // The quotient is rounded, to within 2^-24 of 448 at most.
            largest_error: (largest * 1.000_001 + 3e-5) * f64::from(scale),
            saturated: saturated.into(),
            flushed: flushed.into(),
            clamped,
        })
    }
}

/// Returns whether each number is the nearest to its quotient, as `nearest` has it.
#[inline(always)]
fn agree(quotient: &[f32], number: &[f32], nearest: impl Fn(f32) -> f32) -> bool {
    let mut differ = 0u32;
    for (&quotient, &number) in quotient.iter().zip(number) {
        differ |= u32::from(nearest(quotient) != number);
    }
    differ == 0
}

/// Counts the quotients that lie beyond the last value.
#[inline(always)]
fn beyond(book: &Codebook, zero: f32, quotient: &[f32]) -> u32 {
    let is_beyond = |quotient: f32| (quotient > book.largest) | (quotient < book.least);
    quotient.iter().map(|&quotient| u32::from(is_beyond(quotient + zero))).sum()
}

/// Counts the codes that are an end of the format and to which the quotient does not round, as it is or in the dtype of the weights.
fn clamped(book: &Codebook, zero: f32, quotient: &[f32], codes: &[u8], dtype: Dtype) -> Occurrences {
    let mut clamped = Occurrences::default();
    for (index, (&quotient, &code)) in quotient.iter().zip(codes).enumerate() {
        let exact = quotient + zero;
        let is_beyond = (exact > book.largest) | (exact < book.least);
        if is_beyond
            && !book.rounds_to(exact, zero, code)
            && !book.rounds_to(round(round(quotient, dtype) + zero, dtype), zero, code)
        {
            clamped.add([0, index]);
        }
    }
    clamped
}

/// Rounds to the nearest number of BF16, ties to even.
//
// What `half` does, without its branch for numbers that are none, so that a loop over it becomes vector instructions.
#[inline(always)]
fn to_bf16(number: f32) -> f32 {
    let bits = number.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000);
    if number.is_nan() { number } else { rounded }
}

/// Returns whether each code is one that rounding gives, of the quotient as it is, on whichever side of a tie, or in the dtype
/// of the weights, as the reference has it on a CPU.
fn is_explained(book: &Codebook, zero: f32, quotient: &[f32], codes: &[u8], dtype: Dtype) -> bool {
    let explained = |rounded: &dyn Fn(f32) -> f32| {
        quotient.iter().zip(codes).all(|(&quotient, &code)| {
            let [low, high] = book.interval[usize::from(code)];
            let (exact, rounded) = (quotient + zero, rounded(rounded(quotient) + zero));
            (exact >= low && exact <= high) || (rounded >= low && rounded <= high)
        })
    };
    match dtype {
        Dtype::BF16 => explained(&|number| bf16::from_f32(number).to_f32()),
        _ => explained(&|number| round(number, dtype)),
    }
}

/// Returns the extremes of finite weights.
//
// The bits of positive floats are ordered as integers, and those of negative ones are negative integers: maxima of
// integers become vector instructions, where those of floats would not.
#[inline(always)]
fn extremes(Stretch { weights, stored, dtype, .. }: Stretch<'_>) -> Extremes {
    if dtype == Dtype::BF16 {
        let (mut greatest, mut least) = (0i16, 0i16);
        for raw in stored.as_chunks().0 {
            let bits = i16::from_le_bytes(*raw);
            greatest = greatest.max(bits);
            least = least.max(bits ^ i16::MIN);
        }
        let float = |bits: i16| bf16::from_bits(bits.cast_unsigned()).to_f32();
        return Extremes { least: -float(least), greatest: float(greatest) };
    }
    let (mut greatest, mut least) = (0i32, 0i32);
    for weight in weights {
        let bits = weight.to_bits().cast_signed();
        greatest = greatest.max(bits);
        least = least.max(bits ^ i32::MIN);
    }
    let float = |bits: i32| f32::from_bits(bits.cast_unsigned());
    Extremes { least: -float(least), greatest: float(greatest) }
}

/// Returns the sums of number², number × error and error², and the largest error.
//
// One pass for each: a loop over all four at once becomes instructions for single numbers.
#[inline(always)]
fn products(number: &[f32], error: &[f32]) -> [f64; 4] {
    let product = |sum: f32, [one, other]: [f32; 2]| sum + one * other;
    let largest = fold(error, error, |most, [error, _]| if error.abs() > most { error.abs() } else { most });
    [
        total(fold(number, number, product)),
        total(fold(number, error, product)),
        total(fold(error, error, product)),
        largest.into_iter().fold(0.0, f32::max).into(),
    ]
}

/// Returns the sum of the lanes.
//
// Halves are added to halves, which vectors can do, where one sum of F64 after the other takes as long as a group of few weights.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f64 {
    let half: [f32; LANES / 2] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + LANES / 2]);
    f64::from((half[0] + half[2]) + (half[1] + half[3]))
}

/// Folds pairs of numbers into one figure of each lane.
#[inline(always)]
fn fold(ones: &[f32], others: &[f32], step: impl Fn(f32, [f32; 2]) -> f32) -> [f32; LANES] {
    let mut lanes = [0f32; LANES];
    let ((ones, last_ones), (others, last_others)) = (ones.as_chunks::<LANES>(), others.as_chunks::<LANES>());
    for (ones, others) in ones.iter().zip(others) {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], [ones[lane], others[lane]]);
        }
    }
    // Fewer than a vector are left, as a rule none.
    for (lane, (&one, &other)) in lanes.iter_mut().zip(last_ones.iter().zip(last_others)) {
        *lane = step(*lane, [one, other]);
    }
    lanes
}

#[cfg(test)]
mod tests {
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
                let stretch = Stretch { codes, weights: &weights, stored: &stored, dtype: Dtype::BF16 };
                arrays.figures(book, Qparams { scale, zero }, stretch)
            };
            let found = figures(&codes).unwrap();
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
            assert_eq!((found.flushed, found.saturated), (flushed.count() as u64, 0));
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
            let stored: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let mut codes: Vec<u8> =
                weights.iter().map(|weight| code_of(book, book.nearest(weight / scale + zero))).collect();
            let mut arrays = StretchArrays::default();
            let mut figures = |codes: &[u8]| {
                let stretch = Stretch { codes, weights: &weights, stored: &stored, dtype: Dtype::F32 };
                arrays.figures(book, Qparams { scale, zero }, stretch)
            };
            let found = figures(&codes).unwrap();
            assert_eq!((found.clamped.number, found.clamped.first, found.saturated), (3, [0, 5], 6));
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
        let (exact, rounded) = (codes(&|quotient| quotient), codes(&to_bf16));
        assert_ne!(exact, rounded);
        let mut arrays = StretchArrays::default();
        for (codes, is_rounded) in [(&exact, false), (&rounded, true), (&rounded, true), (&exact, false)] {
            let stretch = Stretch { codes, weights: &weights, stored: &stored, dtype: Dtype::BF16 };
            assert!(arrays.figures(book, Qparams { scale, zero: 0.0 }, stretch).is_some());
            assert_eq!(arrays.is_rounded_first, is_rounded);
        }
    }

    #[test]
    fn numbers_are_rounded_to_bf16_as_half_does() {
        for high in 0..=u32::from(u16::MAX) {
            for low in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let number = f32::from_bits(high << 16 | low);
                let (ours, theirs) = (to_bf16(number), bf16::from_f32(number).to_f32());
                assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{number:e}");
            }
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
            let mut weights = vec![1.0; 40];
            weights[33] = bad;
            let stored: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let codes = vec![code_of(book, 1.0); 40];
            let stretch = Stretch { codes: &codes, weights: &weights, stored: &stored, dtype: Dtype::F32 };
            assert!(StretchArrays::default().figures(book, Qparams { scale: 1.0, zero: 0.0 }, stretch).is_none());
            let sound =
                Stretch { codes: &codes[..33], weights: &weights[..33], stored: &stored[..132], dtype: Dtype::F32 };
            for scale in [bad, 0.0, -1.0] {
                assert!(StretchArrays::default().figures(book, Qparams { scale, zero: 0.0 }, sound).is_none());
            }
        }
    }
}
