//! `qwen-fp8 schemes test`: the conformance suite, for the schemes of this build.

use qwen_fp8_schemes::conformance::{self, ConformanceError, ConformanceReport};
use qwen_fp8_schemes::{Make, Registration, registered};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::named::named;
use crate::cli::args::SchemesTestArgs;
use crate::cli::error::CommandError;
use crate::cli::json::JsonOutput;
use crate::cli::screen::Screen;
use crate::cli::table::{Align, TextTable};

/// The schemes that were tested.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct SchemesTestOutput {
    schemes: Vec<SchemeTestResult>,
}

impl JsonOutput for SchemesTestOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 schemes test --json`";
}

/// The outcome of a scheme's test; the numbers are null where it failed.
#[derive(Debug, Serialize, JsonSchema)]
struct SchemeTestResult {
    name: &'static str,
    passed: bool,
    /// The sets of options that were tested.
    configurations: Option<usize>,
    weights: Option<usize>,
    refused_shapes: Option<usize>,
    golden_vectors: Option<usize>,
    /// What the scheme does not keep to; null where it passed.
    broken: Option<String>,
}

pub(super) fn test(args: &SchemesTestArgs, screen: &Screen) -> Result<(), CommandError> {
    let schemes = match &args.names[..] {
        [] => registered(),
        names => names.iter().map(|name| named(name)).collect::<Result<_, _>>()?,
    };
    let tested: Vec<Tested> = schemes
        .into_par_iter()
        .map(|scheme| {
            let outcome = match &args.options[..] {
                [] => conformance::check(scheme),
                options => {
                    conformance::check_with(scheme, &options.iter().cloned().map(Value::from).collect::<Vec<_>>())
                }
            };
            Tested { scheme, outcome }
        })
        .collect();
    if args.json {
        screen.json(&SchemesTestOutput { schemes: tested.iter().map(Tested::described).collect() })?;
    } else {
        screen.report(&render(&tested))?;
        for failure in tested.iter().filter_map(|tested| tested.outcome.as_ref().err()) {
            screen.failure(&CommandError::Input(failure.to_string()));
        }
    }
    if tested.iter().all(|tested| tested.outcome.is_ok()) { Ok(()) } else { Err(CommandError::Reported) }
}

/// A scheme with the outcome of its test.
struct Tested {
    scheme: &'static Registration,
    outcome: Result<ConformanceReport, ConformanceError>,
}

impl Tested {
    fn described(&self) -> SchemeTestResult {
        let name = self.scheme.name;
        let empty = SchemeTestResult {
            name,
            passed: true,
            configurations: None,
            weights: None,
            refused_shapes: None,
            golden_vectors: None,
            broken: None,
        };
        match &self.outcome {
            &Ok(ConformanceReport { schemes, cases, refused, golden }) => SchemeTestResult {
                configurations: Some(schemes),
                weights: Some(cases),
                refused_shapes: Some(refused),
                golden_vectors: Some(golden),
                ..empty
            },
            Err(failure) => SchemeTestResult { passed: false, broken: Some(failure.to_string()), ..empty },
        }
    }
}

fn render(tested: &[Tested]) -> String {
    let mut table = TextTable::new(&[
        ("scheme", Align::Left),
        ("configurations", Align::Right),
        ("weights", Align::Right),
        ("refused shapes", Align::Right),
        ("golden vectors", Align::Right),
        ("", Align::Left),
    ]);
    for Tested { scheme, outcome } in tested {
        let (numbers, verdict) = match (outcome, scheme.make) {
            (Ok(ConformanceReport { schemes, cases, refused, golden }), Make::Quantize(_)) => {
                (Some([schemes, cases, refused, golden]), "passed")
            }
            (Ok(_), Make::Keep | Make::Dequantize) => (None, "quantizes nothing: no more to test"),
            (Err(_), _) => (None, "FAILED"),
        };
        let numbers = numbers.map(|numbers| numbers.map(usize::to_string)).unwrap_or_default();
        table.row([scheme.name.to_owned()].into_iter().chain(numbers).chain([verdict.to_owned()]));
    }
    table.render()
}
