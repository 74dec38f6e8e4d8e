//! AVX2: 16 elements in a vector, and a chunk in two times two of them.

use std::arch::x86_64::*;

use super::{Bf16, CHUNK, Chunk, Divisor, LIFT, LIFTED_MAX, LIFTED_NORMAL, Tile, by_chunks, divide_chunk};
use crate::Simd;

#[target_feature(enable = "avx2")]
pub(super) fn cast<const TIES: bool>(tile: Tile<'_, Bf16>, divisor: Divisor, simd: Simd) {
    by_chunks(tile, |chunk, codes| cast_chunk::<TIES>(chunk, divisor, codes, simd));
}

#[target_feature(enable = "avx2")]
#[inline]
fn cast_chunk<const TIES: bool>(chunk: &Chunk, divisor: Divisor, codes: &mut [u8; CHUNK], simd: Simd) {
    let mut lowest = _mm256_set1_epi8(-1);
    let (pairs, halves) = (chunk.as_chunks::<32>().0, codes.as_chunks_mut::<32>().0);
    for (pair, half) in pairs.iter().zip(halves) {
        // SAFETY: 32 elements of 2 bytes are the bytes of two vectors; these loads need no alignment.
        let [low, high] = unsafe {
            let pointer = pair.as_ptr().cast::<__m256i>();
            [_mm256_loadu_si256(pointer), _mm256_loadu_si256(pointer.add(1))]
        };
        let lifted = _mm256_packus_epi16(word::<TIES>(low, divisor), word::<TIES>(high, divisor));
        let lifted = _mm256_min_epu8(lifted, _mm256_set1_epi8(LIFTED_MAX as i8));
        // Zero, which needs nothing, goes to the top.
        lowest = _mm256_min_epu8(lowest, _mm256_sub_epi8(lifted, _mm256_set1_epi8(1)));
        // Saturation keeps the sign.
        let signs = _mm256_and_si256(_mm256_packs_epi16(low, high), _mm256_set1_epi8(i8::MIN));
        let codes = _mm256_or_si256(_mm256_subs_epu8(lifted, _mm256_set1_epi8(LIFT as i8)), signs);
        // Packing works on the two halves of a vector apart.
        let codes = _mm256_permute4x64_epi64::<0b11_01_10_00>(codes);
        // SAFETY: 32 codes are the bytes of a vector; this store needs no alignment.
        unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), codes) };
    }
    let limit = _mm256_set1_epi8(LIFTED_NORMAL as i8 - 2);
    let low = _mm256_cmpeq_epi8(_mm256_min_epu8(lowest, limit), lowest);
    if _mm256_testz_si256(low, low) == 0 {
        divide_chunk(chunk, divisor, codes, simd);
    }
}

/// The lifted codes of 16 elements as signed words, not yet clamped.
#[target_feature(enable = "avx2")]
#[inline]
fn word<const TIES: bool>(x: __m256i, divisor: Divisor) -> __m256i {
    let m = _mm256_or_si256(_mm256_slli_epi16::<8>(x), _mm256_set1_epi16(i16::MIN));
    // `mulhrs` gives `(a * b + 2^14) >> 15`.
    let product = _mm256_mulhrs_epi16(m, _mm256_set1_epi16(divisor.reciprocal));
    let p = _mm256_add_epi16(product, _mm256_set1_epi16(divisor.shift));
    let mut v = _mm256_min_epi16(p, _mm256_add_epi16(p, p));
    if TIES {
        v = _mm256_sub_epi16(v, _mm256_andnot_si256(_mm256_srli_epi16::<8>(v), _mm256_set1_epi16(8)));
    }
    // That is `(v + 2^10) >> 11`.
    let step = _mm256_mulhrs_epi16(v, _mm256_set1_epi16(16));
    let octaves = _mm256_and_si256(_mm256_srli_epi16::<4>(x), _mm256_set1_epi16(0x7F8));
    _mm256_sub_epi16(_mm256_add_epi16(octaves, step), _mm256_set1_epi16(divisor.offset))
}
