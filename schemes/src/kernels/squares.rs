//! Sums of squares, in F64: of source weights, and of their differences from decoded ones.

use super::element::{Bf16, Element, F16, F32};
use crate::simd::Vectorized;
use crate::{Simd, SourceDtype};

/// Sums that run side by side, so that the order of adding is one whatever the width of a vector.
//
// Two vectors of AVX-512, of which one is added to while the sum of the other is under way.
const LANES: usize = 16;

/// Returns the sum of the squared weights.
pub(crate) fn squares(dtype: SourceDtype, weights: &[u8], simd: Simd) -> f64 {
    match dtype {
        SourceDtype::Bf16 => simd.run(Squares::<Bf16> { weights: Bf16::elements(weights) }),
        SourceDtype::F16 => simd.run(Squares::<F16> { weights: F16::elements(weights) }),
        SourceDtype::F32 => simd.run(Squares::<F32> { weights: F32::elements(weights) }),
    }
}

/// Returns the sum of the squared differences of the weights from `decoded`, which holds as many F32.
pub(crate) fn squared_differences(dtype: SourceDtype, weights: &[u8], decoded: &[u8], simd: Simd) -> f64 {
    let decoded = decoded.as_chunks().0;
    match dtype {
        SourceDtype::Bf16 => simd.run(Differences::<Bf16> { weights: Bf16::elements(weights), decoded }),
        SourceDtype::F16 => simd.run(Differences::<F16> { weights: F16::elements(weights), decoded }),
        SourceDtype::F32 => simd.run(Differences::<F32> { weights: F32::elements(weights), decoded }),
    }
}

struct Squares<'a, E: Element> {
    weights: &'a [E::Raw],
}

struct Differences<'a, E: Element> {
    weights: &'a [E::Raw],
    decoded: &'a [[u8; 4]],
}

impl<E: Element> Vectorized for Squares<'_, E> {
    type Output = f64;

    #[inline(always)]
    fn run(self, _: Simd) -> f64 {
        let mut sums = [0f64; LANES];
        let (weights, last) = self.weights.as_chunks::<LANES>();
        for weights in weights {
            // One step for all lanes, and then the next one: a loop of both becomes instructions for single numbers.
            let mut wide = [0f64; LANES];
            for lane in 0..LANES {
                wide[lane] = f64::from(E::value(weights[lane]));
            }
            add_squares(&wide, &mut sums);
        }
        for (sum, weight) in sums.iter_mut().zip(last) {
            *sum += f64::from(E::value(*weight)).powi(2);
        }
        sums.iter().sum()
    }
}

impl<E: Element> Vectorized for Differences<'_, E> {
    type Output = f64;

    #[inline(always)]
    fn run(self, _: Simd) -> f64 {
        let mut sums = [0f64; LANES];
        let (weights, last) = self.weights.as_chunks::<LANES>();
        let (decoded, last_decoded) = self.decoded.as_chunks::<LANES>();
        for (weights, decoded) in weights.iter().zip(decoded) {
            let mut differences = [0f64; LANES];
            for lane in 0..LANES {
                differences[lane] = difference::<E>(weights[lane], decoded[lane]);
            }
            add_squares(&differences, &mut sums);
        }
        for ((sum, weight), decoded) in sums.iter_mut().zip(last).zip(last_decoded) {
            *sum += difference::<E>(*weight, *decoded).powi(2);
        }
        sums.iter().sum()
    }
}

#[inline(always)]
fn difference<E: Element>(weight: E::Raw, decoded: [u8; 4]) -> f64 {
    f64::from(E::value(weight)) - f64::from(f32::from_le_bytes(decoded))
}

#[inline(always)]
fn add_squares(numbers: &[f64; LANES], sums: &mut [f64; LANES]) {
    for lane in 0..LANES {
        sums[lane] += numbers[lane] * numbers[lane];
    }
}
