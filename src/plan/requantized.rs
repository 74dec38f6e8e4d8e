//! Layers that are quantized in the source: each needs a rule made for them, so that no layer is quantized twice by
//! accident.

use qwen_fp8_schemes::Make;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::LayerKind;
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Recipe, Rule};

use super::fixes;
use super::job::Decision;
use super::misfits;
use super::planned_input::PlannedInput;
use super::stays::{Stays, WhyStays};

/// Returns an error for quantized layers that no rule is made for, and for rules made for such layers that take none.
pub(super) fn refusals(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    inputs: &[PlannedInput],
    decisions: &[Decision],
    stays: &Stays,
) -> Vec<Diagnostic> {
    let quantized = checkpoint.quantized.as_deref();
    let layers: Vec<(&PlannedInput, Option<usize>)> = inputs
        .iter()
        .zip(decisions)
        .filter(|(input, _)| input.quantized().is_some())
        .map(|(input, decision)| (input, decision.rule.map(|(rule, _)| rule)))
        .collect();
    let of = |wanted: Option<usize>| {
        layers.iter().filter(|(_, rule)| *rule == wanted).map(|(input, _)| *input).collect::<Vec<_>>()
    };
    // The first layer that a rule leaves since its scheme does not fit it, and that no other rule takes.
    let misfit = inputs.iter().zip(decisions).enumerate().find_map(|(number, (input, decision))| {
        let Some(WhyStays::Misfit(rule, misfit)) = stays.why(number, input, decision) else { return None };
        input.quantized().map(|_| (rule, input, misfit))
    });
    let leaves_quantized = |rule: usize| {
        let mut numbered = inputs.iter().enumerate().filter(|(_, input)| input.quantized().is_some());
        numbered.any(|(number, _)| stays.left_by(rule, number).is_some())
    };
    let mut diagnostics = Vec::new();
    if let Some((rule, first, misfit)) = misfit {
        let rule = &recipe.rules[rule];
        let (number, such) = (counted(&of(None)), shown(first.target_name()));
        let message =
            format!("no rule takes {number}, such as {such}: {} leaves what its scheme does not fit", rule.label);
        diagnostics.push(
            Diagnostic::error(message)
                .at(rule.span.clone())
                .label(misfit.to_string())
                .help(
                    "a rule after it with the same targets takes them: `DEQUANTIZE` decodes them, `PASSTHROUGH` passes \
                     them through as they are",
                )
                .help(misfits::way_out(rule, recipe.format)),
        );
    } else if let Some((first, how)) = of(None).first().zip(quantized) {
        let number = counted(&of(None));
        let such = shown(first.target_name());
        let diagnostic = Diagnostic::error(format!(
            "the checkpoint is quantized already: {how}; no rule takes {number}, such as {such}"
        ));
        let diagnostic = match first.kind() {
            LayerKind::Experts => diagnostic.help("`targets: Experts` takes stacks of experts"),
            _ => diagnostic,
        };
        diagnostics.push(
            diagnostic
                .help(
                    "a rule of `PASSTHROUGH` passes such layers through as they are, one of `DEQUANTIZE` decodes them",
                )
                .help(
                    "`requantize: true` on a rule decodes and quantizes them again; an unquantized original gives more",
                ),
        );
    }
    for (index, rule) in recipe.rules.iter().enumerate() {
        let taken = of(Some(index));
        match taken.first() {
            Some(_) if rule.scheme.is_some() && !rule.requantize => {
                diagnostics.push(twice(recipe, checkpoint, (inputs, decisions), index, &taken))
            }
            // Those that it leaves, since its scheme does not fit them, were told above, or are another rule's.
            None if leaves_quantized(index) => {}
            None if !rule.optional && (rule.requantize || decodes(rule)) => diagnostics.push(
                Diagnostic::error(format!("{} takes no layer that is quantized", rule.label))
                    .at(rule.span.clone())
                    .help(match (quantized, decodes(rule)) {
                        (None, true) => "the checkpoint is not quantized: there is nothing to decode",
                        (None, false) => "the checkpoint is not quantized: leave `requantize` out",
                        (Some(_), _) => "`optional: true` on the rule allows that",
                    }),
            ),
            _ => {}
        }
    }
    diagnostics
}

/// Counts layers by the name of their layout, such as `3 FP8 layers`, where all have the same.
fn counted(layers: &[&PlannedInput]) -> String {
    let name = |input: &&PlannedInput| input.quantized().map_or("quantized", |source| source.name);
    let first = layers.first().map_or("quantized", name);
    let word = if layers.iter().all(|layer| name(layer) == first) { first } else { "quantized" };
    count(layers.len(), &format!("{word} layer"))
}

fn decodes(rule: &Rule) -> bool {
    matches!(rule.registration.make, Make::Dequantize)
}

fn twice(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    (inputs, decisions): (&[PlannedInput], &[Decision]),
    index: usize,
    taken: &[&PlannedInput],
) -> Diagnostic {
    let rule = &recipe.rules[index];
    let how = checkpoint.quantized.as_deref().unwrap_or("its layers are");
    let number = counted(taken);
    let modules = fixes::modules(taken.iter().copied());
    Diagnostic::error(format!("the checkpoint is quantized already: {how}"))
        .at(rule.span.clone())
        .label(format!("{} takes {number}, such as {}", rule.label, shown(taken[0].module())))
        .help("start from an original that is not quantized, where there is one: quantizing twice loses more")
        .help("`requantize: true` on the rule decodes them first; `DEQUANTIZE` makes BF16 of them")
        .help(fixes::leave_out(recipe, &checkpoint.model, (inputs, decisions), index, &modules))
}
