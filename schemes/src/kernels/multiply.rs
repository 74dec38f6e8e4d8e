//! The cast of BF16 by BF16 scales without a division, in 16-bit integers, with AVX2 or AVX-512.
//!
//! A finite, normal `x` is `M / 128 * 2^e` and the scale `S / 256 * 2^f`, with integers `M` in `128..=255` and `S` in
//! `129..=256`. The E4M3 code of their quotient grows by 8 per octave, and within one it is linear in `M / S`: counted
//! in codes, and up to a multiple of 8, it is `8M/S - 8` where `M >= S` and `16M/S - 16` where `M < S`, which is the
//! smaller of the two everywhere. So with `p` near `M/S * 2^14`, of which a code is `2^11`:
//!
//! - `R`, the integer nearest to `2^21 / S`, fits 15 bits. `M * R / 2^7`, rounded to an integer, is less than 1.5 from
//!   `M/S * 2^14`; one is added, so that `p` is never too small by a whole unit and never too large by 2.5.
//! - A quotient exactly between two codes is an odd multiple of `2^10`. Any other is at least `2^14 / (16 S)`, that is 4
//!   units, from such a point. So adding half a code and shifting takes each to its code, and ties upwards.
//! - Ties need `16 M = t S` with an odd `t`, so they occur for multiples of 16 alone. Then all other quotients are 64
//!   units away, which leaves room to lower every `v` whose code below is even by 8: ties go to the even code.
//!
//! Below the smallest normal E4M3 value codes are no longer 8 to an octave: such elements (about one in ten thousand of
//! a normal distribution) are seen in the result, and their chunk is divided instead.
//!
//! Without the multiplication that rounds (`pmulhrsw`), as in SSE2, dividing is faster.

mod avx2;
mod avx512;

use super::band::{Caster, Tile};
use super::division::{Division, divide};
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
    reciprocal: i16,
    /// What makes `p` zero for `M = S`.
    shift: i16,
    /// What is taken off 8 times the exponent of an element to get its code, lifted by [`LIFT`].
    offset: i16,
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
        let (exponent, mantissa) = (bits >> 7 & 0xFF, bits & 0x7F);
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
        let reciprocal = (((1 << 22) / i32::from(significand) + 1) / 2) as i16;
        // `m` stands 2^16 too low for being signed: 2 R is missing in the product.
        let shift = 2 * reciprocal - (1 << 14) + 1;
        // The code is `8 (exponent of x - exponent of the scale + 7)` and what `M` and `S` make of it.
        let offset = 8 * exponent as i16 - (8 * 7 + i16::from(LIFT));
        Divisor { scale, way, reciprocal, shift, offset }
    }

    #[inline(always)]
    fn cast(tile: Tile<'_, Bf16>, divisor: Divisor, simd: Simd) {
        match divisor.way {
            Way::HalfUp => cast::<false>(tile, divisor, simd),
            Way::HalfEven => cast::<true>(tile, divisor, simd),
            Way::Divide => Division::<Bf16, false>::cast(tile, divisor.scale, simd),
        }
    }
}

#[inline(always)]
fn cast<const TIES: bool>(tile: Tile<'_, Bf16>, divisor: Divisor, simd: Simd) {
    match simd.level() {
        Level::Portable => Division::<Bf16, false>::cast(tile, divisor.scale, simd),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        Level::Avx2 => unsafe { avx2::cast::<TIES>(tile, divisor, simd) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F and BW.
        Level::Avx512 => unsafe { avx512::cast::<TIES>(tile, divisor, simd) },
    }
}

type Chunk = [[u8; 2]; CHUNK];

/// Does all chunks of a tile with `cast`; what a row has beyond whole chunks is padded to one.
#[inline(always)]
fn by_chunks(mut tile: Tile<'_, Bf16>, mut cast: impl FnMut(&Chunk, &mut [u8; CHUNK])) {
    for (source, out) in tile.rows() {
        let (chunks, rest) = source.as_chunks();
        let (codes, last) = out.as_chunks_mut();
        for (chunk, codes) in chunks.iter().zip(codes) {
            cast(chunk, codes);
        }
        if !rest.is_empty() {
            let (mut chunk, mut codes) = ([[0; 2]; CHUNK], [0; CHUNK]);
            chunk[..rest.len()].copy_from_slice(rest);
            cast(&chunk, &mut codes);
            last.copy_from_slice(&codes[..rest.len()]);
        }
    }
}

/// Casts a chunk that has a quotient below the smallest normal code.
#[cold]
#[inline(never)]
fn divide_chunk(chunk: &Chunk, divisor: Divisor, codes: &mut [u8; CHUNK], simd: Simd) {
    simd.run(Divide { chunk, scale: divisor.scale, codes });
}

struct Divide<'a> {
    chunk: &'a Chunk,
    scale: f32,
    codes: &'a mut [u8; CHUNK],
}

impl Vectorized for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        divide::<Bf16, false>(self.chunk, self.scale, self.codes);
    }
}
