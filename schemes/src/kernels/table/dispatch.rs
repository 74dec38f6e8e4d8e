//! The choice of vectors by instruction set.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::vector::OverVector;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::Simd;
use crate::simd::InstructionSet;

/// Does work over half a tile with the vectors of an instruction set.
#[inline(always)]
pub(super) fn with_vectors<W: OverVector>(work: W, simd: Simd) -> W::Output {
    match simd.level() {
        InstructionSet::Portable => unreachable!("the portable path divides"),
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX2.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2::run(work) },
        // SAFETY: a `Simd` of this level is the proof that the machine has AVX-512 F, BW and VBMI.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { avx512::run(work) },
        // SAFETY: NEON is in the baseline of the target.
        #[cfg(target_arch = "aarch64")]
        InstructionSet::Neon => unsafe { neon::run(work) },
    }
}
