//! The contract suite that every scheme has to pass, whether of this crate or a stranger's.
//!
//! ```
//! let registration = qwen_fp8_schemes::find("FP8_BLOCK").expect("it is registered by this crate");
//! let options = [serde_json::json!({}), serde_json::json!({ "block_size": 64 })];
//! let report = qwen_fp8_schemes::conformance::check(registration, &options)?;
//! assert!(report.cases > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod sample;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::{
    AmaxScope, Band, BuildError, Extent, Format, Make, Matrix, NonFinite, Registration, Scheme, Simd, SourceDtype,
    TensorSpec, absmax, non_finite,
};
use sample::{Content, poison, sample};

/// What a passed suite looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Configured schemes: options times formats.
    pub schemes: usize,
    /// Weights that were quantized and compared.
    pub cases: usize,
    /// Weights whose shape the scheme refuses.
    pub refused: usize,
}

/// A promise that a scheme does not keep.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{scheme}: {broken}")]
pub struct Failure {
    /// The registered name and the options.
    pub scheme: String,
    pub broken: Broken,
}

/// Which promise, and where.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Broken {
    #[error("its options are refused: {0}")]
    Options(BuildError),
    #[error("its options are no closed object: `additionalProperties` must be false")]
    OpenOptions,
    #[error("an option `{0}` that it does not have is accepted")]
    UnknownOption(&'static str),
    #[error("`{property}` of its options has no description")]
    NoDescription { property: String },
    #[error("its bands have no rows")]
    NoBandRows,
    #[error("{weight}: `{suffix}`: {reason}")]
    Output { weight: Weight, suffix: &'static str, reason: &'static str },
    #[error("{weight}: refused although it is finite: {error}")]
    Refused { weight: Weight, error: NonFinite },
    #[error("{weight}: `{suffix}`: byte {byte} is not written")]
    NotWritten { weight: Weight, suffix: &'static str, byte: usize },
    #[error("{weight}: `{suffix}`: byte {byte} depends on how it is made: {way}")]
    Differs { weight: Weight, suffix: &'static str, byte: usize, way: String },
    #[error("{weight}: expected the error `{expected}`, found {found}")]
    Poison { weight: Weight, expected: NonFinite, found: String },
}

/// A weight of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    pub source: Matrix,
    /// What its numbers are like.
    pub content: &'static str,
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { dtype, rows, columns } = self.source;
        write!(f, "{rows} x {columns} {dtype:?} ({})", self.content)
    }
}

/// Puts a registered scheme to the test with each of `options`, in both formats where the options go with the format.
///
/// # Errors
/// The first promise that is broken.
pub fn check(registration: &Registration, options: &[Value]) -> Result<Report, Failure> {
    let mut report = Report::default();
    let fail = |broken| Failure { scheme: registration.name.to_owned(), broken };
    check_schema(registration).map_err(fail)?;
    let Make::Quantize(make) = registration.make else { return Ok(report) };
    let unknown = "no_scheme_has_an_option_of_this_name";
    if make(serde_json::json!({ unknown: 1 }), Format::CompressedTensors).is_ok() {
        return Err(fail(Broken::UnknownOption(unknown)));
    }
    for options in options {
        let fail = |broken| Failure { scheme: format!("{} {options}", registration.name), broken };
        let formats = [Format::Fp8, Format::CompressedTensors];
        let made = formats.map(|format| make(options.clone(), format));
        if let [Err(error), Err(_)] = &made {
            return Err(fail(Broken::Options(error.clone())));
        }
        for scheme in made.into_iter().flatten() {
            check_scheme(&*scheme, &mut report).map_err(fail)?;
        }
    }
    Ok(report)
}

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
    let amax = match scheme.amax_scope() {
        AmaxScope::Band => None,
        AmaxScope::Tensor | AmaxScope::Fused => Some(absmax(source, 0, bytes, simd)?),
    };
    by_bands(scheme, Whole { source, bytes, bands, simd, filler, amax }, |band, parts| scheme.quantize(band, parts))
}

/// As [`quantize_whole`], with NaN and infinity kept.
///
/// # Errors
/// The first NaN or infinity, where the scheme does not keep them.
///
/// # Panics
/// As [`quantize_whole`].
pub fn quantize_whole_keeping(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    bands: usize,
    simd: Simd,
    filler: u8,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = match scheme.amax_scope() {
        AmaxScope::Band => None,
        AmaxScope::Tensor | AmaxScope::Fused => match absmax(source, 0, bytes, simd) {
            Ok(amax) => Some(amax),
            Err(_) => non_finite(source, 0, bytes).amax(),
        },
    };
    let whole = Whole { source, bytes, bands, simd, filler, amax };
    by_bands(scheme, whole, |band, parts| scheme.quantize_any(band, parts).map(drop))
}

