//! MXFP8 and MXFP4: E4M3 and E2M1 with a power of two for every 32 columns, as the OCP formats have it.

use super::element::{Bf16, F16, F32};
use super::group::group_maxima;
use super::pack::pack_pairs;
use super::rows::{RowKernel, by_row};
use super::signed::Signed;
use super::table::{TablePlace, cast_by_powers};
use super::thresholds::Thresholds;
use super::walk::FoundNonFinite;
use super::{e2m1, e4m3};
use crate::{Band, NonFinite, Simd, SourceDtype};

/// Columns that share a scale.
pub(crate) const MX_GROUP: usize = 32;

/// Number formats of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MxElement {
    E4m3,
    /// Two in a byte; `round_quotient` rounds to the source dtype first, in which a tiny negative number may lose its
    /// sign.
    E2m1 {
        round_quotient: bool,
    },
}

/// Casts a band to elements under E8M0 scales; the columns are a multiple of [`MX_GROUP`].
pub(crate) fn quantize_microscaled(
    element: MxElement,
    band: &Band<'_>,
    weight: &mut [u8],
    scales: &mut [u8],
) -> Result<(), NonFinite> {
    match band.source.dtype {
        SourceDtype::Bf16 if element == MxElement::E4m3 && band.simd != Simd::PORTABLE => {
            let columns = band.source.columns;
            let scales = GroupScales::new(scales, columns, E4M3_EXPONENT);
            by_row(band, Mxfp8RowsByTable { weight, scales, places: Vec::with_capacity(columns / MX_GROUP) })
        }
        SourceDtype::Bf16 => run::<Bf16>(element, band, weight, scales),
        SourceDtype::F16 => run::<F16>(element, band, weight, scales),
        SourceDtype::F32 => run::<F32>(element, band, weight, scales),
    }
}

fn run<E: Signed>(element: MxElement, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    let columns = band.source.columns;
    match element {
        MxElement::E4m3 => {
            let scales = GroupScales::<E>::new(scales, columns, E4M3_EXPONENT);
            by_row(band, Mxfp8Rows { weight, scales, reciprocals: vec![0.0; columns] })
        }
        MxElement::E2m1 { round_quotient } => {
            let scales = GroupScales::<E>::new(scales, columns, E2M1_EXPONENT);
            let vanishing = if round_quotient { E::VANISHING } else { 0.0 };
            by_row(band, Mxfp4Rows { weight, scales, unpacked: vec![0; columns], vanishing })
        }
    }
}

/// The scales of a band.
struct GroupScales<'a, E: Signed> {
    bytes: &'a mut [u8],
    element_exponent: i32,
    /// Absolute maxima of the groups of a row.
    maxima: Vec<E::Magnitude>,
    /// The factor for the elements of each group: the reciprocal of its scale.
    reciprocals: Vec<f32>,
}

impl<'a, E: Signed> GroupScales<'a, E> {
    fn new(bytes: &'a mut [u8], columns: usize, element_exponent: i32) -> Self {
        let groups = columns / MX_GROUP;
        let (maxima, reciprocals) = (vec![E::Magnitude::default(); groups], vec![0.0; groups]);
        Self { bytes, element_exponent, maxima, reciprocals }
    }

    /// Computes and stores the scales of a row; returns their reciprocals.
    #[inline(always)]
    fn row(&mut self, row: usize, groups: &[[E::Raw; MX_GROUP]], simd: Simd) -> Result<&[f32], FoundNonFinite> {
        group_maxima::<E, MX_GROUP>(groups, &mut self.maxima, simd)?;
        let bytes = &mut self.bytes[row * groups.len()..][..groups.len()];
        for ((byte, reciprocal), &maximum) in bytes.iter_mut().zip(&mut self.reciprocals).zip(&self.maxima) {
            let scale = E8m0Scale::of::<E>(maximum, self.element_exponent);
            (*byte, *reciprocal) = (scale.byte, scale.reciprocal);
        }
        Ok(&self.reciprocals)
    }
}

/// MXFP8.
struct Mxfp8Rows<'a, E: Signed> {
    weight: &'a mut [u8],
    scales: GroupScales<'a, E>,
    /// The factors of the groups, spread over the elements of a row: one long loop then casts the row, where a loop for each
    /// group would be too short to be vectorized well.
    reciprocals: Vec<f32>,
}

impl<E: Signed> RowKernel for Mxfp8Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        let reciprocals = self.scales.row(row, elements.as_chunks().0, simd)?;
        for (spread, &reciprocal) in self.reciprocals.as_chunks_mut().0.iter_mut().zip(reciprocals) {
            *spread = [reciprocal; MX_GROUP];
        }
        let codes = &mut self.weight[row * elements.len()..][..elements.len()];
        for ((code, &raw), reciprocal) in codes.iter_mut().zip(elements).zip(&self.reciprocals) {
            *code = e4m3::encode(E::widen(E::magnitude(raw)) * reciprocal) | E::sign(raw);
        }
        Ok(())
    }
}

/// MXFP8 of BF16, without a product.
struct Mxfp8RowsByTable<'a> {
    weight: &'a mut [u8],
    scales: GroupScales<'a, Bf16>,
    /// Per group of a row.
    places: Vec<TablePlace>,
}

