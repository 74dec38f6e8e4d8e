//! The contract suite that every scheme has to pass, whether of this crate or a stranger's.
//!
//! ```
//! let registration = qwen_fp8_schemes::find("NVFP4A16").expect("it is registered by this crate");
//! let report = qwen_fp8_schemes::conformance::check(registration)?;
//! assert!(report.cases > 0 && report.golden > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It is the one part of this crate that starts threads: a scheme may be called from several.

mod bands;
mod contract;
pub mod golden;
mod options;
mod sample;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::{
    AmaxScope, BuildError, Format, MAX_OUTPUTS, Make, Matrix, NonFinite, QuantizationArgs, Registration, Scheme, Simd,
    absmax, non_finite,
};
use bands::Whole;
use golden::GoldenError;
use options::Variant;

/// What a passed suite looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Configured schemes: options times formats.
    pub schemes: usize,
    /// Weights that were quantized and compared.
    pub cases: usize,
    /// Weights whose shape the scheme refuses.
    pub refused: usize,
    /// Results that were held against golden ones.
    pub golden: usize,
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
    #[error("`{property}` of its options has neither a default nor an example, so that there is nothing to try")]
    NoExample { property: String },
    #[error("it answers to {asked:?} with the options {options}, which do not make them")]
    Arguments { asked: Box<QuantizationArgs>, options: Value },
    #[error("its bands have no rows")]
    NoBandRows,
    #[error("it refuses every shape of the suite, such as {weight}: {reason}")]
    NoShape { weight: Weight, reason: String },
    #[error("{weight}: refused, and the reason names neither side: {reason:?}")]
    Unclear { weight: Weight, reason: String },
    /// A weight becomes no tensor, or more than [`MAX_OUTPUTS`].
    #[error("{weight}: it declares {count} outputs, and a weight has 1 to {MAX_OUTPUTS}")]
    OutputCount { weight: Weight, count: usize },
    #[error("{weight}: `{suffix}`: {reason}")]
    Output { weight: Weight, suffix: &'static str, reason: &'static str },
    #[error("{weight}: refused although it is finite: {error}")]
    Refused { weight: Weight, error: NonFinite },
    #[error("{weight}: `{suffix}`: byte {byte} is not written")]
    NotWritten { weight: Weight, suffix: &'static str, byte: usize },
    #[error("{weight}: `{suffix}`: element {element} is a NaN or an infinity")]
    NotFinite { weight: Weight, suffix: &'static str, element: usize },
    #[error("{weight}: `{suffix}`: byte {byte} depends on how it is made: {way}")]
    Differs { weight: Weight, suffix: &'static str, byte: usize, way: String },
    #[error("{weight}: expected the error `{expected}`, found {found}")]
    Poison { weight: Weight, expected: NonFinite, found: String },
    #[error("{place}: it panics: {message}")]
    Panics { place: String, message: String },
    #[error("golden vectors: {0}")]
    Golden(#[from] GoldenError),
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

/// Puts a registered scheme to the test: in both formats with no more options than it needs, and in one of them with
/// each value that the schema of its options offers (examples, choices, both of a switch). A format may be refused, and
/// a value by an error that names its option. Golden vectors are tried with options of their own.
///
/// # Errors
/// The first promise that is broken.
pub fn check(registration: &Registration) -> Result<Report, Failure> {
    let fail = |broken| Failure { scheme: registration.name.to_owned(), broken };
    let variants = options::variants(registration).map_err(fail)?;
    check_variants(registration, &variants)
}

/// As [`check`], but in both formats with each of `options` alone.
///
/// # Errors
/// The first promise that is broken.
pub fn check_with(registration: &Registration, options: &[Value]) -> Result<Report, Failure> {
    let given: Vec<_> = options.iter().map(|options| Variant { options: options.clone(), tries: None }).collect();
    check_variants(registration, &given)
}

fn check_variants(registration: &Registration, variants: &[Variant]) -> Result<Report, Failure> {
    let mut report = Report::default();
    let fail = |broken| Failure { scheme: registration.name.to_owned(), broken };
    options::check_schema(registration).map_err(fail)?;
    let Make::Quantize(make) = registration.make else { return Ok(report) };
    options::check_unknown(make, variants).map_err(fail)?;
    for variant in variants {
        let fail = |broken| Failure { scheme: format!("{} {}", registration.name, variant.options), broken };
        for scheme in unless_it_panics("with these options", || variant.make(make)).map_err(fail)? {
            options::check_arguments(registration, make, &*scheme).map_err(fail)?;
            contract::check(&*scheme, &mut report).map_err(fail)?;
        }
    }
    report.golden = unless_it_panics("golden vectors", || Ok(golden::check(registration)?)).map_err(fail)?;
    Ok(report)
}

/// Does `work`, and makes an error of a panic.
fn unless_it_panics<T>(place: impl fmt::Display, work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = literal.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "without a message".to_owned());
        Err(Broken::Panics { place: place.to_string(), message })
    })
}

/// What [`Make::Quantize`] holds.
type MakeScheme = fn(Value, Format) -> Result<Box<dyn Scheme>, BuildError>;

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
    let amax = amax(scheme, source, bytes, simd)?;
    bands::in_order(scheme, Whole { source, bytes, bands, simd, filler, amax }, |band, parts| {
        scheme.quantize(band, parts)
    })
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
    let amax = amax(scheme, source, bytes, simd).unwrap_or_else(|_| non_finite(source, 0, bytes).amax());
    bands::in_order(scheme, Whole { source, bytes, bands, simd, filler, amax }, |band, parts| {
        scheme.quantize_any(band, parts).map(drop)
    })
}

/// As [`quantize_whole`], in about a dozen bands that several threads take in mixed order.
fn quantize_from_threads(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    simd: Simd,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = amax(scheme, source, bytes, simd)?;
    let bands = (source.rows / scheme.band_rows() / 12).max(1);
    bands::from_threads(scheme, Whole { source, bytes, bands, simd, filler: 0xA5, amax })
}

/// The maximum that the scheme asks for.
fn amax(scheme: &dyn Scheme, source: Matrix, bytes: &[u8], simd: Simd) -> Result<Option<f32>, NonFinite> {
    match scheme.amax_scope() {
        AmaxScope::Band => Ok(None),
        AmaxScope::Tensor | AmaxScope::Fused => absmax(source, 0, bytes, simd).map(Some),
    }
}
