//! The cast of BF16 without a division: the codes of all 128 mantissas stand in a table that is made by dividing.
//!
//! A finite, normal `x` is `m * 2^e`, with one of 128 significands `m` in `1.0..2.0`, and a scale is `s * 2^f` with `s` in
//! that range. Rounding their quotient to `f32`, to BF16 if asked for, and to E4M3 does not depend on the power of two as
//! long as the result is normal, and E4M3 has 8 codes to an octave: the code is that of `m / s`, which is in a table of
//! 128 bytes for one scale, and `8 (e - f)`.
//!
//! Codes are unsigned bytes while they are computed. They are lifted by `LIFT`, which brings that of 448 to the top, so
//! that larger ones saturate there. And octaves are counted from further down, as `E - base`, where `E` is the stored
//! exponent of an element and `base` that of the scale less `DEPTH`; that saturates too, so that 0 octaves are all
//! elements below some power of two, zero and subnormal ones among them. The table makes up for both.
//!
//! - An element of 0 octaves has a quotient below `2 * 2^-DEPTH`, and so a code below that of `2^-10`, from where down all
//!   is zero.
//! - Codes of at least 8 are right. The table assumes that normal values go on below the smallest one; true subnormals are
//!   spaced twice as wide, so every quotient that the table rounds up to the smallest normal is rounded there in E4M3 too.
//! - Elements between these two need a division. They are about one in ten thousand of a normal distribution, and the
//!   only ones of their tile to be divided.
//!
//! Without an instruction that looks up 128 bytes there are two lookups among 16, one entry for each 8 mantissas: their
//! first code, and the last mantissa that has it. Two entries are enough, since no 8 mantissas have three codes: where the quotient is
//! below 1, a code is `s / 16` wide in terms of `m`, which is at least 8 mantissas, and twice that above. Where the
//! quotient is first rounded to BF16, each end of a code moves by at most a 32nd of that, so that codes are still wider
//! than 7, and both ends of one of them are never inside of 8 mantissas in a row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod dispatch;
#[cfg(target_arch = "aarch64")]
mod neon;
mod small;
mod tile;
mod vector;

pub(super) use codes::TablePlace;

use codes::CodeTable;
use dispatch::cast_half;
use tile::{Tile, TileCodes};

use super::amax::TILE;
use super::element::Bf16;
use super::walk::Caster;
use crate::Simd;
use crate::simd::{Vectorized, prefetch_after};

/// The cast by table, as the module describes it; `ROUNDED` rounds the quotient to BF16 on its way.
pub(super) enum ByTable<const ROUNDED: bool> {}

/// A scale, ready to be divided by.
pub(super) struct Divisor {
    table: CodeTable,
    place: TablePlace,
}

/// Prefetch distance in bytes for the output of a block.
///
/// It helps Intel's server cores while the source is cached (1.54 → 1.44 times the narrowing copy); there is no gain from
/// memory, and AMD's Zen 4 is not faster for it.
const AHEAD: usize = 4096;

impl<const ROUNDED: bool> Caster for ByTable<ROUNDED> {
    type Source = Bf16;
    type Divisor = Divisor;

    #[inline(always)]
    fn divisor(scale: f32) -> Divisor {
        Divisor { table: CodeTable::of::<ROUNDED>(scale), place: TablePlace::of(scale) }
    }

    #[inline(always)]
    fn cast(source: &[[u8; 2]], divisors: &[Divisor], width: usize, out: &mut [u8], simd: Simd) {
        if width != TILE {
            for ((source, out), divisor) in source.chunks(width).zip(out.chunks_mut(width)).zip(divisors) {
                cast::<ROUNDED>(source, out, None, simd, move |_| divisor.everywhere());
            }
            return;
        }
        cast::<ROUNDED>(source, out, Some(AHEAD), simd, move |tile| divisors[tile].everywhere());
    }
}

impl Divisor {
    #[inline(always)]
    fn everywhere(&self) -> (&CodeTable, [TablePlace; 4]) {
        (&self.table, [self.place; 4])
    }
}

