//! Layers that pass through in a form that neither output format holds: the source's `quantization_config` stays, and
//! says nothing of any other layer.

use crate::checkpoint::text::{count, shown};
use crate::recipe::Recipe;
use crate::recipe::diagnostic::Diagnostic;

use super::job::{Decision, Job};
use super::modules::Modules;
use super::planned_input::PlannedInput;

/// Reports whether the output has the source's `quantization_config`.
pub(super) fn is_kept(inputs: &[PlannedInput], jobs: &[Job]) -> bool {
    kept(inputs, jobs).next().is_some()
}

/// Returns an error for layers of which the source's `quantization_config` would say something wrong.
pub(super) fn refusals(
    recipe: &Recipe,
    inputs: &[PlannedInput],
    decisions: &[Decision],
    jobs: &[Job],
    modules: &Modules<'_>,
) -> Vec<Diagnostic> {
    let Some((first, name)) = kept(inputs, jobs).next() else { return Vec::new() };
    let passes = format!("{} passes through as {name}, which `config.json` goes on to declare", shown(&first.name));
    let mut diagnostics = Vec::new();
    // A server reads one method, and this one has no place for a second scheme.
    if let Some(other) = modules.quantized.first() {
        let message = format!("{passes}, and {} is quantized to another form", shown(other.input.module()));
        diagnostics.push(
            Diagnostic::error(message)
                .at(recipe.rules[other.rule].span.clone())
                .label(&recipe.rules[other.rule].label)
                .help("no server reads both: decode the first with `DEQUANTIZE`, or take this rule out"),
        );
    }
    let decoded: Vec<(&PlannedInput, &Decision)> = inputs
        .iter()
        .zip(decisions)
        .zip(jobs)
        .filter(|((input, _), job)| input.quantized().is_some() && matches!(job, Job::Dequantize { .. }))
        .map(|(pair, _)| pair)
        .collect();
    if let Some((other, (rule, _))) = decoded.first().and_then(|(input, decision)| Some((input, decision.rule?))) {
        let number = count(decoded.len(), "such layer");
        let message = format!("{passes}, and {number} would be decoded, such as {}", shown(&other.name));
        diagnostics.push(
            Diagnostic::error(message)
                .at(recipe.rules[rule].span.clone())
                .label(&recipe.rules[rule].label)
                .help("servers take all of them for quantized: pass all through with `PASSTHROUGH`, or decode all"),
        );
    }
    diagnostics
}

/// The inputs that pass through so, with the name of their layout.
fn kept<'a>(inputs: &'a [PlannedInput], jobs: &'a [Job]) -> impl Iterator<Item = (&'a PlannedInput, &'static str)> {
    inputs.iter().zip(jobs).filter(|(_, job)| matches!(job, Job::PassThrough { .. })).filter_map(|(input, _)| {
        let source = input.quantized()?;
        source.carried.as_ref().is_ok_and(|carried| carried.keeps_config).then_some((input, source.name))
    })
}
