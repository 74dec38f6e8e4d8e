//! Layers that are FP8 already: each needs a rule that says so in as many words, so that none is quantized twice by accident.

use qwen_fp8_schemes::Make;

use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Recipe, Rule};

use super::Decision;
use super::selection;
use crate::checkpoint::text::count;

/// What a recipe leaves unsaid of FP8 layers, and rules that speak of FP8 layers where there are none.
pub(super) fn refusals(recipe: &Recipe, checkpoint: &Checkpoint, decisions: &[Decision]) -> Vec<Diagnostic> {
    let layers: Vec<(&Tensor, Option<usize>)> = checkpoint
        .tensors
        .iter()
        .zip(decisions)
        .filter(|(tensor, _)| tensor.view.float8().is_some())
        .map(|(tensor, decision)| (tensor, decision.rule.map(|(rule, _)| rule)))
        .collect();
    let of = |wanted: Option<usize>| {
        layers.iter().filter(|(_, rule)| *rule == wanted).map(|(tensor, _)| *tensor).collect::<Vec<_>>()
    };
    let mut diagnostics = Vec::new();
    if let Some((first, how)) = of(None).first().zip(checkpoint.quantized.as_ref()) {
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
            Some(first) if rule.scheme.is_some() && !rule.requantize => {
                diagnostics.push(twice(recipe, checkpoint, index, first, &taken))
            }
            None if !rule.optional && (rule.requantize || decodes(rule)) => diagnostics.push(
                Diagnostic::error(format!("{} takes no layer that is FP8", rule.label)).at(rule.span.clone()).help(
                    match (&checkpoint.quantized, decodes(rule)) {
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

fn twice(recipe: &Recipe, checkpoint: &Checkpoint, index: usize, first: &Tensor, taken: &[&Tensor]) -> Diagnostic {
    let rule = &recipe.rules[index];
    let how = checkpoint.quantized.as_deref().unwrap_or("its layers are FP8");
    let number = count(taken.len(), "FP8 layer");
    let modules = selection::modules(taken.iter().copied());
    Diagnostic::error(format!("the checkpoint is quantized already: {how}"))
        .at(rule.span.clone())
        .label(format!("{} takes {number}, such as {}", rule.label, shown(first.module())))
        .help("start from its BF16 original; quantizing twice loses what the first pass kept")
        .help("`requantize: true` on the rule decodes them first; `DEQUANTIZE` makes BF16 of them")
        .help(selection::keep(recipe, checkpoint, index, &modules))
}
