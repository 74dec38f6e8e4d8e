//! Layers that are FP8 already: each needs a rule that says so in as many words, so that none is quantized twice by accident.

use qwen_fp8_schemes::Make;

use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Recipe, Rule};

use super::fixes;
use super::job::Decision;
use super::planned_input::PlannedInput;

/// What a recipe leaves unsaid of FP8 layers, and rules that speak of FP8 layers where there are none.
pub(super) fn refusals(
    recipe: &Recipe,
    quantized: Option<&str>,
    inputs: &[PlannedInput],
    decisions: &[Decision],
) -> Vec<Diagnostic> {
    let layers: Vec<(&PlannedInput, Option<usize>)> = inputs
        .iter()
        .zip(decisions)
        .filter(|(input, _)| input.fp8().is_some())
        .map(|(input, decision)| (input, decision.rule.map(|(rule, _)| rule)))
        .collect();
    let of = |wanted: Option<usize>| {
        layers.iter().filter(|(_, rule)| *rule == wanted).map(|(input, _)| *input).collect::<Vec<_>>()
    };
    let mut diagnostics = Vec::new();
    if let Some((first, how)) = of(None).first().zip(quantized) {
        let number = count(of(None).len(), "FP8 layer");
        let such = shown(first.module());
        diagnostics.push(
            Diagnostic::error(format!(
                "the checkpoint is quantized already: {how}; no rule takes {number}, such as {such}"
            ))
            .help("a rule of `PASSTHROUGH` carries FP8 layers over as they are, one of `DEQUANTIZE` decodes them")
            .help("`requantize: true` on a rule decodes and quantizes them again; better start from the BF16 original"),
        );
    }
    for (index, rule) in recipe.rules.iter().enumerate() {
        let taken = of(Some(index));
        match taken.first() {
            Some(_) if rule.scheme.is_some() && !rule.requantize => {
                diagnostics.push(twice(recipe, quantized, inputs, index, &taken))
            }
            None if !rule.optional && (rule.requantize || decodes(rule)) => diagnostics.push(
                Diagnostic::error(format!("{} takes no layer that is FP8", rule.label)).at(rule.span.clone()).help(
                    match (quantized, decodes(rule)) {
                        (None, true) => "the checkpoint is not quantized: there is nothing to decode",
                        (None, false) => "the checkpoint is not quantized: leave `requantize` out",
                        (Some(_), _) => "`optional: true` on the rule allows that",
                    },
                ),
            ),
            _ => {}
        }
    }
    diagnostics
}

fn decodes(rule: &Rule) -> bool {
    matches!(rule.registration.make, Make::Dequantize)
}

fn twice(
    recipe: &Recipe,
    quantized: Option<&str>,
    inputs: &[PlannedInput],
    index: usize,
    taken: &[&PlannedInput],
) -> Diagnostic {
    let rule = &recipe.rules[index];
    let how = quantized.unwrap_or("its layers are FP8");
    let number = count(taken.len(), "FP8 layer");
    let modules = fixes::modules(taken.iter().copied());
    Diagnostic::error(format!("the checkpoint is quantized already: {how}"))
        .at(rule.span.clone())
        .label(format!("{} takes {number}, such as {}", rule.label, shown(taken[0].module())))
        .help("start from its BF16 original; quantizing twice loses what the first pass kept")
        .help("`requantize: true` on the rule decodes them first; `DEQUANTIZE` makes BF16 of them")
        .help(fixes::keep(recipe, inputs, index, &modules))
}
