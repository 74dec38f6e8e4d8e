//! The elements that no table serves: those below the normal range of E4M3 that are not zero, and all under the smallest scales.

use super::codes::{CodeTable, TablePlace};
use super::dispatch::cast_half;
use super::tile::{QUARTER, Tile, TileCodes};
use crate::Simd;
use crate::kernels::division;
use crate::kernels::element::Bf16;
use crate::simd::Vectorized;

/// Casts the elements of a tile that need a division.
#[cold]
#[inline(never)]
pub(super) fn divide<const ROUNDED: bool>(
    tile: &Tile,
    table: &CodeTable,
    places: [TablePlace; 4],
    codes: &mut TileCodes,
    simd: Simd,
) {
    /// The most elements that are faster divided one by one than all of a quarter together.
    const FEW: u32 = 4;

    // Casting once more finds the elements again; the codes that it stores are those that are there.
    let mut small = [0; 2];
    let halves = tile.as_chunks().0.iter().zip(codes.as_chunks_mut().0).zip(places.as_chunks::<2>().0);
    for (small, ((half, codes), places)) in small.iter_mut().zip(halves) {
        *small = cast_half::<true>(half, table, places.map(|place| place.base), codes, simd);
    }
    let quarters = tile.as_chunks::<QUARTER>().0.iter().zip(codes.as_chunks_mut::<QUARTER>().0).zip(places);
    for (index, ((source, out), TablePlace { scale, divided, .. })) in quarters.enumerate() {
        let mut small = (small[index / 2] >> (index % 2 * QUARTER)) as u32;
        if divided || small.count_ones() > FEW {
            simd.run(Divide::<ROUNDED> { source, scale, out });
            continue;
        }
        while small != 0 {
            let place = small.trailing_zeros() as usize;
            division::divide::<Bf16, ROUNDED>(&source[place..=place], scale, &mut out[place..=place]);
            small &= small - 1;
        }
    }
}

struct Divide<'a, const ROUNDED: bool> {
    source: &'a [[u8; 2]; QUARTER],
    scale: f32,
    out: &'a mut [u8; QUARTER],
}

impl<const ROUNDED: bool> Vectorized for Divide<'_, ROUNDED> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        division::divide::<Bf16, ROUNDED>(self.source, self.scale, self.out);
    }
}
