//! The quantization noise of a scheme on a weight: what is lost when a band is quantized and decoded again.

use crate::kernels::{
    CodeFormat, GlobalFactor, StoredCodes, decode, packed_down, scale_values, squared_differences, squares,
};
use crate::{Band, Dtype, MAX_OUTPUTS, NonFinite, NumberKind, Scheme, SourceDtype, Strategy, TensorRole, TensorSpec};

/// Sums of squares over some weights: of the weights themselves, and of what quantization takes from them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Sum of the squared weights.
    pub signal: f64,
    /// Sum of the squared differences of decoded and source weights; infinite where a scale is.
    pub noise: f64,
}

impl Noise {
    /// Adds the sums of other weights. Sums of the same bands are the same only if they are added in the same order.
    pub fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// Returns noise over signal, the inverse of the SQNR; zero where nothing is lost.
    pub fn ratio(self) -> f64 {
        if self.noise == 0.0 { 0.0 } else { self.noise / self.signal }
    }
}

/// Measures the noise of schemes on bands, in memory that is reused from band to band.
#[derive(Debug, Default)]
pub struct NoiseMeter {
    outputs: Vec<Vec<u8>>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    decoded: Vec<u8>,
}

impl NoiseMeter {
    /// Returns the sum of the squared weights of a band, which is one for all schemes.
    pub fn signal(band: &Band<'_>) -> f64 {
        squares(band.source.dtype, band.bytes, band.simd)
    }

    /// Returns the noise of the scheme on a band, which has the maximum that [`Scheme::amax_scope`] asks for: the sum of the
    /// squared differences of decoded and source weights, infinite where a scale is. `outputs` are what [`Scheme::outputs`]
    /// says for the weight. A scheme of another crate, whose codes the decoders of this one may not know, cannot be measured.
    ///
    /// Every instruction set gives the same sums.
    ///
    /// # Errors
    /// The first NaN or infinity of the band.
    ///
    /// # Panics
    /// The scheme writes no codes, or no scales.
    pub fn measure(&mut self, scheme: &dyn Scheme, outputs: &[TensorSpec], band: &Band<'_>) -> Result<f64, NonFinite> {
        // As if it were the first one, with which comes what a weight has once, such as the scale of the tensor.
        let (first_row, band) = (band.first_row, &Band { first_row: 0, ..*band });
        self.outputs.resize_with(outputs.len().max(self.outputs.len()), Vec::new);
        let mut slices: [&mut [u8]; MAX_OUTPUTS] = Default::default();
        for ((slice, buffer), spec) in slices.iter_mut().zip(&mut self.outputs).zip(outputs) {
            buffer.resize(spec.band_range(0, band.rows).len(), 0);
            *slice = buffer;
        }
        let quantized = scheme.quantize(band, &mut slices[..outputs.len()]);
        quantized.map_err(|at| NonFinite { row: at.row + first_row, ..at })?;
        let noise = self.differences(scheme, outputs, band);
        Ok(if noise.is_nan() { f64::INFINITY } else { noise })
    }

    /// Decodes what the scheme wrote for a band, few rows at a time, and adds up how far off it is.
    fn differences(&mut self, scheme: &dyn Scheme, outputs: &[TensorSpec], band: &Band<'_>) -> f64 {
        let of_role = |role| outputs.iter().position(|spec| spec.role == role);
        let (Some(codes), Some(scales)) = (of_role(TensorRole::Codes), of_role(TensorRole::Scale)) else {
            panic!("the meter takes schemes with codes and scales");
        };
        let global = of_role(TensorRole::GlobalScale).and_then(|at| self.outputs[at].first_chunk());
        let global = global.map(|&raw| GlobalFactor::Divides(f32::from_le_bytes(raw)));
        self.scales.clear();
        scale_values(outputs[scales].dtype, &self.outputs[scales], global, &mut self.scales);
        let format = code_format(scheme, outputs[codes].dtype);
        self.zeros.clear();
        if let Some(at) = of_role(TensorRole::ZeroPoint) {
            let (stored, zeros) = (&self.outputs[at], &mut self.zeros);
            match format {
                CodeFormat::PackedInteger(bits) => {
                    packed_down(stored, &(0..band.rows), outputs[at].shape[1], bits, zeros);
                }
                _ => zeros.extend(stored.iter().map(|zero| f32::from(zero.cast_signed()))),
            }
        }
        let (columns, group) = (band.source.columns, granule(scheme, band));
        let (across, row_bytes) = (columns.div_ceil(group[1]), format.row_bytes(columns));
        let strip = (DECODED / columns.max(1)).max(1);
        let mut noise = 0.0;
        for first in (0..band.rows).step_by(strip) {
            let rows = strip.min(band.rows - first);
            let of_rows = first / group[0] * across;
            let stored = StoredCodes {
                format,
                codes: &self.outputs[codes][first * row_bytes..(first + rows) * row_bytes],
                columns,
                first_row: first,
                group,
                scales: &self.scales[of_rows..],
                zeros: self.zeros.get(of_rows..).unwrap_or_default(),
                groups_of_columns: &[],
            };
            self.decoded.resize(rows * columns * size_of::<f32>(), 0);
            decode(stored, SourceDtype::F32, &mut self.decoded, band.simd);
            let weights = first * band.source.row_bytes()..(first + rows) * band.source.row_bytes();
            noise += squared_differences(band.source.dtype, &band.bytes[weights], &self.decoded, band.simd);
        }
        noise
    }
}

