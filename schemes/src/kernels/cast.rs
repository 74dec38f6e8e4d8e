//! The cast to E4M3 by itself, for schemes that find their scales in a way of their own.

use super::division::divide;
use super::element::{Bf16, Element, F16, F32};
use crate::simd::Vectorized;
use crate::{Simd, SourceDtype};

/// Divides finite elements of `dtype` by a positive `scale` in `f32` and rounds each quotient once to E4M3, ties to even;
/// what lies beyond ±448 becomes ±448. `out` gets one code per element; `bytes` may have any alignment.
///
/// # Panics
/// `bytes` are not as many elements as `out` has places.
pub fn cast_e4m3(dtype: SourceDtype, bytes: &[u8], scale: f32, simd: Simd, out: &mut [u8]) {
    assert_eq!(bytes.len(), out.len() * dtype.bytes(), "every element has a place for its code");
    match dtype {
        SourceDtype::Bf16 => simd.run(ByOne::<Bf16> { elements: Bf16::elements(bytes), scale, out }),
        SourceDtype::F16 => simd.run(ByOne::<F16> { elements: F16::elements(bytes), scale, out }),
        SourceDtype::F32 => simd.run(ByOne::<F32> { elements: F32::elements(bytes), scale, out }),
    }
}

/// Elements under one scale, in one run.
struct ByOne<'a, E: Element> {
    elements: &'a [E::Raw],
    scale: f32,
    out: &'a mut [u8],
}

impl<E: Element> Vectorized for ByOne<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        divide::<E, false>(self.elements, self.scale, self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_divides_rounds_and_saturates() {
        let values = [0.0f32, -0.0, 1.0, -1.0, 17.0, 19.0, 896.0, 1000.0, -1e30, 2f32.powi(-9), 2f32.powi(-10)];
        let codes = [0x00, 0x80, 0x30, 0xB0, 0x50, 0x52, 0x7E, 0x7E, 0xFE, 0x00, 0x00];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for simd in Simd::available() {
            let mut out = [0xA5; 11];
            cast_e4m3(SourceDtype::F32, &bytes, 2.0, simd, &mut out);
            assert_eq!(out, codes, "{simd}");
        }
    }
}
