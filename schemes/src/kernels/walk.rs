//! The rows of a band on their way through a cast: elements in, codes and scales out.

use super::element::Element;
use super::{e4m3, scale};
use crate::{Band, Simd, SourceDtype};

/// A NaN or infinity in a band; a second pass finds its place, so that the first needs no position.
pub(super) struct FoundNonFinite;

/// One way to divide by a scale and round to E4M3.
pub(super) trait Caster {
    type Source: Element;

    /// A scale, made ready to be divided by.
    type Divisor;

    /// Inlined into code that was compiled for an instruction set, as [`Caster::cast`] is.
    fn divisor(scale: f32) -> Self::Divisor;

    /// Casts finite elements of a row, each `width` of them under a divisor of their own.
    fn cast(
        source: &[<Self::Source as Element>::Raw],
        divisors: &[Self::Divisor],
        width: usize,
        out: &mut [u8],
        simd: Simd,
    );
}

/// The rows of a band, and the places of its codes and scales.
pub(super) struct Walk<'a, C: Caster> {
    elements: &'a [<C::Source as Element>::Raw],
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) scale_dtype: SourceDtype,
    weight: &'a mut [u8],
    pub(super) scales: &'a mut [u8],
}

impl<'a, C: Caster> Walk<'a, C> {
    #[inline(always)]
    pub(super) fn of(band: &Band<'a>, scale_dtype: SourceDtype, weight: &'a mut [u8], scales: &'a mut [u8]) -> Self {
        let elements = C::Source::elements(band.bytes);
        Self { elements, columns: band.source.columns, rows: band.rows, scale_dtype, weight, scales }
    }

    /// Turns the maximum of group number `group` into its scale, stores that, and makes it ready to divide by.
    #[inline(always)]
    pub(super) fn scale(
        &mut self,
        group: usize,
        maximum: <C::Source as Element>::Magnitude,
    ) -> Result<C::Divisor, FoundNonFinite> {
        if maximum >= C::Source::INFINITE {
            return Err(FoundNonFinite);
        }
        let scale = scale::scale(C::Source::widen(maximum), e4m3::MAX, self.scale_dtype);
        self.store(group, scale);
        Ok(C::divisor(scale))
    }

    /// Stores the scale of group number `group`.
    #[inline(always)]
    pub(super) fn store(&mut self, group: usize, scale: f32) {
        let bytes = self.scale_dtype.bytes();
        scale::store(scale, self.scale_dtype, &mut self.scales[group * bytes..][..bytes]);
    }

    /// The part of a row that begins at a column.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, first: usize, columns: usize) -> &[<C::Source as Element>::Raw] {
        &self.elements[row * self.columns + first..][..columns]
    }

    /// The codes of such a part, once it is cast.
    #[inline(always)]
    pub(super) fn codes(&self, row: usize, first: usize, columns: usize) -> &[u8] {
        &self.weight[row * self.columns + first..][..columns]
    }

    /// Casts such a part, each `width` columns of it under a divisor of their own.
    #[inline(always)]
    pub(super) fn cast(
        &mut self,
        row: usize,
        first: usize,
        columns: usize,
        divisors: &[C::Divisor],
        width: usize,
        simd: Simd,
    ) {
        let place = row * self.columns + first;
        C::cast(&self.elements[place..][..columns], divisors, width, &mut self.weight[place..][..columns], simd);
    }

    /// Casts a whole row under one divisor.
    #[inline(always)]
    pub(super) fn cast_row(&mut self, row: usize, divisor: &C::Divisor, simd: Simd) {
        self.cast(row, 0, self.columns, std::slice::from_ref(divisor), self.columns.max(1), simd);
    }
}
