//! MXFP8, MXFP6 and MXFP4: E4M3, E2M3 and E2M1 with a power of two for every 32 columns, as the OCP formats have it.

use super::element::{Bf16, F16, F32};
use super::group::group_maxima;
use super::pack::{join_pairs, pack, pack_pairs};
use super::rows::{RowKernel, by_row};
use super::shrunken::{CANDIDATES, CandidateErrors, shrunken};
use super::signed::Signed;
use super::table::{TablePlace, cast_by_powers};
use super::thresholds::Thresholds;
use super::walk::FoundNonFinite;
use super::{e2m1, e2m3, e4m3};
use crate::{Band, NonFinite, Simd, SourceDtype};

/// Columns that share a scale.
pub(crate) const MX_GROUP: usize = 32;

/// Number formats of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MxElement {
    E4m3,
    /// Four in three bytes; every element keeps its sign.
    E2m3,
    /// Two in a byte; `round_quotient` rounds to the source dtype first, in which a tiny negative number may lose its
    /// sign.
    E2m1 {
        round_quotient: bool,
        /// Looks for the scale of least error among those of shrunken maxima.
        search: bool,
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
            let scales = GroupScales::new(scales, columns, element);
            by_row(band, Mxfp8RowsByTable { weight, scales, places: Vec::with_capacity(columns / MX_GROUP) })
        }
        SourceDtype::Bf16 => run::<Bf16>(element, band, weight, scales),
        SourceDtype::F16 => run::<F16>(element, band, weight, scales),
        SourceDtype::F32 => run::<F32>(element, band, weight, scales),
    }
}

fn run<E: Signed>(element: MxElement, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    let columns = band.source.columns;
    let scales = GroupScales::<E>::new(scales, columns, element);
    match element {
        MxElement::E4m3 => by_row(band, Mxfp8Rows { weight, scales, reciprocals: vec![0.0; columns] }),
        MxElement::E2m3 => {
            let (reciprocals, unpacked) = (vec![0.0; columns], vec![0; columns]);
            by_row(band, Mxfp6Rows { weight, scales, reciprocals, unpacked })
        }
        MxElement::E2m1 { round_quotient, search } => {
            let vanishing = if round_quotient { E::VANISHING } else { 0.0 };
            let errors = search.then(CandidateErrors::new);
            by_row(band, Mxfp4Rows { weight, scales, unpacked: vec![0; columns], vanishing, errors })
        }
    }
}

/// The scales of a band.
struct GroupScales<'a, E: Signed> {
    bytes: &'a mut [u8],
    element: MxElement,
    /// Absolute maxima of the groups of a row.
    maxima: Vec<E::Magnitude>,
    /// The factor for the elements of each group: the reciprocal of its scale.
    reciprocals: Vec<f32>,
}

impl<'a, E: Signed> GroupScales<'a, E> {
    fn new(bytes: &'a mut [u8], columns: usize, element: MxElement) -> Self {
        let groups = columns / MX_GROUP;
        let (maxima, reciprocals) = (vec![E::Magnitude::default(); groups], vec![0.0; groups]);
        Self { bytes, element, maxima, reciprocals }
    }

    /// Computes and stores the scales of a row; returns their reciprocals.
    #[inline(always)]
    fn row(&mut self, row: usize, groups: &[[E::Raw; MX_GROUP]], simd: Simd) -> Result<&[f32], FoundNonFinite> {
        group_maxima::<E, MX_GROUP>(groups, &mut self.maxima, simd)?;
        let bytes = &mut self.bytes[row * groups.len()..][..groups.len()];
        for ((byte, reciprocal), &maximum) in bytes.iter_mut().zip(&mut self.reciprocals).zip(&self.maxima) {
            let scale = E8m0Scale::of::<E>(maximum, self.element);
            (*byte, *reciprocal) = (scale.byte, scale.reciprocal);
        }
        Ok(&self.reciprocals)
    }

    /// Replaces the scales of a row, which [`GroupScales::row`] has computed, by those of least error.
    #[inline(always)]
    fn least_errors(&mut self, row: usize, groups: &[[E::Raw; MX_GROUP]], errors: &CandidateErrors<E>) {
        let bytes = &mut self.bytes[row * groups.len()..][..groups.len()];
        let scales = bytes.iter_mut().zip(&mut self.reciprocals).zip(&self.maxima);
        for (((byte, reciprocal), &maximum), group) in scales.zip(groups) {
            let scale = E8m0Scale { byte: *byte, reciprocal: *reciprocal };
            let scale = scale.least_error(maximum, self.element, group, errors);
            (*byte, *reciprocal) = (scale.byte, scale.reciprocal);
        }
    }

