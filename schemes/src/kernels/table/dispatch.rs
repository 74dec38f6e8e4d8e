//! The choice of vectors by instruction set.

use super::codes::CodeTable;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::tile::{Half, HalfCodes};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Simd;
use crate::simd::InstructionSet;

/// Casts half a tile with the vectors of an instruction set: see [`cast_half`](super::vector::cast_half).
#[inline(always)]
pub(super) fn cast_half<const EACH: bool>(
    half: &Half,
    table: &CodeTable,
    bases: [u8; 2],
    codes: &mut HalfCodes,
    simd: Simd,
) -> u64 {
    match simd.level() {
        InstructionSet::Portable => unreachable!("the portable path divides"),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2::cast_half::<EACH>(half, table, bases, codes) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F, BW and VBMI.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { avx512::cast_half::<EACH>(half, table, bases, codes) },
        // SAFETY: NEON is in the baseline of the target.
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon => unsafe { neon::cast_half::<EACH>(half, table, bases, codes) },
    }
}
