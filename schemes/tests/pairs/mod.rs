//! Every BF16 weight under one BF16 scale, against a division and another crate's rounding.

use float8::F8E4M3;
use half::bf16;
use qwen_fp8_schemes::{Band, Format, Make, Matrix, Scheme, Simd, SourceDtype, find};
use serde_json::json;

/// The scales that a finite maximum leads to: all positive finite ones up to that of the largest `f32`.
pub(crate) fn scales() -> impl Iterator<Item = bf16> {
    (1..=bf16::from_f32(f32::MAX / 448.0).to_bits())
        .map(bf16::from_bits)
        .filter(|scale| scale.to_f32() * 448.0 < f32::INFINITY)
}

/// What the quotient is rounded to on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quotient {
    F32,
    Source,
}

/// All finite BF16 weights.
pub(crate) struct Weights {
    bytes: Vec<u8>,
    values: Vec<f32>,
    source: Matrix,
    codes: Vec<u8>,
    expected: Vec<u8>,
}

impl Weights {
    pub(crate) fn new() -> Self {
        let finite: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).filter(|value| value.is_finite()).collect();
        Self {
            bytes: finite.iter().flat_map(|value| value.to_le_bytes()).collect(),
            values: finite.iter().map(|value| value.to_f32()).collect(),
            source: Matrix { dtype: SourceDtype::Bf16, rows: 1, columns: finite.len() },
            codes: vec![0; finite.len()],
            expected: vec![0; finite.len()],
        }
    }

    /// Casts all weights under `scale` by each of `paths`, and says how many there were.
    ///
    /// # Panics
    /// A code differs.
    pub(crate) fn check(&mut self, scheme: &dyn Scheme, quotient: Quotient, scale: bf16, paths: &[Simd]) -> u64 {
        let scale = scale.to_f32();
        for (expected, value) in self.expected.iter_mut().zip(&self.values) {
            let exact = value / scale;
            let rounded = if quotient == Quotient::Source { bf16::from_f32(exact).to_f32() } else { exact };
            *expected = F8E4M3::from_f32(rounded.clamp(-448.0, 448.0)).to_bits();
        }
        for &simd in paths {
            let mut stored = [0; 2];
            let band = Band {
                source: self.source,
                first_row: 0,
                rows: 1,
                bytes: &self.bytes,
                amax: Some(scale * 448.0),
                simd,
            };
            scheme.quantize(&band, &mut [&mut self.codes, &mut stored]).unwrap();
            assert_eq!(bf16::from_le_bytes(stored).to_f32(), scale, "the scale is the one asked for");
            if self.codes != self.expected {
                let place = (0..self.codes.len()).find(|&place| self.codes[place] != self.expected[place]).unwrap();
                panic!(
                    "{:e} / {scale:e} ({quotient:?}, {simd}): {:#04x}, not {:#04x}",
                    self.values[place], self.codes[place], self.expected[place]
                );
            }
        }
        self.codes.len() as u64 * paths.len() as u64
    }
}

/// The scheme that takes its scale from a maximum that it is given.
pub(crate) fn scheme(quotient: Quotient) -> Box<dyn Scheme> {
    let Make::Quantize(make) = find("FP8").unwrap().make else { unreachable!("FP8 quantizes") };
    let quotient = if quotient == Quotient::Source { "source" } else { "f32" };
    make(json!({ "quotient_dtype": quotient }), Format::CompressedTensors).unwrap()
}
