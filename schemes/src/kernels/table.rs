//! The cast of BF16 without a division: the codes of all 128 mantissas stand in a table that is made by dividing.
//!
//! A finite, normal `x` is `m * 2^e`, with one of 128 significands `m` in `1.0..2.0`, and a scale is `s * 2^f` with `s` in
//! that range. Rounding their quotient to `f32`, to BF16 if asked for, and to E4M3 does not depend on the power of two as
//! long as the result is normal, and E4M3 has 8 codes to an octave: the code is that of `m / s`, which is in a table of
//! 128 bytes for one scale, and `8 (e - f)`.
//!
//! Codes are unsigned bytes while they are computed. They are lifted by [`LIFT`], which brings that of 448 to the top, so
//! that larger ones saturate there. And octaves are counted from further down, as `E - base`, where `E` is the stored
//! exponent of an element and `base` that of the scale less [`DEPTH`]; that saturates too, so that 0 octaves are all
//! elements below some power of two, zero and subnormal ones among them. The table makes up for both.
//!
//! - An element of 0 octaves has a quotient below `2 * 2^-DEPTH`, and so a code below that of `2^-10`, from where down all
//!   is zero.
//! - Codes of at least 8 are right: quotients that round to the smallest normal value are those from a 32nd of it below, as
//!   if there were normal values below. Those that there are lie twice as far apart, and what goes up from them includes
//!   these.
//! - Elements between these two need a division. They are about one in ten thousand of a normal distribution, and the
//!   only ones of their tile to be divided.
//!
//! Without an instruction that looks up 128 bytes there are two lookups among 16, one for each 8 mantissas: their first
//! code, and the last mantissa that has it. That says it all, since no 8 mantissas have three codes: where the quotient is
//! below 1, a code is `s / 16` wide in terms of `m`, which is at least 8 mantissas, and twice that above. Where the
//! quotient is first rounded to BF16, each end of a code moves by at most a 32nd of that, so that codes are still wider
//! than 7, and both ends of one of them are never inside of 8 mantissas in a row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod small;

use std::sync::LazyLock;

use super::absmax::TILE;
use super::band::Caster;
use super::division::divide;
use super::element::Bf16;
use crate::Simd;
use crate::simd::{Level, Vectorized, prefetch_after};

/// See the module; `ROUNDED` rounds the quotient to BF16 on its way.
pub(super) enum ByTable<const ROUNDED: bool> {}

/// A scale as the table has it.
pub(super) struct Divisor {
    table: Table,
    place: Place,
}

/// Where on the scale of all numbers a table applies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    scale: f32,
    /// What is taken off the stored exponents of elements.
    base: u8,
    /// Whether the scale is so small that subnormal weights count, which all are divided by it.
    divided: bool,
}

/// The codes of the significands under one significand of a scale, where no vector of them crosses a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Table {
    #[cfg(any(target_arch = "x86_64", test))]
    codes: [u8; 128],
    /// The first of each 8 codes.
    first: [u8; 16],
    /// The last mantissa of each 8 that has that code.
    last: [u8; 16],
}

/// Elements that are looked at together, each quarter of them under one scale.
type Tile = [[u8; 2]; TILE];

/// Their codes.
type Codes = [u8; TILE];

/// Elements of a group of MX.
const QUARTER: usize = TILE / 4;

type Half = [[u8; 2]; TILE / 2];
type HalfCodes = [u8; TILE / 2];

/// So many bytes ahead blocks ask for the places of their codes, which Intel's processors are late to look for where the
/// source comes from a cache. Where it comes from memory they are not, and AMD's are slower for it.
const AHEAD: usize = 4096;

/// How many octaves below the scale elements are zero.
const DEPTH: u8 = 12;

/// By how much codes are lifted while they are computed: that of 448 is then the largest byte.
const LIFT: u8 = u8::MAX - 0x7E;

/// The code of `2^-10`, lifted, if there were normal values down to there: all below is zero.
const LIFTED_LEAST: u8 = LIFT - 24;

/// Codes from that on of elements that are neither zero nor normal.
const SMALL: u8 = 32;

/// As many octaves as eight times that still is a byte: more than there are below 448.
const OCTAVES: u8 = 31;

impl<const ROUNDED: bool> Caster for ByTable<ROUNDED> {
    type Source = Bf16;
    type Divisor = Divisor;

    #[inline(always)]
    fn divisor(scale: f32) -> Divisor {
        Divisor { table: Table::of::<ROUNDED>(scale), place: Place::of(scale) }
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
    fn everywhere(&self) -> (&Table, [Place; 4]) {
        (&self.table, [self.place; 4])
    }
}

/// Casts finite elements, of which each quarter of a tile is under a power of two of its own.
#[inline(always)]
pub(super) fn cast_by_powers(source: &[[u8; 2]], places: &[Place], out: &mut [u8], simd: Simd) {
    let table = &Table::of::<false>(1.0);
    let (all, rest) = places.as_chunks();
    let mut last = [Place::NOWHERE; 4];
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
    under: impl Fn(usize) -> (&'a Table, [Place; 4]) + Copy,
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

/// So many tiles are cast before the first of their elements is divided.
const RUN: usize = u64::BITS as usize;

#[inline(always)]
fn cast_run<'a, const ROUNDED: bool>(
    tiles: &[Tile],
    codes: &mut [Codes],
    ahead: Option<usize>,
    simd: Simd,
    under: impl Fn(usize) -> (&'a Table, [Place; 4]) + Copy,
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
fn look_up_all<'a>(work: LookUp<'_, impl Fn(usize) -> (&'a Table, [Place; 4])>, simd: Simd) -> u64 {
    simd.run(work)
}

struct LookUp<'a, F> {
    tiles: &'a [Tile],
    codes: &'a mut [Codes],
    under: F,
    /// How far ahead the places of codes are asked for, if they are.
    ahead: Option<usize>,
}

impl<'a, F: Fn(usize) -> (&'a Table, [Place; 4])> Vectorized for LookUp<'_, F> {
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
                any |= look_up(half, table, places.map(|place| place.base), codes, simd);
            }
            left |= u64::from(any) << index;
        }
        left
    }
}

