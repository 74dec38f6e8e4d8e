//! The cast of BF16 by BF16 scales without a division, in 16-bit integers.
//!
//! A finite, normal `x` is `M / 128 * 2^e` and the scale `S / 256 * 2^f`, with integers `M` in `128..=255` and `S` in
//! `129..=256`. The E4M3 code of their quotient grows by 8 per octave, and within one it is linear in `M / S`: counted
//! in codes, and up to a multiple of 8, it is `8M/S - 8` where `M >= S` and `16M/S - 16` where `M < S`, which is the
//! smaller of the two everywhere. So with `p` near `M/S * 2^14`:
//!
//! - `R = ceil(2^22 / S)` fits 16 bits, and `p = M * R >> 8` (one high multiplication of `M << 8`) is less than one
//!   above the true `M/S * 2^14` and less than one below.
//! - A code is `2^11` of these units. A quotient that lies exactly between two codes is an odd multiple of `2^10`; there
//!   the true value is an integer and `p` is exact, since `M * R / 2^8` exceeds it by `M / 2^8` at the most.
//! - Any other quotient is at least `2^14 / (16 S)`, that is 4 units, from such a point. So `p` is on the right side.
//!
//! Ties need `16 M = t S` with an odd `t`, so they occur for multiples of 16 alone; for all other `S`, adding half a code
//! and shifting rounds correctly. Below the smallest normal E4M3 value codes are no longer 8 to an octave: such elements
//! (about one in ten thousand of a normal distribution) are seen in the result, and their chunk is divided instead.

use super::band::Caster;
use super::division::Division;
use super::element::Bf16;

/// See the module.
pub(super) enum Multiply {}

/// A BF16 scale as the multiplication needs it.
#[derive(Clone, Copy)]
pub(super) struct Divisor {
    scale: f32,
    way: Way,
    reciprocal: u16,
    offset: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// No quotient lies between two codes.
    HalfUp,
    HalfEven,
    /// The scale is so small that subnormal weights count, or no BF16 value that a maximum can lead to.
    Divide,
}

/// Elements looked at together for values that need a division.
const CHUNK: usize = 64;

/// Codes are lifted by so many while they are unsigned bytes: 0 is then a quotient that rounds to zero.
const LIFT: u16 = 25;

impl Caster for Multiply {
    type Source = Bf16;
    type Divisor = Divisor;

    fn divisor(scale: f32) -> Divisor {
        let bits = (scale.to_bits() >> 16) as u16;
        let (exponent, mantissa) = (bits >> 7, bits & 0x7F);
        // A mantissa of zero is taken as 256 with the exponent below, which keeps `R` in 16 bits.
        let (exponent, significand) = if mantissa == 0 { (exponent - 1, 256) } else { (exponent, 128 + mantissa) };
        let way = match () {
            () if !(16..=248).contains(&exponent) => Way::Divide,
            () if significand % 16 == 0 => Way::HalfEven,
            () => Way::HalfUp,
        };
        Divisor {
            scale,
            way,
            reciprocal: (1u32 << 22).div_ceil(u32::from(significand)) as u16,
            // The code is 8 (exponent of x - exponent of the scale + 7) and what `code` adds, which is 8 too many.
            offset: (8 * exponent).wrapping_sub(8 * 7 - 8 + LIFT),
        }
    }

    #[inline(always)]
    fn cast(source: &[[u8; 2]], divisor: Divisor, out: &mut [u8]) {
        match divisor.way {
            Way::HalfUp => cast::<false>(source, divisor, out),
            Way::HalfEven => cast::<true>(source, divisor, out),
            Way::Divide => Division::<Bf16, false>::cast(source, divisor.scale, out),
        }
    }
}

#[inline(always)]
fn cast<const TIES: bool>(source: &[[u8; 2]], divisor: Divisor, out: &mut [u8]) {
    let (chunks, rest) = source.as_chunks::<CHUNK>();
    let (codes, last) = out.as_chunks_mut::<CHUNK>();
    for (chunk, codes) in chunks.iter().zip(codes) {
        cast_chunk::<TIES>(chunk, divisor, codes);
    }
    if !rest.is_empty() {
        let mut chunk = [[0; 2]; CHUNK];
        chunk[..rest.len()].copy_from_slice(rest);
        let mut codes = [0; CHUNK];
        cast_chunk::<TIES>(&chunk, divisor, &mut codes);
        last.copy_from_slice(&codes[..rest.len()]);
    }
}

#[inline(always)]
fn cast_chunk<const TIES: bool>(chunk: &[[u8; 2]; CHUNK], divisor: Divisor, codes: &mut [u8; CHUNK]) {
    let mut lowest = u8::MAX;
    for (code, &raw) in codes.iter_mut().zip(chunk) {
        let lifted = lifted_code::<TIES>(u16::from_le_bytes(raw), divisor);
        // Zero, which needs nothing, goes to the top.
        lowest = lowest.min(lifted.wrapping_sub(1));
        *code = lifted.saturating_sub(LIFT as u8) | (raw[1] & 0x80);
    }
    if lowest < LIFT as u8 + 7 {
        Division::<Bf16, false>::cast(chunk, divisor.scale, codes);
    }
}

/// The code of `|x|` plus [`LIFT`], or zero where that would be negative; right from the code 8 on.
#[inline(always)]
fn lifted_code<const TIES: bool>(x: u16, divisor: Divisor) -> u8 {
    // `M << 8`: shifting drops the exponent all but for the bit that is the implicit one's place.
    let m = x << 8 | 0x8000;
    let p = ((u32::from(m) * u32::from(divisor.reciprocal)) >> 16) as i16 - (1 << 14);
    let v = p.min(p + p);
    let half = if TIES { 0x3FF + (v >> 11 & 1) } else { 0x400 };
    let step = (v.wrapping_add(half + (8 << 11)) as u16) >> 11;
    let code = ((x >> 4 & 0x7F8) + step).saturating_sub(divisor.offset);
    code.min(126 + LIFT) as u8
}
