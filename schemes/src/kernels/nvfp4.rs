//! NVFP4: E2M1 with an E4M3 scale for every 16 columns, under an F32 scale for the tensor.

mod divisors;

use super::element::{Bf16, F16, F32};
use super::group::group_maxima;
use super::pack::pack_pairs;
use super::rows::{RowKernel, by_row};
use super::signed::Signed;
use super::walk::FoundNonFinite;
use super::{e2m1, e4m3, lossless};
use crate::{Band, NonFinite, Simd, SourceDtype};
pub(crate) use divisors::NVFP4_GROUP;
use divisors::{EIGHTH, GroupDivisors, stored};

/// The rule of both scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nvfp4Scales {
    /// From the absolute maxima, as compressed-tensors rounds them.
    Absmax,
    /// The least powers of two that clamp nothing, under a power of two.
    PowersOfTwo,
    /// Of the scales around that of the absolute maximum, the one of least squared error.
    LeastError,
    /// The scale under which the absolute maximum is 6, or that under which it is 4, whichever has the lesser squared error.
    FourOverSix,
}

/// Casts a band to pairs of E2M1; the columns are a multiple of [`NVFP4_GROUP`], and `amax` is the maximum over all
/// weights that share a global scale, which is stored where `global` is not empty.
pub(crate) fn quantize_nvfp4(
    rule: Nvfp4Scales,
    amax: f32,
    band: &Band<'_>,
    weight: &mut [u8],
    scales: &mut [u8],
    global: &mut [u8],
) -> Result<(), NonFinite> {
    match band.source.dtype {
        SourceDtype::Bf16 => run::<Bf16>(rule, amax, band, weight, scales, global),
        SourceDtype::F16 => run::<F16>(rule, amax, band, weight, scales, global),
        SourceDtype::F32 => run::<F32>(rule, amax, band, weight, scales, global),
    }
}

fn run<E: Signed>(
    rule: Nvfp4Scales,
    amax: f32,
    band: &Band<'_>,
    weight: &mut [u8],
    scales: &mut [u8],
    global: &mut [u8],
) -> Result<(), NonFinite> {
    let global_scale = match rule {
        Nvfp4Scales::Absmax | Nvfp4Scales::LeastError => global_scale::<E>(amax, e4m3::MAX),
        // 256 is the largest scale of which one and a half times are not beyond 448.
        Nvfp4Scales::FourOverSix => global_scale::<E>(amax, 256.0),
        Nvfp4Scales::PowersOfTwo => lossless::global_power_of_two(amax),
    };
    if !global.is_empty() {
        global.copy_from_slice(&global_scale.to_le_bytes());
    }
    let columns = band.source.columns;
    // A scale has 127 codes, a weight thousands of groups: the thresholds are made once for each code. With that and AVX2,
    // NVFP4A16 went from 3.5 to 2.6 times the narrowing copy.
    let divisors = GroupDivisors::under(global_scale);
    let (maxima, unpacked) = (vec![E::Magnitude::default(); columns / NVFP4_GROUP], vec![0; columns]);
    by_row(band, Nvfp4Rows::<E> { rule, amax, global_scale, weight, scales, maxima, divisors, unpacked })
}

/// Returns the global scale, which takes the maximum to the product of `largest`, an E4M3 scale, and 6, the largest E2M1
/// element.
///
/// It is computed in the dtype of the weight, and where that overflows it is 1, as in compressed-tensors.
fn global_scale<E: Signed>(amax: f32, largest: f32) -> f32 {
    let scale = E::round(E::round(1.0 / amax.max(E::SMALLEST_NORMAL)) * (largest * e2m1::MAX));
    if scale.is_finite() { scale } else { 1.0 }
}

struct Nvfp4Rows<'a, E: Signed> {
    rule: Nvfp4Scales,
    amax: f32,
    global_scale: f32,
    weight: &'a mut [u8],
    scales: &'a mut [u8],
    /// Absolute maxima of the groups of a row.
    maxima: Vec<E::Magnitude>,
    divisors: GroupDivisors<E>,
    /// The codes of a row before they are packed.
    unpacked: Vec<u8>,
}

impl<E: Signed> Nvfp4Rows<'_, E> {
    /// Returns the scale of a group, not yet rounded to E4M3, under which its maximum is `largest`.
    #[inline(always)]
    fn exact(&self, maximum: f32, largest: f32) -> f32 {
        self.global_scale * E::round(maximum / largest)
    }
}

impl<E: Signed> RowKernel for Nvfp4Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        let groups = elements.as_chunks::<NVFP4_GROUP>().0;
        group_maxima::<E, NVFP4_GROUP>(groups, &mut self.maxima, simd)?;
        let first = row * groups.len();
        for (index, group) in groups.iter().enumerate() {
            let maximum = E::widen(self.maxima[index]);
            self.scales[first + index] = match self.rule {
                Nvfp4Scales::Absmax => stored(self.exact(maximum, e2m1::MAX)),
                // A scale of zero is replaced by an eighth.
                Nvfp4Scales::PowersOfTwo => lossless::group_power_of_two(maximum, self.amax).unwrap_or(EIGHTH),
                Nvfp4Scales::LeastError => self.divisors.least_error(self.exact(maximum, e2m1::MAX), group, simd),
                Nvfp4Scales::FourOverSix => {
                    let [six, four] = [e2m1::MAX, 4.0].map(|largest| stored(self.exact(maximum, largest)));
                    self.divisors.better(six, four, group, simd)
                }
            };
        }
        let unpacked = self.unpacked.as_chunks_mut::<NVFP4_GROUP>().0;
        for ((&scale, group), codes) in self.scales[first..].iter().zip(groups).zip(unpacked) {
            self.divisors.encode(scale, group, codes, simd);
        }
        let bytes = elements.len() / 2;
        pack_pairs(&self.unpacked, &mut self.weight[row * bytes..][..bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_global_scale_is_rounded_twice_and_never_infinite() {
        assert_eq!(global_scale::<F32>(1.0, 448.0), 2688.0);
        assert_eq!(global_scale::<F32>(3.0, 448.0), (1.0f32 / 3.0) * 2688.0);
        assert_eq!(global_scale::<Bf16>(3.0, 448.0), 896.0);
        assert_eq!(global_scale::<Bf16>(3.0, 256.0), 512.0);
        assert_eq!(
            (global_scale::<F32>(0.0, 448.0), global_scale::<Bf16>(0.0, 448.0), global_scale::<F16>(0.0, 448.0)),
            (1.0, 1.0, 1.0)
        );
        // 2688 / 65504 is where F16 ends.
        assert_eq!(global_scale::<F16>(0.04, 448.0), 1.0);
        assert!(global_scale::<F16>(0.042, 448.0) > 60000.0);
    }

    #[test]
    fn a_scale_of_zero_becomes_an_eighth() {
        assert_eq!(e4m3::decode(EIGHTH), 0.125);
    }
}