impl Place {
    /// Where all is zero.
    const NOWHERE: Self = Self { scale: f32::INFINITY, base: u8::MAX, divided: false };

    #[inline(always)]
    fn of(scale: f32) -> Self {
        match ((scale.to_bits() >> 23) as u8).checked_sub(DEPTH) {
            Some(base) => Self { scale, base, divided: false },
            None => Self { scale, base: 0, divided: true },
        }
    }

    /// That of a power of two, given as its reciprocal; under one of zero all is zero.
    #[inline(always)]
    pub(super) fn of_power(reciprocal: f32) -> Self {
        match reciprocal > 0.0 {
            true => Self::of(1.0 / reciprocal),
            false => Self::NOWHERE,
        }
    }
}

impl Table {
    /// That of a scale, of which the significand counts.
    #[inline(always)]
    fn of<const ROUNDED: bool>(scale: f32) -> Self {
        static OF_BF16: [LazyLock<Box<[Table]>>; 2] = [
            LazyLock::new(|| (0..128).map(|significand| Table::made::<false>(significand << 16)).collect()),
            LazyLock::new(|| (0..128).map(|significand| Table::made::<true>(significand << 16)).collect()),
        ];
        let significand = scale.to_bits() & 0x007F_FFFF;
        match significand & 0xFFFF {
            0 => OF_BF16[usize::from(ROUNDED)][significand as usize >> 16],
            _ => Self::made::<ROUNDED>(significand),
        }
    }

    /// Divides all significands by one of `f32`, given as the bits that are stored.
    #[inline(always)]
    fn made<const ROUNDED: bool>(significand: u32) -> Self {
        let mut codes = [0; 128];
        divide::<Bf16, ROUNDED>(&SIGNIFICANDS, f32::from_bits(significand | 127 << 23), &mut codes);
        // Quotients are between a half and 2, and lie `DEPTH` octaves above none.
        let codes = codes.map(|code| code + LIFT - 8 * DEPTH);
        let eights = codes.as_chunks::<8>().0;
        let first = std::array::from_fn(|index| eights[index][0]);
        let last = std::array::from_fn(|index| {
            let same = eights[index].iter().map(|&code| u8::from(code == first[index])).sum::<u8>();
            8 * index as u8 + same - 1
        });
        Self {
            #[cfg(any(target_arch = "x86_64", test))]
            codes,
            first,
            last,
        }
    }
}

/// All BF16 from 1 to 2.
const SIGNIFICANDS: [[u8; 2]; 128] = {
    let mut all = [[0; 2]; 128];
    let mut mantissa = 0;
    while mantissa < 128 {
        all[mantissa] = (127 << 7 | mantissa as u16).to_le_bytes();
        mantissa += 1;
    }
    all
};

/// Casts the finite elements of half a tile, whose halves have a base each, and says whether any of them needs a division.
#[inline(always)]
fn look_up(half: &Half, table: &Table, bases: [u8; 2], codes: &mut HalfCodes, simd: Simd) -> bool {
    match simd.level() {
        Level::Portable => unreachable!("the portable path divides"),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::look_up(half, table, bases, codes) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F, BW and VBMI.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::look_up(half, table, bases, codes) },
        // SAFETY: NEON is in the baseline of the target.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { neon::look_up(half, table, bases, codes) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that the first ones and the last mantissas stand for.
    fn expanded(table: &Table) -> [u8; 128] {
        std::array::from_fn(|mantissa| {
            let eight = mantissa / 8;
            table.first[eight] + u8::from(mantissa as u8 > table.last[eight])
        })
    }

    fn check<const ROUNDED: bool>(significand: u32) {
        let table = Table::made::<ROUNDED>(significand);
        assert_eq!(expanded(&table), table.codes, "{significand:#08x}");
        assert!(table.codes.is_sorted() && table.codes[127] < LIFT, "{significand:#08x}");
    }

    #[test]
    fn no_eight_mantissas_have_three_codes() {
        // Those next to a BF16, where quotients are nearly in the middle between two codes, and others.
        let near = (0..128).flat_map(|bf16| (-3..=3).map(move |step: i32| ((bf16 << 16) + step) as u32 & 0x007F_FFFF));
        for significand in near.chain((0..1 << 23).step_by(997)) {
            check::<false>(significand);
            check::<true>(significand);
        }
    }

    #[test]
    fn a_scale_has_the_table_of_its_significand() {
        for scale in [1.0, 1.5, 0.013, f32::from_bits(0x3C7F_0000), f32::MIN_POSITIVE] {
            let made = Table::made::<false>(scale.to_bits() & 0x007F_FFFF);
            assert_eq!(Table::of::<false>(scale).codes, made.codes);
            let made = Table::made::<true>(scale.to_bits() & 0x007F_FFFF);
            assert_eq!(Table::of::<true>(scale).codes, made.codes);
        }
        let base = |scale| (Place::of(scale).base, Place::of(scale).divided);
        let [smallest, smaller] = [-115, -116].map(|exponent| base(2f32.powi(exponent)));
        assert_eq!((base(1.0), smallest, smaller), ((115, false), (0, false), (0, true)));
    }
}
