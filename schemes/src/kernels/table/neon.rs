//! NEON: a quarter of a chunk is one vector of low bytes and one of high ones.

use std::arch::aarch64::*;

use super::{CHUNK, Chunk, Codes, LIFT, LIFTED_NORMAL, OCTAVES, Table};

/// All bits or none are set: there is no instruction that gathers them.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn look_up(chunk: &Chunk, table: &Table, bases: [u8; 2], codes: &mut Codes) -> u64 {
    const QUARTER: usize = CHUNK / 4;
    let first = load(&table.first);
    let last = load(&table.last);
    let mut any = vdupq_n_u8(0);
    for (index, (elements, codes)) in
        chunk.as_chunks::<QUARTER>().0.iter().zip(codes.as_chunks_mut::<QUARTER>().0).enumerate()
    {
        let base = vdupq_n_u8(bases[index / 2]);
        // SAFETY: 16 elements of 2 bytes are the bytes of two vectors; this load needs no alignment.
        let uint8x16x2_t(low, high) = unsafe { vld2q_u8(elements.as_ptr().cast()) };
        // The lowest bit of an exponent is the highest of the low byte.
        let exponent = vsriq_n_u8::<7>(vshlq_n_u8::<1>(high), low);
        let octaves = vminq_u8(vqsubq_u8(exponent, base), vdupq_n_u8(OCTAVES));
        let mantissa = vandq_u8(low, vdupq_n_u8(0x7F));
        let eight = vshrq_n_u8::<3>(mantissa);
        // What is true has all bits set, which is -1.
        let step = vsubq_u8(vqtbl1q_u8(first, eight), vcgtq_u8(mantissa, vqtbl1q_u8(last, eight)));
        let lifted = vqaddq_u8(vshlq_n_u8::<3>(octaves), step);
        let below = vcltq_u8(lifted, vdupq_n_u8(LIFTED_NORMAL));
        any = vorrq_u8(any, vandq_u8(below, vtstq_u8(octaves, octaves)));
        // Of no octaves the step alone is left, which is less than what is taken off.
        let code = vqsubq_u8(lifted, vdupq_n_u8(LIFT));
        let signed = vbslq_u8(vdupq_n_u8(0x80), high, code);
        // SAFETY: 16 codes are the bytes of a vector; this store needs no alignment.
        unsafe { vst1q_u8(codes.as_mut_ptr(), signed) };
    }
    if vmaxvq_u8(any) == 0 { 0 } else { u64::MAX }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: these are the bytes of a vector; this load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
