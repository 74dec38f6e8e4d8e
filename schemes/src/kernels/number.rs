//! Writing numbers of the source dtypes.

use half::f16;

use super::element::{Bf16, Element, F16, F32};

/// An element whose numbers can be written.
pub(super) trait Number: Element {
    /// The bytes cut into elements.
    fn row(bytes: &mut [u8]) -> &mut [Self::Raw];

    /// The nearest number of this dtype, ties to even.
    fn rounded(number: f32) -> Self::Raw;
}

impl Number for Bf16 {
    #[inline(always)]
    fn row(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn rounded(number: f32) -> [u8; 2] {
        // What `half` does, without its branch, so that a loop over it becomes vector instructions.
        let bits = number.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        (if number.is_nan() { quiet } else { rounded } as u16).to_le_bytes()
    }
}

impl Number for F16 {
    #[inline(always)]
    fn row(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn rounded(number: f32) -> [u8; 2] {
        f16::from_f32(number).to_le_bytes()
    }
}

impl Number for F32 {
    #[inline(always)]
    fn row(bytes: &mut [u8]) -> &mut [[u8; 4]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn rounded(number: f32) -> [u8; 4] {
        number.to_le_bytes()
    }
}
