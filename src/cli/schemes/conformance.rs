//! `qwen-fp8 schemes test`: the conformance suite, for the schemes of this build.

use qwen_fp8_schemes::conformance::{self, ConformanceError, ConformanceReport};
use qwen_fp8_schemes::{Make, Registration, registered};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::named::named;
use crate::cli::args::SchemesTestArgs;
use crate::cli::error::CommandError;
use crate::cli::screen::Screen;
use crate::cli::table::{Align, TextTable};

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
        screen.json(&tested.iter().map(Tested::described).collect::<Vec<_>>())?;
    } else {
        screen.data(&render(&tested))?;
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
    fn described(&self) -> Value {
        let name = self.scheme.name;
        match &self.outcome {
            Ok(ConformanceReport { schemes, cases, refused, golden }) => json!({
                "name": name,
                "passed": true,
                "configurations": schemes,
                "weights": cases,
                "refused_shapes": refused,
                "golden_vectors": golden,
            }),
            Err(failure) => json!({ "name": name, "passed": false, "broken": failure.to_string() }),
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
