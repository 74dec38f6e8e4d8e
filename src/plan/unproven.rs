//! Warnings about what nobody has seen: families that no server was seen to load, models of no known family, and layers
//! that config.json promises and the checkpoint lacks.

use std::collections::BTreeSet;

use crate::checkpoint::models::{LayerKind, Part};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{Sample, count, unquoted};
use crate::recipe::Rule;
use crate::recipe::diagnostic::Diagnostic;

use super::planned_input::PlannedInput;
use super::served::Served;

/// Returns the warnings for a plan that quantizes something.
pub(super) fn check(served: &Served<'_>) -> Vec<Diagnostic> {
    let of_family = match served.model.family() {
        None => of_unknown_family(served),
        Some(_) => of_unproven_family(served),
    };
    of_family.into_iter().chain(lacks_promised_layers(served)).collect()
}

/// Warns that nobody knows what servers make of a model of no known family, once: of the layers that `Linear` leaves out,
/// else of those that stay unquantized.
fn of_unknown_family(served: &Served<'_>) -> Option<Diagnostic> {
    let class = served.class();
    let by_linear = served.recipe.rules.iter().find(|rule| takes_linear(rule));
    let left_out = each_once(
        kept(served)
            .filter(|(input, has_rule)| !has_rule && matches!(input.layer.part, Part::Outside | Part::Unrecognized))
            .map(|(input, _)| input.module()),
    );
    let warning = match by_linear {
        Some(rule) if !left_out.is_empty() => {
            let layers = count(left_out.len(), "linear layer");
            let sample: Sample = left_out.iter().collect();
            let what =
                format!("{class} is of no family that is known here, and `Linear` leaves {layers} out: {sample}");
            Diagnostic::warning(what).at(rule.span.clone())
        }
        _ => match not_seen(served, &format!("{class} is of no family that is known here: a server")) {
            Some(warning) => warning,
            None => {
                let rule = served.recipe.rules.iter().find(|rule| rule.scheme.is_some())?;
                let what = format!(
                    "{class} is of no family that is known here: its layers are taken for those of a decoder by their names"
                );
                Diagnostic::note(what).at(rule.span.clone())
            }
        },
    };
    Some(warning.help(file_to_write(served)))
}

/// Warns that nobody has seen a server look up the layers of this family that stay unquantized.
fn of_unproven_family(served: &Served<'_>) -> Option<Diagnostic> {
    let why = served.model.unproven()?;
    let what = format!("nobody has seen vLLM load {} ({}): it", served.class(), unquoted(why));
    Some(not_seen(served, &what)?.help(file_to_write(served)))
}

/// The warning that a list may not reach the layers that stay unquantized; `None` where none does.
fn not_seen(served: &Served<'_>, what: &str) -> Option<Diagnostic> {
    let names = each_once(kept(served).map(|(input, _)| input.module()));
    let rule = served.recipe.rules.iter().find(|rule| rule.scheme.is_some())?;
    if names.is_empty() {
        return None;
    }
    let sample: Sample = names.iter().collect();
    let layers = count(names.len(), "unquantized layer");
    let message = format!("{what} may look for {layers} under other names than the list has: {sample}");
    Some(Diagnostic::warning(message).at(rule.span.clone()))
}

/// The names, each once, in their order: the stacks of a layer are of one module.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// The inputs that stay unquantized and that a server may build quantized, and whether a rule takes them.
fn kept<'a>(served: &Served<'a>) -> impl Iterator<Item = (&'a PlannedInput, bool)> {
    let kinds = [LayerKind::Linear, LayerKind::Experts, LayerKind::Router];
    let recipe = served.recipe;
    served.inputs.iter().zip(served.decisions).filter_map(move |(input, decision)| {
        let stays = kinds.contains(&input.kind()) && !decision.is_quantized(recipe) && input.quantized().is_none();
        stays.then_some((input, decision.rule.is_some()))
    })
}

fn takes_linear(rule: &Rule) -> bool {
    let is_linear = |pattern: &Pattern| matches!(pattern, Pattern::Class(LayerKind::Linear));
    rule.scheme.is_some() && !rule.linear_is_every_part && rule.targets.iter().any(|target| is_linear(&target.value))
}

/// The commands that make a file of the user's own, after which nothing of this is said.
fn file_to_write(served: &Served<'_>) -> String {
    let is_plain = |text: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
    };
    let model = served.source.to_str().filter(is_plain).unwrap_or("DIR");
    let model_type = served.config.model_type();
    let file = model_type.as_deref().filter(is_plain).filter(|text| !text.contains('/')).unwrap_or("my_model");
    format!(
        "say in a file of your own what a server builds, and nothing is left to warn of:\n\
         mkdir -p models && qwen-fp8 models --draft {model} > models/{file}.yaml\n\
         correct it, and add `--models ./models` to this command"
    )
}

/// Warns of layers for predicting further tokens that config.json promises and the checkpoint lacks.
fn lacks_promised_layers(served: &Served<'_>) -> Option<Diagnostic> {
    let (key, number) = served.model.promised_next_tokens()?;
    let has = |input: &PlannedInput| {
        input.layer.part == Part::NextTokens || served.model.is_behind_the_last_layer(input.module())
    };
    if served.inputs.iter().any(has) {
        return None;
    }
    let message = format!(
        "config.json says `{key}: {number}`, and the checkpoint has no tensor of a layer that predicts further tokens"
    );
    Some(
        Diagnostic::warning(message)
            .help("a server that is told to draft with these layers (MTP) fails, or drafts at random")
            .help(format!("copy their tensors from the original checkpoint, or write `\"{key}\": 0` into config.json")),
    )
}
