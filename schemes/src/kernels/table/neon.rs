//! NEON: an eighth of a tile is one vector of low bytes and one of high ones.

use std::arch::aarch64::*;

use super::codes::CodeTable;
use super::tile::{Half, HalfCodes};
use super::vector::{self, Vector};

/// Casts half a tile: see [`cast_half`](super::vector::cast_half).
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn cast_half<const EACH: bool>(
    half: &Half,
    table: &CodeTable,
    bases: [u8; 2],
    codes: &mut HalfCodes,
) -> u64 {
    // SAFETY: this function has NEON enabled, and the work is inlined into it.
    unsafe { vector::cast_half::<NeonBytes, EACH>(half, table, bases, codes) }
}

/// 16 bytes, in the order of the elements.
#[derive(Clone, Copy)]
pub(super) struct NeonBytes(uint8x16_t);

impl Vector for NeonBytes {
    const LANES: usize = 16;
    type Mask = uint8x16_t;

    #[inline(always)]
    unsafe fn load_apart(source: *const [u8; 2]) -> (Self, Self) {
        // SAFETY: the caller has NEON and 16 elements at `source`; this load needs no alignment.
        let uint8x16x2_t(low, high) = unsafe { vld2q_u8(source.cast()) };
        (Self(low), Self(high))
    }

    #[inline(always)]
    unsafe fn store(self, codes: *mut u8) {
        // SAFETY: the caller has NEON and room for 16 bytes; this store needs no alignment.
        unsafe { vst1q_u8(codes, self.0) };
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vdupq_n_u8(byte) })
    }

    #[inline(always)]
    unsafe fn bases(bases: [u8; 2], index: usize) -> Self {
        // SAFETY: the caller has NEON. Two vectors are a quarter of a tile.
        unsafe { Self::splat(if index < 2 { bases[0] } else { bases[1] }) }
    }

    #[inline(always)]
    unsafe fn exponents(low: Self, high: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vsriq_n_u8::<7>(vshlq_n_u8::<1>(high.0), low.0) })
    }

    /// Looks up the first code of each 8 mantissas and the last mantissa that has it: a lookup among 128 bytes takes two
    /// instructions of 64 bytes, each slower than both of these.
    #[inline(always)]
    unsafe fn look_up(table: &CodeTable, low: Self) -> Self {
        // SAFETY: the caller has NEON.
        unsafe {
            let mantissa = vandq_u8(low.0, vdupq_n_u8(0x7F));
            let eight = vshrq_n_u8::<3>(mantissa);
            let first = vqtbl1q_u8(load(&table.first), eight);
            let last = vqtbl1q_u8(load(&table.last), eight);
            // What is true has all bits set, which is -1.
            Self(vsubq_u8(first, vcgtq_u8(mantissa, last)))
        }
    }

    #[inline(always)]
    unsafe fn times_8(self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vshlq_n_u8::<3>(self.0) })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vminq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn wrapping_sub(self, other: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vsubq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_add(self, other: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vqaddq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn saturating_sub(self, other: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vqsubq_u8(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn below(self, limit: u8) -> uint8x16_t {
        // SAFETY: the caller has NEON.
        unsafe { vcltq_u8(self.0, vdupq_n_u8(limit)) }
    }

    #[inline(always)]
    unsafe fn with_sign_of(self, high: Self) -> Self {
        // SAFETY: the caller has NEON.
        Self(unsafe { vbslq_u8(vdupq_n_u8(0x80), high.0, self.0) })
    }

    #[inline(always)]
    unsafe fn no_flags() -> uint8x16_t {
        // SAFETY: the caller has NEON.
        unsafe { vdupq_n_u8(0) }
    }

    #[inline(always)]
    unsafe fn either(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        // SAFETY: the caller has NEON.
        unsafe { vorrq_u8(a, b) }
    }

    #[inline(always)]
    unsafe fn any(mask: uint8x16_t) -> bool {
        // SAFETY: the caller has NEON.
        unsafe { vmaxvq_u8(mask) != 0 }
    }

    #[inline(always)]
    unsafe fn bits(mask: uint8x16_t) -> u64 {
        let mut flags = [0; 16];
        // SAFETY: the caller has NEON; the flags are the bytes of a vector.
        unsafe { vst1q_u8(flags.as_mut_ptr(), mask) };
        flags.iter().rev().fold(0, |bits, flag| bits << 1 | u64::from(flag & 1))
    }
}

/// Loads the bytes of a vector.
///
/// # Safety
/// NEON is enabled where this is inlined.
#[inline(always)]
unsafe fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: as promised by the caller; this load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
