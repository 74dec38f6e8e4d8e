//! The cast of a band that holds NaN or infinities, as the reference does it: group by group, and in no hurry.

use super::band::{Cast, Fp8Granularity};
use super::division::divide;
use super::element::{Bf16, Element, F16, F32};
use super::{e4m3, scale};
use crate::{Band, SourceDtype};

/// The code of NaN. What sign the reference gives it depends on the machine; here it has none.
const NAN: u8 = 0x7F;

/// Casts a band to E4M3 and stores its scales, as [`quantize`](super::quantize) does with finite ones: a NaN makes all
/// of its group NaN, and an infinity makes itself NaN and the rest of its group zero.
#[cold]
pub(crate) fn keep(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) {
    match (band.source.dtype, cast.round_quotient) {
        (SourceDtype::Bf16, false) => run::<Bf16, false>(cast, band, weight, scales),
        (SourceDtype::Bf16, true) => run::<Bf16, true>(cast, band, weight, scales),
        (SourceDtype::F16, false) => run::<F16, false>(cast, band, weight, scales),
        (SourceDtype::F16, true) => run::<F16, true>(cast, band, weight, scales),
        (SourceDtype::F32, _) => run::<F32, false>(cast, band, weight, scales),
    }
}

fn run<E: Element, const ROUNDED: bool>(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) {
    let (elements, columns) = (E::elements(band.bytes), band.source.columns);
    let [height, width] = match cast.granularity {
        Fp8Granularity::Tensor => [band.rows.max(1), columns.max(1)],
        Fp8Granularity::Channel => [1, columns.max(1)],
        Fp8Granularity::Block(shape) => shape,
    };
    let mut stored = scales.chunks_exact_mut(cast.scale_dtype.bytes());
    for first_row in (0..band.rows).step_by(height) {
        let rows = first_row..band.rows.min(first_row.saturating_add(height));
        for first in (0..columns).step_by(width) {
            let across = first..columns.min(first.saturating_add(width));
            let parts = || rows.clone().map(|row| row * columns + across.start..row * columns + across.end);
            let amax = band.amax.unwrap_or_else(|| parts().fold(0.0, |amax, part| larger::<E>(amax, &elements[part])));
            let scale = scale::scale(amax, e4m3::MAX, cast.scale_dtype);
            // A tensor's scale is stored with its first band alone.
            if let Some(stored) = stored.next() {
                scale::store(scale, cast.scale_dtype, stored);
            }
            for part in parts() {
                codes::<E, ROUNDED>(&elements[part.clone()], scale, &mut weight[part]);
            }
        }
    }
}

/// The absolute maximum of these and those before; NaN where there is one.
fn larger<E: Element>(amax: f32, elements: &[E::Raw]) -> f32 {
    let magnitudes = elements.iter().map(|&raw| E::value(raw).abs());
    magnitudes.fold(amax, |amax, value| if amax.is_nan() || value.is_nan() { f32::NAN } else { amax.max(value) })
}

fn codes<E: Element, const ROUNDED: bool>(elements: &[E::Raw], scale: f32, out: &mut [u8]) {
    if scale.is_nan() {
        return out.fill(NAN);
    }
    divide::<E, ROUNDED>(elements, scale, out);
    for (code, &raw) in out.iter_mut().zip(elements) {
        if !E::value(raw).is_finite() {
            *code = NAN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scale::ScaleChoice;
    use super::*;
    use crate::{Matrix, Simd};

    fn kept(values: [f32; 4]) -> ([u8; 4], f32) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = Matrix { dtype: SourceDtype::F32, rows: 1, columns: 4 };
        let band = Band { source, first_row: 0, rows: 1, bytes: &bytes, amax: None, simd: Simd::PORTABLE };
        let cast = Cast {
            granularity: Fp8Granularity::Channel,
            scale_dtype: SourceDtype::F32,
            round_quotient: false,
            choice: ScaleChoice::Absmax,
        };
        let (mut codes, mut scale) = ([0xA5; 4], [0xA5; 4]);
        keep(cast, &band, &mut codes, &mut scale);
        (codes, f32::from_le_bytes(scale))
    }

    #[test]
    fn a_nan_makes_its_granule_nan_and_an_infinity_makes_its_scale_infinite() {
        assert_eq!(kept([1.0, -2.0, -0.0, 448.0]), ([0x38, 0xC0, 0x80, 0x7E], 1.0));
        assert_eq!(kept([1.0, -2.0, f32::NEG_INFINITY, 0.0]), ([0x00, 0x80, 0x7F, 0x00], f32::INFINITY));
        for values in [[1.0, -2.0, f32::INFINITY, f32::NAN], [-f32::NAN, 1.0, f32::INFINITY, 0.0]] {
            let (codes, scale) = kept(values);
            assert_eq!((codes, scale.to_bits()), ([0x7F; 4], 0x7FC0_0000));
        }
    }
}
