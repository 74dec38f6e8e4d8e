//! Sums of squares, in F64: of source weights, and of their differences from decoded ones.

use super::element::{Bf16, Element, F16, F32};
use crate::simd::Vectorized;
use crate::{Simd, SourceDtype};

/// Sums that run side by side, so that the order of adding is one whatever the width of a vector.
const LANES: usize = 8;

/// Returns the sum of the squared weights, and that of their squared differences from `decoded`, which holds as many F32.
pub(crate) fn squares(dtype: SourceDtype, weights: &[u8], decoded: &[u8], simd: Simd) -> [f64; 2] {
    let decoded = decoded.as_chunks().0;
    match dtype {
        SourceDtype::Bf16 => simd.run(Squares::<Bf16> { weights: Bf16::elements(weights), decoded }),
        SourceDtype::F16 => simd.run(Squares::<F16> { weights: F16::elements(weights), decoded }),
        SourceDtype::F32 => simd.run(Squares::<F32> { weights: F32::elements(weights), decoded }),
    }
}

struct Squares<'a, E: Element> {
    weights: &'a [E::Raw],
    decoded: &'a [[u8; 4]],
}

impl<E: Element> Vectorized for Squares<'_, E> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run(self, _: Simd) -> [f64; 2] {
        let (mut signal, mut noise) = ([0f64; LANES], [0f64; LANES]);
        let (weights, last) = self.weights.as_chunks::<LANES>();
        let (decoded, last_decoded) = self.decoded.as_chunks::<LANES>();
        for (weights, decoded) in weights.iter().zip(decoded) {
            for lane in 0..LANES {
                add::<E>(weights[lane], decoded[lane], &mut signal[lane], &mut noise[lane]);
            }
        }
        for (lane, (weight, decoded)) in last.iter().zip(last_decoded).enumerate() {
            add::<E>(*weight, *decoded, &mut signal[lane], &mut noise[lane]);
        }
        [signal.iter().sum(), noise.iter().sum()]
    }
}

#[inline(always)]
fn add<E: Element>(weight: E::Raw, decoded: [u8; 4], signal: &mut f64, noise: &mut f64) {
    let weight = f64::from(E::value(weight));
    let difference = weight - f64::from(f32::from_le_bytes(decoded));
    *signal += weight * weight;
    *noise += difference * difference;
}