/// A weight and how it is quantized.
struct Whole<'a> {
    source: Matrix,
    bytes: &'a [u8],
    bands: usize,
    simd: Simd,
    filler: u8,
    amax: Option<f32>,
}

fn by_bands(
    scheme: &dyn Scheme,
    whole: Whole<'_>,
    quantize: impl Fn(&Band<'_>, &mut [&mut [u8]]) -> Result<(), NonFinite>,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let Whole { source, bytes, bands, simd, filler, amax } = whole;
    assert_eq!(bytes.len(), source.rows * source.row_bytes(), "the bytes are those of the weight");
    let specs = scheme.outputs(source).expect("the shape has been looked at");
    let mut outputs: Vec<Vec<u8>> = specs.iter().map(|spec| vec![filler; spec.bytes()]).collect();
    let step = scheme.band_rows().saturating_mul(bands);
    let mut first_row = 0;
    // A weight without rows still is one band, for the tensors that are written once.
    while first_row < source.rows || first_row == 0 {
        let rows = step.min(source.rows - first_row);
        let bytes = &bytes[first_row * source.row_bytes()..][..rows * source.row_bytes()];
        let band = Band { source, first_row, rows, bytes, amax, simd };
        let mut parts: Vec<&mut [u8]> = specs
            .iter()
            .zip(&mut outputs)
            .map(|(spec, output)| &mut output[spec.band_range(first_row, rows)])
            .collect();
        quantize(&band, &mut parts)?;
        first_row += rows.max(1);
    }
    Ok(outputs)
}

fn check_schema(registration: &Registration) -> Result<(), Broken> {
    let schema = (registration.options)(&mut schemars::SchemaGenerator::default());
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Err(Broken::OpenOptions);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (property, schema) in properties.into_iter().flatten() {
        if schema.get("description").is_none() {
            return Err(Broken::NoDescription { property: property.clone() });
        }
    }
    Ok(())
}

const DTYPES: [SourceDtype; 3] = [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32];

/// One element, one row, one column, one more and one less than a tile or a vector, and nothing at all.
const SHAPES: [[usize; 2]; 12] = [
    [1, 1],
    [1, 300],
    [300, 1],
    [127, 129],
    [128, 128],
    [129, 127],
    [130, 256],
    [256, 64],
    [5, 1000],
    [0, 128],
    [128, 0],
    [0, 0],
];

fn check_scheme(scheme: &dyn Scheme, report: &mut Report) -> Result<(), Broken> {
    report.schemes += 1;
    if scheme.band_rows() == 0 {
        return Err(Broken::NoBandRows);
    }
    for dtype in DTYPES {
        for [rows, columns] in SHAPES {
            let source = Matrix { dtype, rows, columns };
            let Ok(specs) = scheme.outputs(source) else {
                report.refused += 1;
                continue;
            };
            for content in Content::ALL {
                let weight = Weight { source, content: content.name() };
                check_outputs(scheme, weight, &specs)?;
                check_weight(scheme, weight, &specs, &sample(source, content))?;
                report.cases += 1;
            }
            check_poison(scheme, source)?;
            if scheme.keeps_non_finite() {
                check_kept(scheme, source, &specs)?;
            }
        }
    }
    Ok(())
}

/// The tensors that are declared make sense, and bands cut them into parts without gap or overlap.
fn check_outputs(scheme: &dyn Scheme, weight: Weight, specs: &[TensorSpec]) -> Result<(), Broken> {
    let mut suffixes = BTreeSet::new();
    for spec in specs {
        let broken = |reason| Err(Broken::Output { weight, suffix: spec.suffix, reason });
        if spec.suffix.is_empty() || !suffixes.insert(spec.suffix) {
            return broken("the suffix is empty or used twice");
        }
        if spec.dtype.bitsize() % 8 != 0 {
            return broken("its elements are no whole bytes");
        }
        let (words, per_words) = match spec.extent {
            Extent::Rows(per_row) => (1, per_row),
            Extent::Packed { words, rows } => (words, rows),
            Extent::Whole => (0, 1),
        };
        if per_words == 0 || !scheme.band_rows().is_multiple_of(per_words) {
            return broken("the rows of its extent do not divide the rows of a band");
        }
        if words > 0 && spec.shape.first() != Some(&(weight.source.rows * words).div_ceil(per_words)) {
            return broken("its first dimension is not the rows over those of its extent");
        }
        let mut end = 0;
        for first_row in (0..weight.source.rows).step_by(scheme.band_rows()) {
            let rows = scheme.band_rows().min(weight.source.rows - first_row);
            let range = spec.band_range(first_row, rows);
            if !range.is_empty() && range.start != end {
                return broken("its bands leave a gap or overlap");
            }
            end = end.max(range.end);
        }
        if weight.source.rows > 0 && end != spec.bytes() {
            return broken("its bands do not add up to the tensor");
        }
    }
    if scheme.outputs(weight.source).as_deref() != Ok(specs) {
        return Err(Broken::Output { weight, suffix: "", reason: "asked twice, it declares two things" });
    }
    Ok(())
}

/// All is written, and nothing depends on the bands, the instruction set or the alignment.
fn check_weight(scheme: &dyn Scheme, weight: Weight, specs: &[TensorSpec], bytes: &[u8]) -> Result<(), Broken> {
    let source = weight.source;
    let quantize = |bytes: &[u8], bands, simd, filler| {
        quantize_whole(scheme, source, bytes, bands, simd, filler).map_err(|error| Broken::Refused { weight, error })
    };
    let whole = quantize(bytes, usize::MAX, Simd::PORTABLE, 0x00)?;
    let other = quantize(bytes, usize::MAX, Simd::PORTABLE, 0xFF)?;
    if let Some((tensor, byte)) = first_difference(&whole, &other) {
        return Err(Broken::NotWritten { weight, suffix: specs[tensor].suffix, byte });
    }
    let mut shifted = vec![0];
    shifted.extend_from_slice(bytes);
    for simd in Simd::available() {
        let unaligned = &shifted[1..];
        for (bytes, bands) in [(bytes, usize::MAX), (unaligned, usize::MAX), (bytes, 2), (unaligned, 1)] {
            let made = quantize(bytes, bands, simd, 0xA5)?;
            if let Some((tensor, byte)) = first_difference(&whole, &made) {
                let rows = scheme.band_rows().saturating_mul(bands).min(source.rows);
                let way = format!("{simd}, bands of {rows} rows");
                return Err(Broken::Differs { weight, suffix: specs[tensor].suffix, byte, way });
            }
        }
    }
    Ok(())
}

fn first_difference(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<(usize, usize)> {
    left.iter().zip(right).enumerate().find_map(|(tensor, (left, right))| {
        let byte = left.iter().zip(right).position(|(left, right)| left != right)?;
        Some((tensor, byte))
    })
}

/// NaN and infinity are refused, and the first in row-major order is the one that is named.
fn check_poison(scheme: &dyn Scheme, source: Matrix) -> Result<(), Broken> {
    let elements = source.rows * source.columns;
    if elements == 0 {
        return Ok(());
    }
    let weight = Weight { source, content: "with NaN and infinities" };
    let clean = sample(source, Content::Normal);
    for (first, second) in [(0, elements - 1), (elements / 2, elements - 1), (elements - 1, elements - 1)] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut bytes = clean.clone();
            poison(source, &mut bytes, second, f32::NAN);
            poison(source, &mut bytes, first, value);
            let expected = NonFinite { row: first / source.columns, column: first % source.columns, value };
            for simd in Simd::available() {
                for bands in [1, usize::MAX] {
                    let found = quantize_whole(scheme, source, &bytes, bands, simd, 0);
                    let found = match found {
                        Ok(_) => "no error".to_owned(),
                        // NaN is not equal to itself, and its payload is nobody's concern.
                        Err(found) if format!("{found:?}") == format!("{expected:?}") => continue,
                        Err(found) => format!("`{found}`"),
                    };
                    return Err(Broken::Poison { weight, expected, found });
                }
            }
        }
    }
    Ok(())
}

