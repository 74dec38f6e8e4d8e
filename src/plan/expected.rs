//! What a recipe expects of its plan, held against the plan.

use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{Sample, apart, count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Dialect, Located};

use super::build::Plan;
use super::job::Job;
use super::resolve::quantizes;
use super::summary::Summary;
use super::unmatched::PatternScope;

/// Returns a diagnostic for everything that is otherwise than the recipe expects.
pub fn check(plan: &Plan) -> Vec<Diagnostic> {
    let expected = &plan.recipe.expect;
    if expected.is_empty() {
        return Vec::new();
    }
    let summary = Summary::of(plan);
    let counts = [
        (&expected.quantized, summary.quantized_tensors, "quantized"),
        (&expected.copied, summary.copied_tensors, "copied"),
        (&expected.passed_through, summary.passed_through_tensors, "passed through"),
        (&expected.dequantized, summary.dequantized_tensors, "decoded"),
    ];
    let mut diagnostics: Vec<Diagnostic> = counts
        .into_iter()
        .filter_map(|(expected, is, done)| Some((expected.as_ref()?, is, done)))
        .filter(|(expected, is, _)| expected.value != *is as u64)
        .map(|(expected, is, done)| {
            let expected_tensors = count(expected.value as usize, "tensor");
            let message = format!("{} would be {done}, and the recipe expects {expected_tensors}", count(is, "tensor"));
            Diagnostic::error(message)
                .at(expected.span.clone())
                .help("`qwen-fp8 plan` without this line shows what happens to which tensors")
        })
        .collect();
    if let Some(most) = expected.output_at_most.as_ref().filter(|most| summary.directory_bytes > most.value) {
        let [is, most_expected] = apart(summary.directory_bytes, most.value);
        let message = format!("the output would have {is}, and the recipe expects {most_expected} at most");
        diagnostics.push(Diagnostic::error(message).at(most.span.clone()));
    }
    if let Some(least) = expected.sqnr_at_least.as_ref().filter(|_| summary.quantized_tensors == 0) {
        let message = "no tensor would be quantized, so that there is no signal-to-noise ratio to expect";
        diagnostics.push(Diagnostic::error(message).at(least.span.clone()));
    }
    diagnostics.extend(expected.unquantized_layers.iter().filter_map(|pattern| layers(plan, pattern, false)));
    diagnostics.extend(expected.quantized_layers.iter().filter_map(|pattern| layers(plan, pattern, true)));
    diagnostics
}

/// Reports quantized weights whose signal-to-noise ratio is below what the recipe expects. `measured` are the weights, each
/// with its ratio in decibels; `None` for one without noise.
pub fn quality<'a>(plan: &Plan, measured: impl Iterator<Item = (&'a str, Option<f64>)>) -> Option<Diagnostic> {
    let least = plan.recipe.expect.sqnr_at_least.as_ref()?;
    let mut any = false;
    let mut below: Vec<(&str, f64)> = measured
        .inspect(|_| any = true)
        .filter_map(|(name, sqnr)| Some((name, sqnr?)))
        .filter(|(_, sqnr)| sqnr.is_nan() || *sqnr < least.value)
        .collect();
    below.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let diagnostic = |message: String| Some(Diagnostic::error(message).at(least.span.clone()));
    let Some((worst, sqnr)) = below.first() else {
        // An expectation that was held against nothing would come true whatever was written.
        let message = "the recipe expects a signal-to-noise ratio, and no tensor has one that can be measured";
        return if any { None } else { diagnostic(message.to_owned()) };
    };
    let others = match below.len() - 1 {
        0 => String::new(),
        others => format!("; {others} more have less than that"),
    };
    let expects = least.value;
    let worst = shown(worst);
    diagnostic(format!("{worst} has {sqnr:.2} dB, and the recipe expects {expects} dB at least{others}")).map(
        |diagnostic| diagnostic.help("a smaller group or block, more bits, or `ignore:` for such layers raises it"),
    )
}

/// Reports the layers of a pattern that are quantized, or are not, against what is expected.
fn layers(plan: &Plan, pattern: &Located<Pattern>, quantized: bool) -> Option<Diagnostic> {
    let every_part = plan.recipe.dialect == Dialect::LlmCompressor;
    let mut matched = 0;
    let mut otherwise = Vec::new();
    for (input, job) in plan.inputs.iter().zip(&plan.jobs) {
        match pattern.value.matches(input.target_name(), input.kind()) {
            Ok(false) => continue,
            Err(error) => return Some(Diagnostic::error(error.to_string()).at(pattern.span.clone())),
            Ok(true) if quantized && !quantizes(every_part, &pattern.value, input) => continue,
            Ok(true) => matched += 1,
        }
        if matches!(job, Job::Quantize { .. } | Job::PassThrough { .. }) != quantized {
            otherwise.push(input.target_name());
        }
    }
    if matched == 0 {
        let scope = PatternScope { recipe: &plan.recipe, model: &plan.checkpoint.model, inputs: &plan.inputs };
        return Some(scope.matches_nothing(pattern));
    }
    if otherwise.is_empty() {
        return None;
    }
    let (layers, sample) = (count(otherwise.len(), "layer"), otherwise.iter().collect::<Sample>());
    let would = if quantized { "would stay unquantized" } else { "would be quantized" };
    let message =
        format!("{layers} of {} {would}, against what the recipe expects: {sample}", shown(pattern.value.text()));
    let help = format!("`qwen-fp8 explain RECIPE {}` says which rule decided", otherwise[0]);
    Some(Diagnostic::error(message).at(pattern.span.clone()).help(help))
}
