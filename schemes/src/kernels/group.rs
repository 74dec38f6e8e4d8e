//! The absolute maximum of a group of 16 or 32 elements, which is too small for a loop to be vectorized.

use super::signed::Signed;
use super::walk::FoundNonFinite;
use crate::Simd;
use crate::simd::InstructionSet;

/// Finds the largest magnitude of each group of a row.
#[inline(always)]
pub(super) fn group_maxima<E: Signed, const N: usize>(
    groups: &[[E::Raw; N]],
    maxima: &mut [E::Magnitude],
    simd: Simd,
) -> Result<(), FoundNonFinite> {
    let mut highest = E::Magnitude::default();
    for (maximum, group) in maxima.iter_mut().zip(groups) {
        *maximum = group_maximum::<E, N>(group, simd);
        highest = highest.max(*maximum);
    }
    if highest >= E::INFINITE { Err(FoundNonFinite) } else { Ok(()) }
}

/// The largest magnitude of a group.
#[inline(always)]
fn group_maximum<E: Signed, const N: usize>(group: &[E::Raw; N], simd: Simd) -> E::Magnitude {
    #[cfg(target_arch = "x86_64")]
    if size_of::<E::Raw>() == 2 && N.is_multiple_of(8) && simd.level() != InstructionSet::Portable {
        // SAFETY: a `Simd` of another level is the proof that the machine has AVX2, and thus SSE4.1. The group is `N`
        // elements of two bytes.
        let maximum = unsafe { words::maximum(group.as_ptr().cast(), N / 8) };
        return E::from_integer(maximum.into());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (simd, InstructionSet::Portable);
    group.iter().fold(E::Magnitude::default(), |maximum, &raw| maximum.max(E::magnitude(raw)))
}

#[cfg(target_arch = "x86_64")]
mod words {
    use std::arch::x86_64::*;

    /// The largest of eight times `vectors` words without their signs.
    ///
    /// # Safety
    /// So many words can be read at `words`, which needs no alignment.
    #[target_feature(enable = "sse4.1")]
    #[inline]
    pub(super) unsafe fn maximum(words: *const __m128i, vectors: usize) -> u16 {
        let magnitude = _mm_set1_epi16(i16::MAX);
        let mut maximum = _mm_setzero_si128();
        for vector in 0..vectors {
            // SAFETY: the caller's promise; this load needs no alignment.
            let words = unsafe { _mm_loadu_si128(words.add(vector)) };
            maximum = _mm_max_epi16(maximum, _mm_and_si128(words, magnitude));
        }
        // There is an instruction for the least of eight words.
        let least = _mm_minpos_epu16(_mm_xor_si128(maximum, magnitude));
        (_mm_cvtsi128_si32(least) as u16) ^ i16::MAX as u16
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::{Bf16, F32};
    use super::*;

    #[test]
    fn every_element_counts_and_the_sign_is_ignored() {
        for simd in Simd::available() {
            for place in 0..32 {
                let mut group = [half::bf16::from_f32(1.0).to_le_bytes(); 32];
                group[place] = half::bf16::from_f32(-2.0).to_le_bytes();
                assert_eq!(group_maximum::<Bf16, 32>(&group, simd), 0x4000, "{place} {simd}");
                assert_eq!(group_maximum::<Bf16, 16>(group.as_chunks().0.last().unwrap(), simd) == 0x4000, place > 15);
                let mut group = [1f32.to_le_bytes(); 32];
                group[place] = (-2f32).to_le_bytes();
                assert_eq!(group_maximum::<F32, 32>(&group, simd), 0x4000_0000, "{place} {simd}");
            }
            assert_eq!(group_maximum::<Bf16, 16>(&[[0, 0x80]; 16], simd), 0);
            assert_eq!(group_maximum::<Bf16, 16>(&[[0xFF; 2]; 16], simd), i16::MAX);
        }
    }
}
