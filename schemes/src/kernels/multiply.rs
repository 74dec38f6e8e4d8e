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
//!
//! LLVM does not find the 16-bit multiplications and saturating packs in the scalar code, so that AVX2 and AVX-512 have
//! the same steps written out.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::band::Caster;
use super::division::Division;
use super::element::Bf16;
use crate::Simd;
use crate::simd::{Level, Vectorized};

/// See the module.
pub(super) enum Multiply {}

/// A BF16 scale as the multiplication needs it.
#[derive(Clone, Copy)]
pub(super) struct Divisor {
    scale: f32,
    way: Way,
    /// `R`.
    reciprocal: u16,
    /// What is taken off 8 times the exponent of an element to get its code, lifted by [`LIFT`].
    offset: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// No quotient lies between two codes.
    HalfUp,
    HalfEven,
    /// The scale is so small that subnormal weights count, or larger than a maximum leads to.
    Divide,
}

/// Elements looked at together for values that need a division.
const CHUNK: usize = 64;

/// Codes are lifted by so many while they are unsigned bytes: 0 is then a quotient that rounds to zero.
const LIFT: u8 = 25;

/// The code of 448, lifted.
const LIFTED_MAX: u8 = 0x7E + LIFT;

/// The smallest normal code, lifted: what lies between zero and this needs a division.
const LIFTED_NORMAL: u8 = 8 + LIFT;

impl Caster for Multiply {
    type Source = Bf16;
    type Divisor = Divisor;

    fn divisor(scale: f32) -> Divisor {
        let bits = (scale.to_bits() >> 16) as u16;
        let (exponent, mantissa) = (bits >> 7, bits & 0x7F);
        // A mantissa of zero is taken as 256 with the exponent below, which keeps `p` in 15 bits.
        let (exponent, significand) =
            if mantissa == 0 { (exponent.saturating_sub(1), 256) } else { (exponent, 128 + mantissa) };
        let way = if !(16..=248).contains(&exponent) {
            Way::Divide
        } else if significand % 16 == 0 {
            Way::HalfEven
        } else {
            Way::HalfUp
        };
        let reciprocal = (1u32 << 22).div_ceil(u32::from(significand)) as u16;
        // The code is `8 (exponent of x - exponent of the scale + 7)` and what `M` and `S` make of it.
        Divisor { scale, way, reciprocal, offset: (8 * exponent).wrapping_sub(8 * 7 + u16::from(LIFT)) }
    }

    #[inline(always)]
    fn cast(source: &[[u8; 2]], divisor: Divisor, out: &mut [u8], simd: Simd) {
        match divisor.way {
            Way::HalfUp => cast::<false>(source, divisor, out, simd),
            Way::HalfEven => cast::<true>(source, divisor, out, simd),
            Way::Divide => Division::<Bf16, false>::cast(source, divisor.scale, out, simd),
        }
    }
}

#[inline(always)]
fn cast<const TIES: bool>(source: &[[u8; 2]], divisor: Divisor, out: &mut [u8], simd: Simd) {
    let (chunks, rest) = source.as_chunks::<CHUNK>();
    let (codes, last) = out.as_chunks_mut::<CHUNK>();
    cast_chunks::<TIES>(chunks, divisor, codes, simd);
    if !rest.is_empty() {
        let mut chunk = [[0; 2]; CHUNK];
        chunk[..rest.len()].copy_from_slice(rest);
        let mut codes = [0; CHUNK];
        cast_chunks::<TIES>(&[chunk], divisor, std::slice::from_mut(&mut codes), simd);
        last.copy_from_slice(&codes[..rest.len()]);
    }
}

#[inline(always)]
fn cast_chunks<const TIES: bool>(chunks: &[[[u8; 2]; CHUNK]], divisor: Divisor, codes: &mut [[u8; CHUNK]], simd: Simd) {
    match simd.level() {
        Level::Portable => cast_chunks_portable::<TIES>(chunks, divisor, codes),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::cast_chunks::<TIES>(chunks, divisor, codes, simd) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F and BW.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::cast_chunks::<TIES>(chunks, divisor, codes, simd) },
    }
}

#[inline(always)]
fn cast_chunks_portable<const TIES: bool>(chunks: &[[[u8; 2]; CHUNK]], divisor: Divisor, codes: &mut [[u8; CHUNK]]) {
    for (chunk, codes) in chunks.iter().zip(codes) {
        let mut lowest = u8::MAX;
        for (code, &raw) in codes.iter_mut().zip(chunk) {
            let lifted = lifted_code::<TIES>(u16::from_le_bytes(raw), divisor);
            // Zero, which needs nothing, goes to the top.
            lowest = lowest.min(lifted.wrapping_sub(1));
            *code = lifted.saturating_sub(LIFT) | (raw[1] & 0x80);
        }
        if lowest < LIFTED_NORMAL - 1 {
            divide(chunk, divisor, codes, Simd::PORTABLE);
        }
    }
}

/// The code of `|x|` plus [`LIFT`], or zero where that would be negative; right from the code 8 on.
#[inline(always)]
fn lifted_code<const TIES: bool>(x: u16, divisor: Divisor) -> u8 {
    // `M << 8`: shifting drops the exponent, all but for the bit where the implicit one belongs.
    let m = x << 8 | 0x8000;
    let p = ((u32::from(m) * u32::from(divisor.reciprocal)) >> 16) as i16 - (1 << 14);
    let v = p.min(p + p);
    // One unit down tips a tie to the code below, and where that is odd it stays.
    let v = if TIES { v - (!(v >> 11) & 1) } else { v };
    let step = (v + (1 << 10)) >> 11;
    let code = ((x >> 4) & 0x7F8) as i16 + step - divisor.offset as i16;
    code.clamp(0, LIFTED_MAX.into()) as u8
}

/// Casts a chunk that has a quotient below the smallest normal code.
#[cold]
#[inline(never)]
fn divide(chunk: &[[u8; 2]; CHUNK], divisor: Divisor, codes: &mut [u8; CHUNK], simd: Simd) {
    simd.run(Divide { chunk, scale: divisor.scale, codes });
}

struct Divide<'a> {
    chunk: &'a [[u8; 2]; CHUNK],
    scale: f32,
    codes: &'a mut [u8; CHUNK],
}

impl Vectorized for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: Simd) {
        Division::<Bf16, false>::cast(self.chunk, self.scale, self.codes, simd);
    }
}
