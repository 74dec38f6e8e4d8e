//! Quantizing a band whether it holds non-finite values or not.

use crate::{Band, NonFinite, NonFiniteCount, Scheme};

impl dyn Scheme + '_ {
    /// Quantizes a band by [`Scheme::quantize`], or by [`Scheme::quantize_keeping`], which is slower, where the band
    /// holds NaN or infinity; returns their count in the latter case.
    ///
    /// # Errors
    /// The band holds a NaN or infinity, and the scheme does not keep them.
    pub fn quantize_any(
        &self,
        band: &Band<'_>,
        outputs: &mut [&mut [u8]],
    ) -> Result<Option<NonFiniteCount>, NonFinite> {
        if band.amax.is_none_or(f32::is_finite) {
            match self.quantize(band, outputs) {
                Ok(()) => return Ok(None),
                Err(error) if !self.keeps_non_finite() => return Err(error),
                Err(_) => {}
            }
        }
        self.quantize_keeping(band, outputs)?;
        Ok(Some(crate::non_finite(band.source, band.first_row, band.bytes)))
    }
}
