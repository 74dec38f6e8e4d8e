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
mod guard;
mod options;
mod quantize;
mod report;
mod sample;

use serde_json::Value;

use crate::{Make, Registration};
use guard::unless_it_panics;
use options::Variant;

pub use error::{Broken, ConformanceError, Weight};
pub use options::fewest_options;
pub use quantize::{quantize_whole, quantize_whole_keeping};
pub use report::ConformanceReport;

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
