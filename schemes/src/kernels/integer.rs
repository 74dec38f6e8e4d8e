//! Integers of 2 to 8 bits, symmetric or with a zero point, one in a byte or packed.

mod codes;
mod qparams;
mod search;

use super::amax::maximum;
use super::element::{Bf16, F16, F32};
use super::pack::{pack_row, packed_bytes};
use super::rows::{RowKernel, by_row};
use super::scale;
use super::shrunken::CandidateErrors;
use super::signed::Signed;
use super::walk::FoundNonFinite;
use crate::{Band, NonFinite, Simd, SourceDtype};
use codes::{CodeForm, cast_group};
pub(crate) use qparams::IntegerCast;
use qparams::{shifted, symmetric};
use search::Candidates;

/// Places of a band's integers, scales and zero points.
pub(crate) struct IntegerOutputs<'a> {
    pub(crate) weight: &'a mut [u8],
    /// Empty where the band stores none.
    pub(crate) scales: &'a mut [u8],
    /// `None` for symmetric integers.
    pub(crate) zero_points: Option<&'a mut [u8]>,
}

/// Casts a band to integers.
pub(crate) fn quantize_integers(
    cast: IntegerCast,
    band: &Band<'_>,
    outputs: IntegerOutputs<'_>,
) -> Result<(), NonFinite> {
    match (band.source.dtype, cast.round_quotient) {
        (SourceDtype::Bf16, false) => run::<Bf16, false>(cast, band, outputs),
        (SourceDtype::Bf16, true) => run::<Bf16, true>(cast, band, outputs),
        (SourceDtype::F16, false) => run::<F16, false>(cast, band, outputs),
        (SourceDtype::F16, true) => run::<F16, true>(cast, band, outputs),
        (SourceDtype::F32, _) => run::<F32, false>(cast, band, outputs),
    }
}

fn run<E: Signed, const ROUNDED: bool>(
    cast: IntegerCast,
    band: &Band<'_>,
    mut outputs: IntegerOutputs<'_>,
) -> Result<(), NonFinite> {
    let tensor = band.amax.map(|amax| {
        let scale = scale::scale(amax, cast.symmetric_range(), E::DTYPE);
        if !outputs.scales.is_empty() {
            scale::store(scale, E::DTYPE, outputs.scales);
        }
        scale
    });
    if let Some(zero_points) = &mut outputs.zero_points {
        // Packed ones are put in bit by bit.
        zero_points.fill(0);
    }
    let columns = band.source.columns;
    let stride = if cast.packed { packed_bytes(columns, cast.bits) } else { columns };
    let unpacked = vec![0; if cast.packed && cast.bits < 8 { columns } else { 0 }];
    let groups = Groups {
        above: vec![E::Magnitude::default(); cast.groups],
        below: vec![E::Magnitude::default(); if outputs.zero_points.is_some() { cast.groups } else { 0 }],
        scales: vec![tensor.unwrap_or_default(); cast.groups],
        zeros: vec![0.0; cast.groups],
    };
    let search = cast.search.then(CandidateErrors::new);
    by_row(
        band,
        IntegerRows::<E, ROUNDED> { cast, outputs, tensor: tensor.is_some(), search, stride, unpacked, groups },
    )
}

/// The groups of a row, as far as they are known.
struct Groups<M> {
    /// The greatest magnitudes: of positive elements if there are zero points, else of all.
    above: Vec<M>,
    /// The greatest magnitudes of negative elements, if there are zero points.
    below: Vec<M>,
    scales: Vec<f32>,
    /// The integers that stand for zero.
    zeros: Vec<f32>,
}

struct IntegerRows<'a, E: Signed, const ROUNDED: bool> {
    cast: IntegerCast,
    outputs: IntegerOutputs<'a>,
    /// Uses one scale for the whole tensor.
    tensor: bool,
    /// Set where the quantization parameters are those of least error.
    search: Option<CandidateErrors<E>>,
    /// Bytes of a row of the weight.
    stride: usize,
    /// The integers of a row before they are packed; empty where they are a byte each.
    unpacked: Vec<u8>,
    groups: Groups<E::Magnitude>,
}

