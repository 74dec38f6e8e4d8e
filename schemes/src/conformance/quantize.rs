//! Whole weights, quantized band by band.

use super::bands::{self, WholeWeight};
use crate::{AmaxScope, Matrix, NonFinite, Scheme, Simd, amax, non_finite};

/// Quantizes a whole weight in bands of `bands` times [`Scheme::band_rows`] rows; the outputs are in the order of
/// [`Scheme::outputs`] and hold `filler` wherever the scheme writes nothing.
///
/// # Errors
/// The first NaN or infinity.
///
/// # Panics
/// The scheme refuses the shape, or `bytes` are not those of `source`.
pub fn quantize_whole(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    bands: usize,
    simd: Simd,
    filler: u8,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = amax_of_scope(scheme, source, bytes, simd)?;
    bands::in_order(scheme, WholeWeight { source, bytes, bands, simd, filler, amax }, |band, parts| {
        scheme.quantize(band, parts)
    })
}

/// Quantizes a whole weight like [`quantize_whole`], with NaN and infinity kept.
///
/// # Errors
/// The first NaN or infinity, where the scheme does not keep them.
///
/// # Panics
/// Those of [`quantize_whole`].
pub fn quantize_whole_keeping(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    bands: usize,
    simd: Simd,
    filler: u8,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = amax_of_scope(scheme, source, bytes, simd).unwrap_or_else(|_| non_finite(source, 0, bytes).amax());
    bands::in_order(scheme, WholeWeight { source, bytes, bands, simd, filler, amax }, |band, parts| {
        scheme.quantize_any(band, parts).map(drop)
    })
}

/// Quantizes a whole weight in about a dozen bands that several threads take in mixed order.
pub(super) fn quantize_from_threads(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    simd: Simd,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = amax_of_scope(scheme, source, bytes, simd)?;
    let bands = (source.rows / scheme.band_rows() / 12).max(1);
    bands::from_threads(scheme, WholeWeight { source, bytes, bands, simd, filler: 0xA5, amax })
}

/// Returns the absolute maximum that the scheme asks for.
fn amax_of_scope(scheme: &dyn Scheme, source: Matrix, bytes: &[u8], simd: Simd) -> Result<Option<f32>, NonFinite> {
    match scheme.amax_scope() {
        AmaxScope::Band => Ok(None),
        AmaxScope::Tensor | AmaxScope::Fused => amax(source, 0, bytes, simd).map(Some),
    }
}