impl RowKernel for Mxfp8RowsByTable<'_> {
    type Source = Bf16;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[[u8; 2]], simd: Simd) -> Result<(), FoundNonFinite> {
        let reciprocals = self.scales.row(row, elements.as_chunks().0, simd)?;
        self.places.clear();
        self.places.extend(reciprocals.iter().map(|&reciprocal| TablePlace::of_power(reciprocal)));
        cast_by_powers(elements, &self.places, &mut self.weight[row * elements.len()..][..elements.len()], simd);
        Ok(())
    }
}

/// MXFP4.
struct Mxfp4Rows<'a, E: Signed> {
    weight: &'a mut [u8],
    scales: GroupScales<'a, E>,
    /// The codes of a row before they are packed.
    unpacked: Vec<u8>,
    /// Quotients up to this are zero without a sign. No element of a group that has [`Thresholds`] has one.
    vanishing: f32,
}

impl<E: Signed> RowKernel for Mxfp4Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        let groups = elements.as_chunks::<MX_GROUP>().0;
        let reciprocals = self.scales.row(row, groups, simd)?;
        let unpacked = self.unpacked.as_chunks_mut::<MX_GROUP>().0;
        for ((&reciprocal, group), codes) in reciprocals.iter().zip(groups).zip(unpacked) {
            // Comparing bits with seven thresholds: 5.9 GB/s a thread with AVX2, where dividing took 4.1.
            if let Some(thresholds) = Thresholds::<E>::of_power(1.0 / reciprocal) {
                thresholds.encode(group, codes, simd);
                continue;
            }
            for (code, &raw) in codes.iter_mut().zip(group) {
                let quotient = E::signed(raw) * reciprocal;
                *code = e2m1::encode(if quotient.abs() > self.vanishing { quotient } else { 0.0 });
            }
        }
        let bytes = elements.len() / 2;
        pack_pairs(&self.unpacked, &mut self.weight[row * bytes..][..bytes]);
        Ok(())
    }
}

/// The exponent of the largest E4M3 value.
const E4M3_EXPONENT: i32 = 8;

/// The exponent of the largest E2M1 value.
const E2M1_EXPONENT: i32 = 2;

/// An E8M0 scale.
struct E8m0Scale {
    byte: u8,
    /// Exact, as every product with it is that matters.
    reciprocal: f32,
}

impl E8m0Scale {
    /// The scale under which a group's maximum comes into the largest octave of the elements.
    ///
    /// The maximum counts as the next power of two from 1.75 times a power of two on, as in compressed-tensors. There the
    /// scale also passes through the dtype of the weight, with consequences for F16: a scale that is too small for it
    /// becomes 1, and so do the bytes of maxima too large for the next power of two, whose elements become zero.
    #[inline(always)]
    fn of<E: Signed>(maximum: E::Magnitude, element_exponent: i32) -> Self {
        const ONE: i32 = 127;
        let exponent = (E::integer(maximum) + (1 << (E::SIGNIFICAND - 2))) >> E::SIGNIFICAND;
        let infinite = E::integer(E::INFINITE) >> E::SIGNIFICAND;
        let byte = if exponent == 0 { 0 } else { (ONE + exponent - E::BIAS - element_exponent).max(0) };
        let byte = if byte < E::LEAST_SCALE || exponent >= infinite { ONE } else { byte };
        let reciprocal = f32::from_bits(((2 * ONE - byte) as u32) << 23);
        let reciprocal = if exponent >= infinite { 0.0 } else { reciprocal };
        Self { byte: byte as u8, reciprocal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::element::Element;

    fn byte<E: Signed>(maximum: E::Magnitude, exponent: i32) -> (u8, f32) {
        let scale = E8m0Scale::of::<E>(maximum, exponent);
        (scale.byte, scale.reciprocal)
    }

    fn bf16(value: f32) -> i16 {
        Bf16::magnitude(half::bf16::from_f32(value).to_le_bytes())
    }

    fn f16(value: f32) -> i16 {
        F16::magnitude(half::f16::from_f32(value).to_le_bytes())
    }

    #[test]
    fn a_maximum_counts_as_the_next_octave_from_seven_quarters_on() {
        assert_eq!(byte::<Bf16>(bf16(1.0), 2), (125, 4.0));
        assert_eq!(byte::<Bf16>(bf16(1.74), 2), (125, 4.0));
        assert_eq!(byte::<Bf16>(bf16(1.75), 2), (126, 2.0));
        assert_eq!(byte::<F16>(f16(1.75), 8), (120, 128.0));
        assert_eq!(byte::<F32>(1.75f32.next_down().to_bits() as i32, 8), (119, 256.0));
    }

    #[test]
    fn scales_end_where_those_of_compressed_tensors_do() {
        assert_eq!(byte::<Bf16>(0, 8), (0, 2f32.powi(127)));
        assert_eq!(byte::<Bf16>(1, 8), (0, 2f32.powi(127)));
        assert_eq!(byte::<Bf16>(Bf16::INFINITE - 1, 8), (127, 0.0));
        assert_eq!(byte::<F16>(0, 2), (127, 1.0));
        // 2^-24 is the least scale that F16 holds.
        assert_eq!(byte::<F16>(f16(2f32.powi(-14)), 8), (105, 2f32.powi(22)));
        assert_eq!(byte::<F16>(f16(57344.0), 2), (127, 0.0));
        assert_eq!(byte::<F16>(f16(57312.0), 2), (140, 2f32.powi(-13)));
    }
}
