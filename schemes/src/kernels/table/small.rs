//! What a table is not for: elements below the normal range of E4M3 that are not zero, and all under the smallest scales.

use super::{Codes, Half, Place, QUARTER, Table, Tile};
use crate::Simd;
use crate::kernels::division;
use crate::kernels::element::Bf16;
use crate::simd::{Level, Vectorized};

/// Casts the elements of a tile that need a division.
#[cold]
#[inline(never)]
pub(super) fn divide<const ROUNDED: bool>(
    tile: &Tile,
    table: &Table,
    places: [Place; 4],
    codes: &mut Codes,
    simd: Simd,
) {
    /// So many are done faster one by one than all of a quarter together.
    const FEW: u32 = 4;

    let [former, latter] = tile.as_chunks().0 else { unreachable!("a tile has two halves") };
    let bases = places.map(|place| place.base);
    let halves = [small(former, table, [bases[0], bases[1]], simd), small(latter, table, [bases[2], bases[3]], simd)];
    let quarters = tile.as_chunks::<QUARTER>().0.iter().zip(codes.as_chunks_mut::<QUARTER>().0).zip(places);
    for (index, ((source, out), Place { scale, divided, .. })) in quarters.enumerate() {
        let mut small = (halves[index / 2] >> (index % 2 * QUARTER)) as u32;
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

/// The elements of half a tile that need a division, a bit each.
#[inline(always)]
fn small(half: &Half, table: &Table, bases: [u8; 2], simd: Simd) -> u64 {
    match simd.level() {
        Level::Portable => unreachable!("the portable path divides"),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { super::avx2::small(half, table, bases) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F, BW and VBMI.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { super::avx512::small(half, table, bases) },
        // SAFETY: NEON is in the baseline of the target.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { super::neon::small(half, table, bases) },
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