/// Weights that are decoded at a time, few enough for them to stay in the first cache.
const DECODED: usize = 4096;

/// Returns what the codes stand for, by their dtype and the arguments of the scheme.
fn code_format(scheme: &dyn Scheme, dtype: Dtype) -> CodeFormat {
    let weights = scheme.weights();
    match (weights.kind, dtype) {
        (NumberKind::Float, Dtype::F8_E4M3) => CodeFormat::E4m3,
        (NumberKind::Float, _) if weights.num_bits == 6 => CodeFormat::E2m3,
        (NumberKind::Float, _) => CodeFormat::E2m1,
        (NumberKind::Int, Dtype::I8) => CodeFormat::Integer,
        (NumberKind::Int, _) => CodeFormat::PackedInteger(weights.num_bits.into()),
    }
}

/// Returns rows and columns of a granule, as far as the band reaches.
fn granule(scheme: &dyn Scheme, band: &Band<'_>) -> [usize; 2] {
    // An empty row has no granule, and a width of zero could not be counted off.
    let columns = band.source.columns.max(1);
    match scheme.weights().strategy {
        Strategy::Group(width) | Strategy::TensorGroup(width) => [1, width],
        Strategy::Block(size) => size,
        Strategy::Channel | Strategy::Token => [1, columns],
        Strategy::Tensor => [band.rows.max(1), columns],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::quantize_whole;
    use crate::{AmaxScope, Format, Matrix, Simd, find};
    use serde_json::{Value, json};

    fn scheme(name: &str, options: Value) -> Box<dyn Scheme> {
        find(name).unwrap().build(options, Format::CompressedTensors).unwrap().unwrap()
    }

    /// Weights from tiny to large, of both signs, without a pattern that groups share.
    fn weights(count: usize) -> Vec<f32> {
        let spread = |at: usize| ((at * 2_654_435_761) % 1009) as f32 / 1009.0 - 0.5;
        (0..count).map(|at| spread(at) * 2f32.powi((at % 7) as i32 - 5)).collect()
    }

    #[test]
    fn the_noise_is_that_of_a_plain_loop_over_what_is_stored() {
        let source = Matrix { dtype: SourceDtype::F32, rows: 6, columns: 256 };
        let weights = weights(source.rows * source.columns);
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let scheme = scheme("W4A16", json!({"group_size": 64}));
        let stored = quantize_whole(&*scheme, source, &bytes, 1, Simd::detect(), 0).unwrap();
        let (mut signal, mut noise) = (0.0, 0.0);
        for (at, &weight) in weights.iter().enumerate() {
            let word = u32::from_le_bytes(*stored[0][at / 8 * 4..].first_chunk().unwrap());
            let code = (word >> (at % 8 * 4) & 0xF) as f32 - 8.0;
            let scale = f32::from_le_bytes(*stored[1][at / 64 * 4..].first_chunk().unwrap());
            signal += f64::from(weight) * f64::from(weight);
            noise += f64::from(weight - code * scale).powi(2);
        }
        let outputs = scheme.outputs(source).unwrap();
        let mut sums = Noise::default();
        let mut meter = NoiseMeter::default();
        for first_row in [0, 2, 4] {
            let rows = &bytes[first_row * 1024..(first_row + 2) * 1024];
            let band = Band { source, first_row, rows: 2, bytes: rows, amax: None, simd: Simd::detect() };
            let noise = meter.measure(&*scheme, &outputs, &band).unwrap();
            sums.add(Noise { signal: NoiseMeter::signal(&band), noise });
        }
        assert!((sums.signal / signal - 1.0).abs() < 1e-9 && (sums.noise / noise - 1.0).abs() < 1e-6, "{sums:?}");
        // Four bits keep about 20 dB.
        assert!(sums.ratio() > 1e-3 && sums.ratio() < 1e-1, "{sums:?}");
    }

    #[test]
    fn bands_add_up_to_the_noise_of_the_whole_weight() {
        let source = Matrix { dtype: SourceDtype::F32, rows: 24, columns: 64 };
        let weights = weights(source.rows * source.columns);
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let amax = weights.iter().fold(0f32, |amax, weight| amax.max(weight.abs()));
        let mut meter = NoiseMeter::default();
        for (name, options) in [("FP8", json!({})), ("NVFP4A16", json!({})), ("W4A16_ASYM", json!({"group_size": 32}))]
        {
            let scheme = scheme(name, options);
            let outputs = scheme.outputs(source).unwrap();
            let mut measure = |first_row: usize, rows: usize| {
                let bytes = &bytes[first_row * 256..(first_row + rows) * 256];
                let amax = (scheme.amax_scope() != AmaxScope::Band).then_some(amax);
                let band = Band { source, first_row, rows, bytes, amax, simd: Simd::detect() };
                let noise = meter.measure(&*scheme, &outputs, &band).unwrap();
                Noise { signal: NoiseMeter::signal(&band), noise }
            };
            let whole = measure(0, 24);
            let mut sums = Noise::default();
            [0, 8, 16].into_iter().for_each(|first_row| sums.add(measure(first_row, 8)));
            assert!((sums.ratio() / whole.ratio() - 1.0).abs() < 1e-9, "{name}: {sums:?} {whole:?}");
        }
    }

    #[test]
    fn every_form_decodes_to_what_was_quantized() {
        let source = Matrix { dtype: SourceDtype::Bf16, rows: 256, columns: 256 };
        let bytes: Vec<u8> = weights(source.rows * source.columns)
            .iter()
            .flat_map(|&it| half::bf16::from_f32(it).to_le_bytes())
            .collect();
        let amax = crate::amax(source, 0, &bytes, Simd::detect()).ok();
        let band = Band { source, first_row: 0, rows: 256, bytes: &bytes, amax, simd: Simd::detect() };
        let mut meter = NoiseMeter::default();
        // Scheme, options, and the least and most dB that its number of bits can mean for these weights.
        for (name, options, [least, most]) in [
            ("FP8_DYNAMIC", json!({}), [28.0, 36.0]),
            ("FP8_DYNAMIC", json!({"block_size": 128}), [28.0, 36.0]),
            ("MXFP8A16", json!({}), [26.0, 36.0]),
            ("MXFP6A16", json!({}), [26.0, 36.0]),
            ("MXFP4A16", json!({}), [12.0, 22.0]),
            ("W8A8", json!({}), [36.0, 48.0]),
            ("W8A16", json!({"group_size": "channel"}), [36.0, 48.0]),
            ("W8A16", json!({}), [36.0, 48.0]),
            ("W3A16", json!({}), [6.0, 16.0]),
            ("FP8", json!({}), [28.0, 36.0]),
            ("NVFP4A16", json!({}), [16.0, 24.0]),
            ("W4A16_ASYM", json!({}), [14.0, 24.0]),
            ("W8A8", json!({"symmetric": false}), [36.0, 48.0]),
        ] {
            let scheme = scheme(name, options);
            let band = Band { amax: band.amax.filter(|_| scheme.amax_scope() != AmaxScope::Band), ..band };
            let noise = meter.measure(&*scheme, &scheme.outputs(source).unwrap(), &band).unwrap();
            let measured = Noise { signal: NoiseMeter::signal(&band), noise };
            let decibels = -10.0 * measured.ratio().log10();
            assert!((least..most).contains(&decibels), "{name}: {decibels} dB");
            let portable = Band { simd: Simd::PORTABLE, ..band };
            assert_eq!(meter.measure(&*scheme, &scheme.outputs(source).unwrap(), &portable), Ok(noise), "{name}");
            assert_eq!(NoiseMeter::signal(&portable), measured.signal);
        }
    }

    #[test]
    fn weights_of_zero_lose_nothing_and_nan_is_told() {
        let source = Matrix { dtype: SourceDtype::F32, rows: 4, columns: 32 };
        let scheme = scheme("MXFP4A16", json!({}));
        let outputs = scheme.outputs(source).unwrap();
        let mut bytes = vec![0; 128];
        let mut meter = NoiseMeter::default();
        let mut measure = |bytes: &[u8]| {
            let band = Band { source, first_row: 3, rows: 1, bytes, amax: None, simd: Simd::detect() };
            meter.measure(&*scheme, &outputs, &band)
        };
        assert_eq!(measure(&bytes), Ok(0.0));
        bytes[64..68].copy_from_slice(&f32::NAN.to_le_bytes());
        let at = measure(&bytes).unwrap_err();
        assert_eq!((at.row, at.column), (3, 16));
    }
}
