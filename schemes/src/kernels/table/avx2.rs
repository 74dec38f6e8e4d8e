//! AVX2: a quarter of a tile is two vectors of elements, and then one of bytes.

use std::arch::x86_64::*;

use super::{Half, HalfCodes, LIFT, LIFTED_LEAST, OCTAVES, QUARTER, SMALL, Table};

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn look_up(half: &Half, table: &Table, bases: [u8; 2], codes: &mut HalfCodes) -> bool {
    let mut any = _mm256_setzero_si256();
    for ((quarter, base), codes) in half.as_chunks().0.iter().zip(bases).zip(codes.as_chunks_mut::<QUARTER>().0) {
        let (signed, small) = cast(quarter, table, base);
        // SAFETY: 32 codes are the bytes of a vector; this store needs no alignment.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), in_order(signed)) };
        any = _mm256_or_si256(any, small);
    }
    // Of a test for zero LLVM would make shuffles, when it joins those of two halves.
    _mm256_movemask_epi8(any) != 0
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn small(half: &Half, table: &Table, bases: [u8; 2]) -> u64 {
    let [former, latter] = half.as_chunks().0 else { unreachable!("a half has two quarters") };
    let small = [cast(former, table, bases[0]).1, cast(latter, table, bases[1]).1];
    let [former, latter] = small.map(|small| u64::from(_mm256_movemask_epi8(in_order(small)) as u32));
    former | latter << QUARTER
}

/// The codes of a quarter, and all bits of those elements that need a division, in the order of unpacked ones.
#[target_feature(enable = "avx2")]
#[inline]
fn cast(quarter: &[[u8; 2]; QUARTER], table: &Table, base: u8) -> (__m256i, __m256i) {
    // Eight low bytes, then eight high ones, in each half of a vector.
    let apart = twice(&[0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]);
    // SAFETY: 32 elements of 2 bytes are the bytes of two vectors; these loads need no alignment.
    let [former, latter] = unsafe {
        let pointer = quarter.as_ptr().cast::<__m256i>();
        [_mm256_loadu_si256(pointer), _mm256_loadu_si256(pointer.add(1))]
    };
    let [former, latter] = [_mm256_shuffle_epi8(former, apart), _mm256_shuffle_epi8(latter, apart)];
    let low = _mm256_unpacklo_epi64(former, latter);
    let high = _mm256_unpackhi_epi64(former, latter);
    let zero = _mm256_setzero_si256();
    // The lowest bit of an exponent is the highest of the low byte; what is true is -1.
    let exponent = _mm256_sub_epi8(_mm256_add_epi8(high, high), _mm256_cmpgt_epi8(zero, low));
    let octaves = _mm256_subs_epu8(exponent, _mm256_set1_epi8(base as i8));
    let octaves = _mm256_min_epu8(octaves, _mm256_set1_epi8(OCTAVES as i8));
    let mantissa = _mm256_and_si256(low, _mm256_set1_epi8(0x7F));
    let eight = _mm256_and_si256(_mm256_srli_epi16::<3>(low), _mm256_set1_epi8(0x0F));
    let [first, last] = [&table.first, &table.last].map(|table| _mm256_shuffle_epi8(twice(table), eight));
    let step = _mm256_sub_epi8(first, _mm256_cmpgt_epi8(mantissa, last));
    let lifted = _mm256_adds_epu8(_mm256_slli_epi16::<3>(octaves), step);
    let above = _mm256_sub_epi8(lifted, _mm256_set1_epi8(LIFTED_LEAST as i8));
    let small = _mm256_cmpeq_epi8(_mm256_min_epu8(above, _mm256_set1_epi8((SMALL - 1) as i8)), above);
    let code = _mm256_subs_epu8(lifted, _mm256_set1_epi8(LIFT as i8));
    (_mm256_or_si256(code, _mm256_and_si256(high, _mm256_set1_epi8(i8::MIN))), small)
}

/// Undoes that unpacking works on the two halves of a vector apart.
#[target_feature(enable = "avx2")]
#[inline]
fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes)
}

/// Sixteen bytes in each half of a vector.
#[target_feature(enable = "avx2")]
#[inline]
fn twice(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: these are the bytes of half a vector; this load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}