/// Kept NaNs and infinities do not depend on the bands or the instruction set, and all is written.
fn check_kept(scheme: &dyn Scheme, source: Matrix, specs: &[TensorSpec]) -> Result<(), Broken> {
    let weight = Weight { source, content: "with NaN and infinities, kept" };
    let elements = source.rows * source.columns;
    let mut bytes = sample(source, Content::Normal);
    for (index, value) in [(elements / 3, f32::NAN), (elements / 2, f32::INFINITY), (elements / 5, f32::NEG_INFINITY)] {
        if index < elements {
            poison(source, &mut bytes, index, value);
        }
    }
    let quantize = |bands, simd, filler| {
        quantize_whole_keeping(scheme, source, &bytes, bands, simd, filler)
            .map_err(|error| Broken::Refused { weight, error })
    };
    let whole = quantize(usize::MAX, Simd::PORTABLE, 0x00)?;
    for simd in Simd::available() {
        for bands in [1, 2, usize::MAX] {
            if let Some((tensor, byte)) = first_difference(&whole, &quantize(bands, simd, 0xA5)?) {
                let way = format!("{simd}, {bands} bands at a time");
                return Err(Broken::Differs { weight, suffix: specs[tensor].suffix, byte, way });
            }
        }
    }
    Ok(())
}
