//! Contract suite that every scheme has to pass, whether it is part of this crate or not.
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
mod error;
pub mod golden;
mod options;
mod sample;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::{AmaxScope, BuildError, Format, Make, Matrix, NonFinite, Registration, Scheme, Simd, absmax, non_finite};
use bands::WholeWeight;
use options::Variant;

pub use error::{Broken, ConformanceError, Weight};

/// Numbers of what a passed suite has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConformanceReport {
    /// Number of configured schemes: options times formats.
    pub schemes: usize,
    /// Number of weights that were quantized and compared.
    pub cases: usize,
    /// Number of weights whose shape the scheme refuses.
    pub refused: usize,
    /// Number of results that were compared with golden ones.
    pub golden: usize,
}

/// Tests a registered scheme in both formats with no more options than it needs, and in one of them with each value
/// that the schema of its options offers (examples, choices, both values of a boolean).
///
/// A format may be refused, and a value by an error that names its option. Golden vectors are tried with options of
/// their own.
///
/// # Errors
/// The first promise that is broken.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{Registration, conformance, find};
///
/// let passthrough = find("PASSTHROUGH").expect("this crate registers it");
/// assert_eq!(conformance::check(passthrough)?.cases, 0);
///
/// // An option without a description is a broken promise.
/// let undescribed = Registration {
///     options: |_| {
///         schemars::json_schema!({ "properties": { "wheels": { "default": 4 } }, "additionalProperties": false })
///     },
///     ..*passthrough
/// };
/// let error = conformance::check(&undescribed).unwrap_err();
/// assert_eq!(error.to_string(), "PASSTHROUGH: `wheels` of its options has no description");
/// # Ok::<(), conformance::ConformanceError>(())
/// ```
pub fn check(registration: &Registration) -> Result<ConformanceReport, ConformanceError> {
    let fail = |broken| ConformanceError { scheme: registration.name.to_owned(), broken };
    let variants = options::variants(registration).map_err(fail)?;
    check_variants(registration, &variants)
}

/// Tests a registered scheme like [`check`], but in both formats with each of `options` alone.
///
/// # Errors
/// The first promise that is broken.
pub fn check_with(registration: &Registration, options: &[Value]) -> Result<ConformanceReport, ConformanceError> {
    let given: Vec<_> = options.iter().map(|options| Variant { options: options.clone(), tries: None }).collect();
    check_variants(registration, &given)
}

fn check_variants(registration: &Registration, variants: &[Variant]) -> Result<ConformanceReport, ConformanceError> {
    let mut report = ConformanceReport::default();
    let fail = |broken| ConformanceError { scheme: registration.name.to_owned(), broken };
    options::check_schema(registration).map_err(fail)?;
    let Make::Quantize(make) = registration.make else { return Ok(report) };
    options::check_unknown(make, variants).map_err(fail)?;
    for variant in variants {
        let fail = |broken| ConformanceError { scheme: format!("{} {}", registration.name, variant.options), broken };
        for scheme in unless_it_panics("with these options", || variant.make(make)).map_err(fail)? {
            options::check_arguments(registration, make, &*scheme).map_err(fail)?;
            contract::check(&*scheme, &mut report).map_err(fail)?;
        }
    }
    report.golden = unless_it_panics("golden vectors", || Ok(golden::check(registration)?)).map_err(fail)?;
    Ok(report)
}

/// Does `work`, and turns a panic into an error.
fn unless_it_panics<T>(place: impl fmt::Display, work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = literal.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "without a message".to_owned());
        Err(Broken::Panics { place: place.to_string(), message })
    })
}

/// Constructor in [`Make::Quantize`].
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
    let amax = amax(scheme, source, bytes, simd).unwrap_or_else(|_| non_finite(source, 0, bytes).amax());
    bands::in_order(scheme, WholeWeight { source, bytes, bands, simd, filler, amax }, |band, parts| {
        scheme.quantize_any(band, parts).map(drop)
    })
}

/// Quantizes a whole weight in about a dozen bands that several threads take in mixed order.
fn quantize_from_threads(
    scheme: &dyn Scheme,
    source: Matrix,
    bytes: &[u8],
    simd: Simd,
) -> Result<Vec<Vec<u8>>, NonFinite> {
    let amax = amax(scheme, source, bytes, simd)?;
    let bands = (source.rows / scheme.band_rows() / 12).max(1);
    bands::from_threads(scheme, WholeWeight { source, bytes, bands, simd, filler: 0xA5, amax })
}

/// Returns the absolute maximum that the scheme asks for.
fn amax(scheme: &dyn Scheme, source: Matrix, bytes: &[u8], simd: Simd) -> Result<Option<f32>, NonFinite> {
    match scheme.amax_scope() {
        AmaxScope::Band => Ok(None),
        AmaxScope::Tensor | AmaxScope::Fused => absmax(source, 0, bytes, simd).map(Some),
    }
}
