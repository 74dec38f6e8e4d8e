//! Every BF16 weight under one scale, against a division and another crate's rounding.

use std::fmt;

use float8::F8E4M3;
use half::bf16;
use qwen_fp8_schemes::{Band, Format, Make, Matrix, Scheme, Simd, SourceDtype, find};
use serde_json::json;

/// Absolute maxima that lead to all the BF16 scales that a finite one leads to: all positive finite ones up to that of the
/// largest `f32`.
pub(crate) fn maxima() -> impl Iterator<Item = f32> {
    (1..=bf16::from_f32(f32::MAX / 448.0).to_bits())
        .map(|bits| bf16::from_bits(bits).to_f32() * 448.0)
        .filter(|&amax| amax < f32::INFINITY)
}

/// All maxima of an octave: they lead to every significand that an F32 scale has.
pub(crate) fn maxima_of_an_octave() -> impl Iterator<Item = f32> {
    (0..1 << 23).map(|mantissa: u32| f32::from_bits(127 << 23 | mantissa))
}

/// What the quotient is rounded to on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quotient {
    F32,
    Source,
}

/// Some finite BF16 weights.
pub(crate) struct Weights {
    bytes: Vec<u8>,
    values: Vec<f32>,
    /// The number of weights after which the same ones follow with the other sign; all of them where none do.
    before_negatives: usize,
    source: Matrix,
    codes: Vec<u8>,
    expected: Vec<u8>,
}

impl Weights {
    /// All of them.
    pub(crate) fn all() -> Self {
        let weights = Self::of((0..=u16::MAX).map(bf16::from_bits).filter(|value| value.is_finite()));
        let half = weights.values.len() / 2;
        let (positive, negative) = weights.values.split_at(half);
        assert!(positive.iter().zip(negative).all(|(a, b)| (-a).to_bits() == b.to_bits()));
        Self { before_negatives: half, ..weights }
    }

    /// Those of an octave, up to one: every significand.
    pub(crate) fn significands() -> Self {
        Self::of((0..128).map(|mantissa| bf16::from_bits(126 << 7 | mantissa)))
    }

    fn of(finite: impl Iterator<Item = bf16>) -> Self {
        let finite: Vec<bf16> = finite.collect();
        Self {
            bytes: finite.iter().flat_map(|value| value.to_le_bytes()).collect(),
            values: finite.iter().map(|value| value.to_f32()).collect(),
            source: Matrix { dtype: SourceDtype::Bf16, rows: 1, columns: finite.len() },
            before_negatives: finite.len(),
            codes: vec![0; finite.len()],
            expected: vec![0; finite.len()],
        }
    }

    /// Casts all weights under the scale of the absolute maximum `amax` by each of `paths`, and says how many there were.
    ///
    /// # Panics
    /// A code differs, or the scale.
    pub(crate) fn check(&mut self, cast: &Cast, amax: f32, paths: &[Simd]) -> u64 {
        let Cast { scheme, quotient, scale_dtype } = cast;
        let (scale, stored): (f32, &[u8]) = match scale_dtype {
            ScaleDtype::Bf16 => {
                let scale = bf16::from_f32(amax / 448.0);
                (scale.to_f32(), &scale.to_le_bytes())
            }
            ScaleDtype::F32 => (amax / 448.0, &(amax / 448.0).to_le_bytes()),
        };
        // The sign goes through a division and a rounding to nearest as it is: the slow half of the work is done once.
        let (positive, negative) = self.expected.split_at_mut(self.before_negatives);
        for (expected, value) in positive.iter_mut().zip(&self.values) {
            *expected = code(value / scale, *quotient);
        }
        for (expected, positive) in negative.iter_mut().zip(positive) {
            *expected = *positive | 0x80;
        }
        for &simd in paths {
            let mut made = vec![0; stored.len()];
            let (source, bytes) = (self.source, &*self.bytes);
            let band = Band { source, first_row: 0, rows: 1, bytes, amax: Some(amax), simd };
            scheme.quantize(&band, &mut [&mut self.codes, &mut made]).unwrap();
            assert_eq!(made, stored, "the scale of {amax:e}");
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

/// The code of a quotient, rounded once or twice.
fn code(exact: f32, quotient: Quotient) -> u8 {
    let rounded = if quotient == Quotient::Source { bf16::from_f32(exact).to_f32() } else { exact };
    F8E4M3::from_f32(rounded.clamp(-448.0, 448.0)).to_bits()
}

/// What the scale is rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleDtype {
    Bf16,
    F32,
}

/// The scheme that takes its scale from a maximum that it is given.
pub(crate) struct Cast {
    scheme: Box<dyn Scheme>,
    quotient: Quotient,
    scale_dtype: ScaleDtype,
}

impl Cast {
    pub(crate) fn new(quotient: Quotient, scale_dtype: ScaleDtype) -> Self {
        let Make::Quantize(make) = find("FP8").unwrap().make else { unreachable!("FP8 quantizes") };
        let names = [
            if quotient == Quotient::Source { "source" } else { "f32" },
            if scale_dtype == ScaleDtype::Bf16 { "bf16" } else { "f32" },
        ];
        let options = json!({ "quotient_dtype": names[0], "scale_dtype": names[1] });
        let scheme = make(options, Format::CompressedTensors).unwrap();
        Self { scheme, quotient, scale_dtype }
    }
}

impl fmt::Display for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quotient {:?}, {:?} scales", self.quotient, self.scale_dtype)
    }
}