impl<E: Signed, const ROUNDED: bool> RowKernel for IntegerRows<'_, E, ROUNDED> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), FoundNonFinite> {
        let cast = self.cast;
        self.groups.measure::<E>(cast, elements)?;
        if !self.tensor {
            self.groups.qparams::<E>(cast);
            if let Some(errors) = &self.search {
                self.groups.least_errors::<E, ROUNDED>(cast, elements, errors, simd);
            }
            self.store_scales(row);
            self.store_zeros(row);
        }
        let weight = &mut self.outputs.weight[row * self.stride..][..self.stride];
        let codes = match self.unpacked.is_empty() {
            true => &mut weight[..elements.len()],
            false => &mut self.unpacked[..],
        };
        let form = CodeForm::of(cast, simd);
        for (group, (&scale, &zero)) in self.groups.scales.iter().zip(&self.groups.zeros).enumerate() {
            let (first, end) = (group * cast.width, (group + 1) * cast.width);
            let (elements, codes) = (&elements[first..end], &mut codes[first..end]);
            cast_group::<E, ROUNDED>(elements, scale, zero, form, codes, simd);
        }
        match self.unpacked.is_empty() {
            true => weight[elements.len()..].fill(0),
            false => pack_row(&mut self.unpacked, cast.pairs(), cast.bits, weight, simd),
        }
        Ok(())
    }
}

impl<E: Signed, const ROUNDED: bool> IntegerRows<'_, E, ROUNDED> {
    #[inline(always)]
    fn store_scales(&mut self, row: usize) {
        let bytes = E::DTYPE.bytes() * self.cast.groups;
        let stored = self.outputs.scales[row * bytes..][..bytes].chunks_exact_mut(E::DTYPE.bytes());
        for (stored, &scale) in stored.zip(&self.groups.scales) {
            scale::store(scale, E::DTYPE, stored);
        }
    }

    /// Stores zero points a byte each, or packed with those of the rows above and below.
    #[inline(always)]
    fn store_zeros(&mut self, row: usize) {
        let Some(zero_points) = &mut self.outputs.zero_points else { return };
        let zeros = self.groups.zeros.iter().map(|&zero| zero as i8 as u8);
        let IntegerCast { bits, packed, groups, .. } = self.cast;
        if !packed {
            zero_points[row * groups..][..groups].iter_mut().zip(zeros).for_each(|(stored, zero)| *stored = zero);
            return;
        }
        // A code may begin in one word and end in the next, which is a row further.
        let (word, shift) = (row * bits as usize / 32, row * bits as usize % 32);
        let words = &mut zero_points.as_chunks_mut::<4>().0[word * groups..];
        let (first, second) = words.split_at_mut(groups);
        let codes = zeros.map(|zero| u64::from(zero.wrapping_add(self.cast.half()) & (u8::MAX >> (8 - bits))) << shift);
        for (stored, code) in first.iter_mut().zip(codes.clone()) {
            *stored = (u32::from_le_bytes(*stored) | code as u32).to_le_bytes();
        }
        if shift + bits as usize > 32 {
            for (stored, code) in second.iter_mut().zip(codes) {
                *stored = (u32::from_le_bytes(*stored) | (code >> 32) as u32).to_le_bytes();
            }
        }
    }
}

impl<M: Copy + Ord + Default> Groups<M> {
    /// Finds the extremes of the groups of a row.
    #[inline(always)]
    fn measure<E: Signed<Magnitude = M>>(
        &mut self,
        cast: IntegerCast,
        elements: &[E::Raw],
    ) -> Result<(), FoundNonFinite> {
        let groups = elements.chunks_exact(cast.width.max(1));
        if self.below.is_empty() {
            for (above, elements) in self.above.iter_mut().zip(groups) {
                *above = maximum::<E>(elements);
            }
        } else {
            for ((above, below), elements) in self.above.iter_mut().zip(&mut self.below).zip(groups) {
                (*above, *below) = extremes::<E>(elements);
            }
        }
        let greatest = self.above.iter().chain(&self.below).max();
        if greatest.is_some_and(|&greatest| greatest >= E::INFINITE) { Err(FoundNonFinite) } else { Ok(()) }
    }