    /// The same as [`GroupScales::row`], with each reciprocal spread over the elements of its group: one long loop then casts
    /// the row, where a loop for each group would be too short to be vectorized well.
    #[inline(always)]
    fn spread_row(
        &mut self,
        row: usize,
        elements: &[E::Raw],
        spread: &mut [f32],
        simd: Simd,
    ) -> Result<(), FoundNonFinite> {
        let reciprocals = self.row(row, elements.as_chunks().0, simd)?;
        for (spread, &reciprocal) in spread.as_chunks_mut().0.iter_mut().zip(reciprocals) {
            *spread = [reciprocal; MX_GROUP];
        }
        Ok(())
    }
}

/// MXFP8.
struct Mxfp8Rows<'a, E: Signed> {
    weight: &'a mut [u8],
    scales: GroupScales<'a, E>,
    /// The factors of the elements of a row.
    reciprocals: Vec<f32>,
}

impl<E: Signed> RowKernel for Mxfp8Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        self.scales.spread_row(row, elements, &mut self.reciprocals, simd)?;
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

/// MXFP6.
struct Mxfp6Rows<'a, E: Signed> {
    weight: &'a mut [u8],
    scales: GroupScales<'a, E>,
    /// The factors of the elements of a row.
    reciprocals: Vec<f32>,
    /// The codes of a row before they are packed.
    unpacked: Vec<u8>,
}

impl<E: Signed> RowKernel for Mxfp6Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        self.scales.spread_row(row, elements, &mut self.reciprocals, simd)?;
        for ((code, &raw), reciprocal) in self.unpacked.iter_mut().zip(elements).zip(&self.reciprocals) {
            *code = e2m3::encode(E::widen(E::magnitude(raw)) * reciprocal) | E::sign(raw) >> 2;
        }
        join_pairs(&mut self.unpacked, 6);
        let bytes = elements.len() / 4 * 3;
        pack(&mut self.unpacked, 6, &mut self.weight[row * bytes..][..bytes]);
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
    /// Set where the scales are those of least error.
    errors: Option<CandidateErrors<E>>,
}

impl<E: Signed> RowKernel for Mxfp4Rows<'_, E> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        let groups = elements.as_chunks::<MX_GROUP>().0;
        self.scales.row(row, groups, simd)?;
        if let Some(errors) = &self.errors {
            self.scales.least_errors(row, groups, errors);
        }
        let (reciprocals, unpacked) = (&self.scales.reciprocals, self.unpacked.as_chunks_mut::<MX_GROUP>().0);
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

impl MxElement {
    /// The exponent of the largest value.
    const fn largest_exponent(self) -> i32 {
        match self {
            Self::E4m3 => 8,
            Self::E2m3 | Self::E2m1 { .. } => 2,
        }
    }

    /// The bits of mantissa from whose middle, past the last value that they hold, a maximum counts as the next power of two.
    const fn rounded_mantissa(self) -> u32 {
        match self {
            // compressed-tensors takes that of E2M1 for E4M3 as well, whose 448 is 1.75 times a power of two.
            Self::E4m3 | Self::E2m1 { .. } => 1,
            Self::E2m3 => 3,
        }
    }
}

/// An E8M0 scale.
#[derive(Clone, Copy)]
struct E8m0Scale {
    byte: u8,
    /// Exact, as every product with it is that matters.
    reciprocal: f32,
}

impl E8m0Scale {
    /// The scale under which a group's maximum comes into the largest octave of the elements.
    ///
    /// The maximum counts as the next power of two from 1.75 times a power of two on (1.9375 times for E2M3), as in
    /// compressed-tensors. There the scale also passes through the dtype of the weight, with consequences for F16: a scale
    /// that is too small for it becomes 1, and so do the bytes of maxima too large for the next power of two, whose elements
    /// become zero.
    #[inline(always)]
    fn of<E: Signed>(maximum: E::Magnitude, element: MxElement) -> Self {
        const ONE: i32 = 127;
        let half_of_last_bit = 1 << (E::SIGNIFICAND - element.rounded_mantissa() - 1);
        let exponent = (E::integer(maximum) + half_of_last_bit) >> E::SIGNIFICAND;
        let infinite = E::integer(E::INFINITE) >> E::SIGNIFICAND;
        let byte = if exponent == 0 { 0 } else { (ONE + exponent - E::BIAS - element.largest_exponent()).max(0) };
        let byte = if byte < E::LEAST_SCALE || exponent >= infinite { ONE } else { byte };
        let reciprocal = f32::from_bits(((2 * ONE - byte) as u32) << 23);
        let reciprocal = if exponent >= infinite { 0.0 } else { reciprocal };
        Self { byte: byte as u8, reciprocal }
    }

