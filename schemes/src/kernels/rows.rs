//! Walks a band row by row, for schemes whose groups are parts of one row.

use super::amax::first_non_finite;
use super::element::Element;
use super::walk::FoundNonFinite;
use crate::simd::Vectorized;
use crate::{Band, NonFinite, Simd};

/// The work on one row.
pub(super) trait RowKernel {
    type Source: Element;

    /// Quantizes one row of the band; inlined into code that was compiled for `simd`.
    fn row(
        &mut self,
        row: usize,
        elements: &[<Self::Source as Element>::Raw],
        simd: Simd,
    ) -> Result<(), FoundNonFinite>;
}

/// Gives every row of `band` to `kernel`, in order.
pub(super) fn by_row<K: RowKernel>(band: &Band<'_>, kernel: K) -> Result<(), NonFinite> {
    let elements = K::Source::elements(band.bytes);
    let rows = RowWalk { kernel, elements, columns: band.source.columns, rows: band.rows };
    let walked = band.simd.run(rows);
    walked.map_err(|FoundNonFinite| first_non_finite::<K::Source>(band.source, band.first_row, band.bytes))
}

struct RowWalk<'a, K: RowKernel> {
    kernel: K,
    elements: &'a [<K::Source as Element>::Raw],
    columns: usize,
    rows: usize,
}

impl<K: RowKernel> Vectorized for RowWalk<'_, K> {
    type Output = Result<(), FoundNonFinite>;

    #[inline(always)]
    fn run(mut self, simd: Simd) -> Result<(), FoundNonFinite> {
        for row in 0..self.rows {
            self.kernel.row(row, &self.elements[row * self.columns..][..self.columns], simd)?;
        }
        Ok(())
    }
}