    /// Turns extremes into quantization parameters: scales and zero points.
    #[inline(always)]
    fn qparams<E: Signed<Magnitude = M>>(&mut self, cast: IntegerCast) {
        let epsilon = scale::epsilon(E::DTYPE);
        if self.below.is_empty() {
            for (scale, &above) in self.scales.iter_mut().zip(&self.above) {
                *scale = symmetric::<E>(E::widen(above), cast, epsilon);
            }
            return;
        }
        let steps = self.scales.iter_mut().zip(&mut self.zeros);
        for ((scale, zero), (&below, &above)) in steps.zip(self.below.iter().zip(&self.above)) {
            (*scale, *zero) = shifted::<E>(-E::widen(below), E::widen(above), cast, epsilon);
        }
    }
}

impl<M: Copy + Ord + Default> Groups<M> {
    /// Replaces quantization parameters by those of least error.
    #[inline(always)]
    fn least_errors<E: Signed<Magnitude = M>, const ROUNDED: bool>(
        &mut self,
        cast: IntegerCast,
        elements: &[E::Raw],
        errors: &CandidateErrors<E>,
        simd: Simd,
    ) {
        let candidates = Candidates::<E, ROUNDED> { cast, errors, simd };
        for group in 0..cast.groups {
            let elements = &elements[group * cast.width..][..cast.width];
            let least = if self.below.is_empty() { None } else { Some(-E::widen(self.below[group])) };
            let greatest = E::widen(self.above[group]);
            (self.scales[group], self.zeros[group]) = candidates.least_error(elements, least, greatest);
        }
    }
}

/// Returns the greatest magnitudes of the positive and of the negative elements; zero counts as both.
#[inline(always)]
fn extremes<E: Signed>(elements: &[E::Raw]) -> (E::Magnitude, E::Magnitude) {
    elements.iter().fold(Default::default(), |(above, below): (E::Magnitude, E::Magnitude), &raw| {
        (above.max(E::above(raw)), below.max(E::below(raw)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use crate::kernels::pack::bit_by_bit;

    const CAST: IntegerCast =
        IntegerCast { bits: 4, round_quotient: false, packed: false, groups: 1, width: 4, search: false };

    /// The integers of one row.
    fn quantized(cast: IntegerCast, bytes: &[u8], simd: Simd) -> Vec<u8> {
        let columns = cast.groups * cast.width;
        let source = Matrix { dtype: SourceDtype::F32, rows: 1, columns };
        let band = Band { source, first_row: 0, rows: 1, bytes, amax: None, simd };
        let mut weight = vec![0; if cast.packed { packed_bytes(columns, cast.bits) } else { columns }];
        let mut scales = vec![0; 4 * cast.groups];
        let outputs = IntegerOutputs { weight: &mut weight, scales: &mut scales, zero_points: None };
        assert!(quantize_integers(cast, &band, outputs).is_ok());
        weight
    }

    #[test]
    fn packed_codes_are_those_of_a_byte_each_whatever_the_groups() {
        for (bits, groups, width) in
            (2..8).flat_map(|bits| (1..5).flat_map(move |g| (1..14).map(move |w| (bits, g, w))))
        {
            let cast = IntegerCast { bits, groups, width, ..CAST };
            let bytes: Vec<u8> =
                (0..groups * width).flat_map(|index| ((index * 29 % 31) as f32 - 15.0).to_le_bytes()).collect();
            for simd in Simd::available() {
                let packed = quantized(IntegerCast { packed: true, ..cast }, &bytes, simd);
                let codes: Vec<u8> =
                    quantized(cast, &bytes, simd).iter().map(|code| code.wrapping_add(cast.half())).collect();
                assert_eq!(packed, bit_by_bit(&codes, bits), "{bits} bits, {groups} groups of {width}, {simd}");
            }
        }
    }
}
