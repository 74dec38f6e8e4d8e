//! AVX2: a quarter of a tile is two vectors of elements, and then one of bytes.

use std::arch::x86_64::*;

use super::codes::CodeTable;
use super::tile::{Half, HalfCodes};
use super::vector::{self, Vector};

/// Casts half a tile: see [`cast_half`](super::vector::cast_half).
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn cast_half<const EACH: bool>(
    half: &Half,
    table: &CodeTable,
    bases: [u8; 2],
    codes: &mut HalfCodes,
) -> u64 {
    // SAFETY: this function has AVX2 enabled, and the work is inlined into it.
    unsafe { vector::cast_half::<Avx2Bytes, EACH>(half, table, bases, codes) }
}

/// 32 bytes, in the order that unpacking leaves them in: [`in_order`] undoes it.
#[derive(Clone, Copy)]
pub(super) struct Avx2Bytes(__m256i);

impl Vector for Avx2Bytes {
    const LANES: usize = 32;
    type Mask = __m256i;

    #[inline(always)]
    unsafe fn load_apart(source: *const [u8; 2]) -> (Self, Self) {
        // SAFETY: the caller has AVX2 and 32 elements at `source`, the bytes of two vectors; no load needs alignment.
        unsafe {
            // Eight low bytes, then eight high ones, in each half of a vector.
            let apart = twice(&[0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]);
            let pointer = source.cast::<__m256i>();
            let former = _mm256_shuffle_epi8(_mm256_loadu_si256(pointer), apart);
            let latter = _mm256_shuffle_epi8(_mm256_loadu_si256(pointer.add(1)), apart);
            (Self(_mm256_unpacklo_epi64(former, latter)), Self(_mm256_unpackhi_epi64(former, latter)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, codes: *mut u8) {
        // SAFETY: the caller has AVX2 and room for 32 bytes; this store needs no alignment.
        unsafe { _mm256_storeu_si256(codes.cast(), in_order(self.0)) };
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_set1_epi8(byte as i8) })
    }

    #[inline(always)]
    unsafe fn bases(bases: [u8; 2], index: usize) -> Self {
        // A choice and no index: an array that is indexed stays in memory, and cost 3 % with AVX2.
        // SAFETY: the caller has AVX2. A vector is a quarter of a tile.
        unsafe { Self::splat(if index == 0 { bases[0] } else { bases[1] }) }
    }

    #[inline(always)]
    unsafe fn exponents(low: Self, high: Self) -> Self {
        // SAFETY: the caller has AVX2. What is true in a comparison is -1, and so is a set highest bit less than zero.
        unsafe {
            let odd = _mm256_cmpgt_epi8(_mm256_setzero_si256(), low.0);
            Self(_mm256_sub_epi8(_mm256_add_epi8(high.0, high.0), odd))
        }
    }

    /// Looks up the first code of each 8 mantissas and the last mantissa that has it: AVX2 has no lookup among 128 bytes.
    #[inline(always)]
    unsafe fn look_up(table: &CodeTable, low: Self) -> Self {
        // SAFETY: the caller has AVX2.
        unsafe {
            let mantissa = _mm256_and_si256(low.0, _mm256_set1_epi8(0x7F));
            let eight = _mm256_and_si256(_mm256_srli_epi16::<3>(low.0), _mm256_set1_epi8(0x0F));
            let first = _mm256_shuffle_epi8(twice(&table.first), eight);
            let last = _mm256_shuffle_epi8(twice(&table.last), eight);
            Self(_mm256_sub_epi8(first, _mm256_cmpgt_epi8(mantissa, last)))
        }
    }

    /// Shifts words, since there is no shift of bytes: the bytes are below 32, and nothing crosses into a neighbour.
    #[inline(always)]
    unsafe fn times_8(self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_slli_epi16::<3>(self.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_min_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn wrapping_sub(self, other: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_sub_epi8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_add(self, other: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_adds_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_sub(self, other: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_subs_epu8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn below(self, limit: u8) -> __m256i {
        // SAFETY: the caller has AVX2, which compares signed bytes only: a byte is below if the least of it and
        // `limit - 1` is itself.
        unsafe { _mm256_cmpeq_epi8(self.min(Self::splat(limit - 1)).0, self.0) }
    }

    #[inline(always)]
    unsafe fn with_sign_of(self, high: Self) -> Self {
        // SAFETY: the caller has AVX2.
        Self(unsafe { _mm256_or_si256(self.0, _mm256_and_si256(high.0, _mm256_set1_epi8(i8::MIN))) })
    }

    #[inline(always)]
    unsafe fn no_flags() -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn either(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller has AVX2.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn any(mask: __m256i) -> bool {
        // SAFETY: the caller has AVX2. Of a test for zero LLVM would make shuffles, when it joins those of two halves.
        unsafe { _mm256_movemask_epi8(mask) != 0 }
    }

    #[inline(always)]
    unsafe fn bits(mask: __m256i) -> u64 {
        // SAFETY: the caller has AVX2.
        u64::from(unsafe { _mm256_movemask_epi8(in_order(mask)) } as u32)
    }
}

/// Undoes that unpacking works on the two halves of a vector apart.
///
/// # Safety
/// AVX2 is enabled where this is inlined.
#[inline(always)]
unsafe fn in_order(bytes: __m256i) -> __m256i {
    // SAFETY: as promised by the caller.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes) }
}

/// Loads sixteen bytes into each half of a vector.
///
/// # Safety
/// AVX2 is enabled where this is inlined.
#[inline(always)]
unsafe fn twice(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: as promised by the caller; these are the bytes of half a vector, and this load needs no alignment.
    unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
}
