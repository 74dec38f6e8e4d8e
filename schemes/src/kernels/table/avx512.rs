//! AVX-512 (F, BW and VBMI): half a tile is two vectors of elements, and then one of bytes.

use std::arch::x86_64::*;

use super::codes::CodeTable;
use super::tile::{Half, HalfCodes};
use super::vector::{self, Vector};

/// Casts half a tile: see [`cast_half`](super::vector::cast_half).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn cast_half<const EACH: bool>(
    half: &Half,
    table: &CodeTable,
    bases: [u8; 2],
    codes: &mut HalfCodes,
) -> u64 {
    // SAFETY: this function has all three enabled, and the work is inlined into it.
    unsafe { vector::cast_half::<Avx512Bytes, EACH>(half, table, bases, codes) }
}

/// 64 bytes, in the order of the elements.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bytes(__m512i);

impl Vector for Avx512Bytes {
    const LANES: usize = 64;
    type Mask = u64;

    #[inline(always)]
    unsafe fn load_apart(source: *const [u8; 2]) -> (Self, Self) {
        // SAFETY: the caller has AVX-512 and 64 elements at `source`, the bytes of two vectors; no load needs alignment.
        unsafe {
            let pointer = source.cast::<__m512i>();
            let [former, latter] = [_mm512_loadu_si512(pointer), _mm512_loadu_si512(pointer.add(1))];
            let low = _mm512_permutex2var_epi8(former, load(&EVEN), latter);
            let high = _mm512_permutex2var_epi8(former, load(&ODD), latter);
            (Self(low), Self(high))
        }
    }

    #[inline(always)]
    unsafe fn store(self, codes: *mut u8) {
        // SAFETY: the caller has AVX-512 and room for 64 bytes; this store needs no alignment.
        unsafe { _mm512_storeu_si512(codes.cast(), self.0) };
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_set1_epi8(byte as i8) })
    }

    #[inline(always)]
    unsafe fn bases([former, latter]: [u8; 2], _: usize) -> Self {
        // SAFETY: the caller has AVX-512. A vector is half a tile.
        unsafe {
            let former = _mm512_set1_epi8(former as i8);
            Self(_mm512_inserti64x4::<1>(former, _mm256_set1_epi8(latter as i8)))
        }
    }

    #[inline(always)]
    unsafe fn exponents(low: Self, high: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        unsafe {
            let even = _mm512_add_epi8(high.0, high.0);
            Self(_mm512_mask_sub_epi8(even, _mm512_movepi8_mask(low.0), even, _mm512_set1_epi8(-1)))
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: &CodeTable, low: Self) -> Self {
        let [former, latter] = table.codes.as_chunks::<64>().0 else { unreachable!("128 are twice 64") };
        // SAFETY: the caller has AVX-512. The highest bit of an index does not count.
        unsafe { Self(_mm512_permutex2var_epi8(load(former), low.0, load(latter))) }
    }

    /// Shifts words, since there is no shift of bytes: the bytes are below 32, and nothing crosses into a neighbour.
    #[inline(always)]
    unsafe fn times_8(self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_slli_epi16::<3>(self.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_min_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn wrapping_sub(self, other: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_sub_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_add(self, other: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_adds_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_sub(self, other: Self) -> Self {
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_subs_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn below(self, limit: u8) -> u64 {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_cmplt_epu8_mask(self.0, Self::splat(limit).0) }
    }

    #[inline(always)]
    unsafe fn with_sign_of(self, high: Self) -> Self {
        const A_OR_B_AND_C: i32 = 0b1111_1000;
        // SAFETY: the caller has AVX-512.
        Self(unsafe { _mm512_ternarylogic_epi64::<A_OR_B_AND_C>(self.0, high.0, _mm512_set1_epi8(i8::MIN)) })
    }

    #[inline(always)]
    unsafe fn no_flags() -> u64 {
        0
    }

    #[inline(always)]
    unsafe fn either(a: u64, b: u64) -> u64 {
        a | b
    }

    #[inline(always)]
    unsafe fn any(mask: u64) -> bool {
        mask != 0
    }

    #[inline(always)]
    unsafe fn bits(mask: u64) -> u64 {
        mask
    }
}

/// Loads the bytes of a vector.
///
/// # Safety
/// AVX-512 F is enabled where this is inlined.
#[inline(always)]
unsafe fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: as promised by the caller; this load needs no alignment.
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
