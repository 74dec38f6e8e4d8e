//! AVX-512 (F and BW): 32 elements in a vector, and a chunk in two of them.

use std::arch::x86_64::*;

use super::{Bf16, CHUNK, Chunk, Divisor, LIFT, LIFTED_MAX, LIFTED_NORMAL, Tile, by_chunks, divide_chunk};
use crate::Simd;

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn cast<const TIES: bool>(tile: Tile<'_, Bf16>, divisor: Divisor, simd: Simd) {
    by_chunks(tile, |chunk, codes| cast_chunk::<TIES>(chunk, divisor, codes, simd));
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn cast_chunk<const TIES: bool>(chunk: &Chunk, divisor: Divisor, codes: &mut [u8; CHUNK], simd: Simd) {
    // SAFETY: 64 elements of 2 bytes are the bytes of two vectors; these loads need no alignment.
    let [low, high] = unsafe {
        let pointer = chunk.as_ptr().cast::<__m512i>();
        [_mm512_loadu_si512(pointer), _mm512_loadu_si512(pointer.add(1))]
    };
    let lifted = _mm512_packus_epi16(word::<TIES>(low, divisor), word::<TIES>(high, divisor));
    let lifted = _mm512_min_epu8(lifted, _mm512_set1_epi8(LIFTED_MAX as i8));
    // Zero, which needs nothing, goes to the top.
    let subnormal =
        _mm512_cmplt_epu8_mask(_mm512_sub_epi8(lifted, _mm512_set1_epi8(1)), _mm512_set1_epi8(LIFTED_NORMAL as i8 - 1));
    // Saturation keeps the sign.
    let signs = _mm512_packs_epi16(low, high);
    let unlifted = _mm512_subs_epu8(lifted, _mm512_set1_epi8(LIFT as i8));
    const A_OR_B_AND_C: i32 = 0b1111_1000;
    let merged = _mm512_ternarylogic_epi64::<A_OR_B_AND_C>(unlifted, signs, _mm512_set1_epi8(i8::MIN));
    // Packing works on the four quarters of a vector apart.
    let merged = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), merged);
    // SAFETY: 64 codes are the bytes of a vector; this store needs no alignment.
    unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), merged) };
    if subnormal != 0 {
        divide_chunk(chunk, divisor, codes, simd);
    }
}

/// The lifted codes of 32 elements as signed words, not yet clamped.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn word<const TIES: bool>(x: __m512i, divisor: Divisor) -> __m512i {
    let m = _mm512_or_si512(_mm512_slli_epi16::<8>(x), _mm512_set1_epi16(i16::MIN));
    // `mulhrs` gives `(a * b + 2^14) >> 15`.
    let product = _mm512_mulhrs_epi16(m, _mm512_set1_epi16(divisor.reciprocal));
    let p = _mm512_add_epi16(product, _mm512_set1_epi16(divisor.shift));
    let mut v = _mm512_min_epi16(p, _mm512_add_epi16(p, p));
    if TIES {
        v = _mm512_sub_epi16(v, _mm512_andnot_si512(_mm512_srli_epi16::<8>(v), _mm512_set1_epi16(8)));
    }
    // That is `(v + 2^10) >> 11`.
    let step = _mm512_mulhrs_epi16(v, _mm512_set1_epi16(16));
    let octaves = _mm512_and_si512(_mm512_srli_epi16::<4>(x), _mm512_set1_epi16(0x7F8));
    _mm512_sub_epi16(_mm512_add_epi16(octaves, step), _mm512_set1_epi16(divisor.offset))
}
