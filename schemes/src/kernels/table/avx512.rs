//! AVX-512 (F, BW and VBMI): half a tile is two vectors of elements, and then one of bytes.

use std::arch::x86_64::*;

use super::{Half, HalfCodes, LIFT, LIFTED_LEAST, OCTAVES, SMALL, Table};

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn look_up(half: &Half, table: &Table, bases: [u8; 2], codes: &mut HalfCodes) -> bool {
    let (signed, small) = cast(half, table, bases);
    // SAFETY: 64 codes are the bytes of a vector; this store needs no alignment.
    unsafe { _mm512_storeu_si512(codes.as_mut_ptr().cast(), signed) };
    small != 0
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn small(half: &Half, table: &Table, bases: [u8; 2]) -> u64 {
    cast(half, table, bases).1
}

/// The codes, and the elements that need a division.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn cast(half: &Half, table: &Table, bases: [u8; 2]) -> (__m512i, u64) {
    let [even, odd] = [load(&EVEN), load(&ODD)];
    // SAFETY: 64 elements of 2 bytes are the bytes of two vectors; these loads need no alignment.
    let [former, latter] = unsafe {
        let pointer = half.as_ptr().cast::<__m512i>();
        [_mm512_loadu_si512(pointer), _mm512_loadu_si512(pointer.add(1))]
    };
    let low = _mm512_permutex2var_epi8(former, even, latter);
    let high = _mm512_permutex2var_epi8(former, odd, latter);
    // The lowest bit of an exponent is the highest of the low byte.
    let exponent = _mm512_add_epi8(high, high);
    let exponent = _mm512_mask_sub_epi8(exponent, _mm512_movepi8_mask(low), exponent, _mm512_set1_epi8(-1));
    let base = _mm512_inserti64x4::<1>(_mm512_set1_epi8(bases[0] as i8), _mm256_set1_epi8(bases[1] as i8));
    let octaves = _mm512_min_epu8(_mm512_subs_epu8(exponent, base), _mm512_set1_epi8(OCTAVES as i8));
    let [former, latter] = table.codes.as_chunks::<64>().0 else { unreachable!("128 are twice 64") };
    // The highest bit of an index does not count.
    let step = _mm512_permutex2var_epi8(load(former), low, load(latter));
    let lifted = _mm512_adds_epu8(_mm512_slli_epi16::<3>(octaves), step);
    let above = _mm512_sub_epi8(lifted, _mm512_set1_epi8(LIFTED_LEAST as i8));
    let small = _mm512_cmplt_epu8_mask(above, _mm512_set1_epi8(SMALL as i8));
    let code = _mm512_subs_epu8(lifted, _mm512_set1_epi8(LIFT as i8));
    const A_OR_B_AND_C: i32 = 0b1111_1000;
    (_mm512_ternarylogic_epi64::<A_OR_B_AND_C>(code, high, _mm512_set1_epi8(i8::MIN)), small)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: these are the bytes of a vector; this load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The places of the low bytes of elements.
const EVEN: [u8; 64] = places(0);

/// The places of the high bytes.
const ODD: [u8; 64] = places(1);

const fn places(first: u8) -> [u8; 64] {
    let mut places = [0; 64];
    let mut index = 0;
    while index < 64 {
        places[index] = 2 * index as u8 + first;
        index += 1;
    }
    places
}
