//! NEON: an eighth of a tile is one vector of low bytes and one of high ones.

use std::arch::aarch64::*;

use super::{Half, HalfCodes, LIFT, LIFTED_LEAST, OCTAVES, SMALL, Table};

const EIGHTH: usize = 16;

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn look_up(half: &Half, table: &Table, bases: [u8; 2], codes: &mut HalfCodes) -> bool {
    let mut any = vdupq_n_u8(0);
    for (index, (eighth, codes)) in half.as_chunks().0.iter().zip(codes.as_chunks_mut::<EIGHTH>().0).enumerate() {
        let (signed, small) = cast(eighth, table, bases[index / 2]);
        store(signed, codes);
        any = vorrq_u8(any, small);
    }
    vmaxvq_u8(any) != 0
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn small(half: &Half, table: &Table, bases: [u8; 2]) -> u64 {
    let mut flags = [0; 4 * EIGHTH];
    for (index, (eighth, flags)) in half.as_chunks().0.iter().zip(flags.as_chunks_mut::<EIGHTH>().0).enumerate() {
        store(cast(eighth, table, bases[index / 2]).1, flags);
    }
    flags.iter().rev().fold(0, |bits, flag| bits << 1 | u64::from(flag & 1))
}

/// The codes of an eighth, and all bits of those elements that need a division.
#[target_feature(enable = "neon")]
#[inline]
fn cast(eighth: &[[u8; 2]; EIGHTH], table: &Table, base: u8) -> (uint8x16_t, uint8x16_t) {
    // SAFETY: 16 elements of 2 bytes are the bytes of two vectors; this load needs no alignment.
    let uint8x16x2_t(low, high) = unsafe { vld2q_u8(eighth.as_ptr().cast()) };
    // The lowest bit of an exponent is the highest of the low byte.
    let exponent = vsriq_n_u8::<7>(vshlq_n_u8::<1>(high), low);
    let octaves = vminq_u8(vqsubq_u8(exponent, vdupq_n_u8(base)), vdupq_n_u8(OCTAVES));
    let mantissa = vandq_u8(low, vdupq_n_u8(0x7F));
    let eight = vshrq_n_u8::<3>(mantissa);
    let [first, last] = [&table.first, &table.last].map(|table| vqtbl1q_u8(load(table), eight));
    // What is true has all bits set, which is -1.
    let step = vsubq_u8(first, vcgtq_u8(mantissa, last));
    let lifted = vqaddq_u8(vshlq_n_u8::<3>(octaves), step);
    let small = vcltq_u8(vsubq_u8(lifted, vdupq_n_u8(LIFTED_LEAST)), vdupq_n_u8(SMALL));
    let code = vqsubq_u8(lifted, vdupq_n_u8(LIFT));
    (vbslq_u8(vdupq_n_u8(0x80), high, code), small)
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; EIGHTH]) -> uint8x16_t {
    // SAFETY: these are the bytes of a vector; this load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn store(vector: uint8x16_t, bytes: &mut [u8; EIGHTH]) {
    // SAFETY: these are the bytes of a vector; this store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), vector) };
}