/// Casts finite elements, of which each quarter of a tile is under a power of two of its own.
#[inline(always)]
pub(super) fn cast_by_powers(source: &[[u8; 2]], places: &[TablePlace], out: &mut [u8], simd: Simd) {
    let table = &CodeTable::of::<false>(1.0);
    let (all, rest) = places.as_chunks();
    let mut last = [TablePlace::NOWHERE; 4];
    last[..rest.len()].copy_from_slice(rest);
    cast::<false>(source, out, None, simd, move |tile| (table, *all.get(tile).unwrap_or(&last)));
}

/// Casts elements, of which each tile is under a table that applies at one place for each of its quarters.
#[inline(always)]
fn cast<'a, const ROUNDED: bool>(
    source: &[[u8; 2]],
    out: &mut [u8],
    ahead: Option<usize>,
    simd: Simd,
    under: impl Fn(usize) -> (&'a CodeTable, [TablePlace; 4]) + Copy,
) {
    let (tiles, rest) = source.as_chunks();
    let (codes, last) = out.as_chunks_mut();
    for (run, (tiles, codes)) in tiles.chunks(RUN).zip(codes.chunks_mut(RUN)).enumerate() {
        cast_run::<ROUNDED>(tiles, codes, ahead, simd, move |tile| under(run * RUN + tile));
    }
    if !rest.is_empty() {
        let (mut padded, mut codes) = ([[0; 2]; TILE], [0; TILE]);
        padded[..rest.len()].copy_from_slice(rest);
        let tile = tiles.len();
        cast_run::<ROUNDED>(&[padded], std::slice::from_mut(&mut codes), None, simd, move |_| under(tile));
        last.copy_from_slice(&codes[..rest.len()]);
    }
}

/// Tiles that are cast before the first of their elements is divided: one bit of a word for each.
const RUN: usize = u64::BITS as usize;

// A bit per tile, not a stored mask per chunk. Together with loops instead of folds, which lose the instruction set, this
// took blocks from 1.48-1.58 to 1.34-1.46 times the narrowing copy with AVX-512, and MXFP8 from 1.65 to 1.26.
#[inline(always)]
fn cast_run<'a, const ROUNDED: bool>(
    tiles: &[Tile],
    codes: &mut [TileCodes],
    ahead: Option<usize>,
    simd: Simd,
    under: impl Fn(usize) -> (&'a CodeTable, [TablePlace; 4]) + Copy,
) {
    let mut left = look_up_all(LookUp { tiles, codes, under, ahead }, simd);
    while left != 0 {
        let tile = left.trailing_zeros() as usize;
        let (table, places) = under(tile);
        small::divide::<ROUNDED>(&tiles[tile], table, places, &mut codes[tile], simd);
        left &= left - 1;
    }
}

/// Casts a run of tiles, and sets the bits of those of which an element needs a division. It is not inlined and calls
/// nothing, so that constants stay in registers.
#[inline(never)]
fn look_up_all<'a>(work: LookUp<'_, impl Fn(usize) -> (&'a CodeTable, [TablePlace; 4])>, simd: Simd) -> u64 {
    simd.run(work)
}

struct LookUp<'a, F> {
    tiles: &'a [Tile],
    codes: &'a mut [TileCodes],
    under: F,
    /// Prefetch distance of the codes in bytes, if they are prefetched.
    ahead: Option<usize>,
}

impl<'a, F: Fn(usize) -> (&'a CodeTable, [TablePlace; 4])> Vectorized for LookUp<'_, F> {
    type Output = u64;

    #[inline(always)]
    fn run(self, simd: Simd) -> u64 {
        // In loops, since closures that are called elsewhere lose the instruction set.
        let mut left = 0;
        for (index, (tile, codes)) in self.tiles.iter().zip(self.codes).enumerate() {
            if let Some(ahead) = self.ahead {
                prefetch_after(codes, ahead);
            }
            let (table, places) = (self.under)(index);
            let mut any = places.iter().any(|place| place.divided);
            let halves = tile.as_chunks().0.iter().zip(codes.as_chunks_mut().0);
            for ((half, codes), places) in halves.zip(places.as_chunks::<2>().0) {
                let bases = places.map(|place| place.base);
                any |= cast_half::<false>(half, table, bases, codes, simd) != 0;
            }
            left |= u64::from(any) << index;
        }
        left
    }
}