    /// Returns the scale of the shrunken maximum that leaves the least error, where `self` is that of the maximum.
    #[inline(always)]
    fn least_error<E: Signed>(
        self,
        maximum: E::Magnitude,
        element: MxElement,
        group: &[E::Raw; MX_GROUP],
        errors: &CandidateErrors<E>,
    ) -> Self {
        // The maxima lie within an octave: there are two scales, that of the maximum and one half as large, or one.
        let mut candidate = 1;
        while candidate < CANDIDATES {
            let pattern = E::pattern_of(shrunken::<E>(E::widen(maximum), candidate));
            let scale = Self::of::<E>(E::from_integer(pattern as i32), element);
            if (scale.byte, scale.reciprocal) != (self.byte, self.reciprocal) {
                let bound = CandidateErrors::<E>::bound_after_first(self.error(group, f64::INFINITY, errors));
                let is_better = scale.error(group, bound, errors) < bound;
                return if is_better { scale } else { self };
            }
            candidate += 1;
        }
        self
    }

    /// Returns the error of a group under this scale, or some number of at least `bound`: beyond all others where there is none.
    #[inline(always)]
    fn error<E: Signed>(self, group: &[E::Raw; MX_GROUP], bound: f64, errors: &CandidateErrors<E>) -> f64 {
        // A maximum that is too large: the elements are divided by infinity.
        if self.reciprocal == 0.0 {
            return f64::INFINITY;
        }
        let number = |element: f32| e2m1::decode(e2m1::encode(element * self.reciprocal));
        errors.error(group, 1.0 / self.reciprocal, bound, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::element::Element;

    const E4M3: MxElement = MxElement::E4m3;
    const E2M3: MxElement = MxElement::E2m3;
    const E2M1: MxElement = MxElement::E2m1 { round_quotient: false, search: false };

    fn byte<E: Signed>(maximum: E::Magnitude, element: MxElement) -> (u8, f32) {
        let scale = E8m0Scale::of::<E>(maximum, element);
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
        assert_eq!(byte::<Bf16>(bf16(1.0), E2M1), (125, 4.0));
        assert_eq!(byte::<Bf16>(bf16(1.74), E2M1), (125, 4.0));
        assert_eq!(byte::<Bf16>(bf16(1.75), E2M1), (126, 2.0));
        assert_eq!(byte::<F16>(f16(1.75), E4M3), (120, 128.0));
        assert_eq!(byte::<F32>(1.75f32.next_down().to_bits() as i32, E4M3), (119, 256.0));
    }

    #[test]
    fn a_maximum_of_e2m3_counts_as_the_next_octave_from_where_it_would_round_past_the_last_value() {
        assert_eq!(byte::<Bf16>(bf16(1.9296875), E2M3), (125, 4.0));
        assert_eq!(byte::<Bf16>(bf16(1.9375), E2M3), (126, 2.0));
        assert_eq!(byte::<F16>(f16(1.9375), E2M3), (126, 2.0));
        assert_eq!(byte::<F16>(f16(1.9375) - 1, E2M3), (125, 4.0));
        assert_eq!(byte::<F32>(1.9375f32.next_down().to_bits() as i32, E2M3), (125, 4.0));
        assert_eq!(byte::<F32>(1.9375f32.to_bits() as i32, E2M3), (126, 2.0));
    }

    #[test]
    fn scales_end_where_those_of_compressed_tensors_do() {
        assert_eq!(byte::<Bf16>(0, E4M3), (0, 2f32.powi(127)));
        assert_eq!(byte::<Bf16>(1, E4M3), (0, 2f32.powi(127)));
        assert_eq!(byte::<Bf16>(Bf16::INFINITE - 1, E4M3), (127, 0.0));
        assert_eq!(byte::<F16>(0, E2M1), (127, 1.0));
        // 2^-24 is the least scale that F16 holds.
        assert_eq!(byte::<F16>(f16(2f32.powi(-14)), E4M3), (105, 2f32.powi(22)));
        assert_eq!(byte::<F16>(f16(57344.0), E2M1), (127, 0.0));
        assert_eq!(byte::<F16>(f16(57312.0), E2M1), (140, 2f32.powi(-13)));
    }
}
