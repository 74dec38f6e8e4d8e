//! The quotients of weights and scales, and the codes that rounding gives them.
//!
//! What all quotients of a stretch go through is a loop without branches, as those of [`super::stretch`] are, and a part of its
//! vector instructions.

use safetensors::Dtype;

use super::occurrences::Occurrences;
use crate::decode::{Codebook, round, round_to_bf16};

/// Returns whether each number is the nearest to its quotient with the zero point, in F32 or, `ROUNDED`, each step rounded to
/// BF16.
#[inline(always)]
pub(super) fn agree<const ROUNDED: bool>(book: &Codebook, zero: &[f32], quotient: &[f32], number: &[f32]) -> bool {
    let mut differ = 0u32;
    for ((&quotient, &zero), &number) in quotient.iter().zip(zero).zip(number) {
        let exact = if ROUNDED { round_to_bf16(round_to_bf16(quotient) + zero) } else { quotient + zero };
        differ |= u32::from(book.nearest(exact) != number);
    }
    differ == 0
}

/// Counts the quotients that lie beyond the last value.
#[inline(always)]
pub(super) fn beyond(book: &Codebook, zero: &[f32], quotient: &[f32]) -> u32 {
    let mut beyond = 0;
    for (&quotient, &zero) in quotient.iter().zip(zero) {
        let exact = quotient + zero;
        beyond += u32::from((exact > book.largest) | (exact < book.least));
    }
    beyond
}

/// Returns the weights of a group that are clamped.
pub(super) fn clamped(book: &Codebook, zero: f32, quotient: &[f32], dtype: Dtype) -> Occurrences {
    let mut clamped = Occurrences::default();
    for (index, &quotient) in quotient.iter().enumerate() {
        if is_clamped(book, zero, quotient, dtype) {
            clamped.add([0, index]);
        }
    }
    clamped
}

/// Reports whether a quotient lies beyond the last value and does not round to it, neither as it is nor in the dtype of the
/// weights. Its code is that value's all the same: no other one is explained.
#[inline(always)]
pub(super) fn is_clamped(book: &Codebook, zero: f32, quotient: f32, dtype: Dtype) -> bool {
    book.is_beyond_rounding(quotient + zero, zero)
        && book.is_beyond_rounding(round(round(quotient, dtype) + zero, dtype), zero)
}

/// Returns whether each code is one that rounding gives, of the quotient as it is, on whichever side of a tie, or in the dtype
/// of the weights, as the reference has it on a CPU.
pub(super) fn is_explained(book: &Codebook, zero: &[f32], quotient: &[f32], codes: &[u8], dtype: Dtype) -> bool {
    quotient.iter().zip(zero).zip(codes).all(|((&quotient, &zero), &code)| {
        let [low, high] = book.interval[usize::from(code)];
        let (exact, rounded) = (quotient + zero, round(round(quotient, dtype) + zero, dtype));
        (exact >= low && exact <= high) || (rounded >= low && rounded <= high)
    })
}
