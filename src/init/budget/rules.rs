//! The text of a recipe by budget: a rule for each scheme, with what it costs and what it loses.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::{LayerKind, Part};
use crate::checkpoint::text::{count, decibels, human, memory};
use crate::init::layers::Layers;
use crate::init::request::DraftGranularity;
use crate::init::text::{base_name, kept_layers, opening, passthrough, visible};
use crate::plan::{numbers_starred, patterns};

use super::layers::BudgetLayers;
use super::request::BudgetRequest;
use super::steps::Cost;

/// The word for layers that no scheme takes.
pub(super) const UNQUANTIZED: &str = "unquantized";

/// Layers of one kind that share a choice.
struct LikeLayers<'a> {
    modules: Vec<&'a str>,
    elements: f64,
    cost: Cost,
}

/// Returns the SQNR of so many elements that lose so much; `None` where they lose nothing.
pub(super) fn sqnr(error: f64, elements: f64) -> Option<f64> {
    (error > 0.0).then(|| -10.0 * (error / elements).log10())
}

/// The recipe without the comments above it, given the choice of each set.
pub(super) fn body(
    checkpoint: &Checkpoint,
    layers: &BudgetLayers,
    choices: &[usize],
    request: &BudgetRequest,
) -> String {
    let (inputs, model) = (&layers.inputs, &checkpoint.model);
    let others = Layers::of(model, inputs, Some(DraftGranularity::Channel));
    let name = base_name(&checkpoint.dir, &request.draft.model);
    let output = format!("{name}-{}", memory(request.fit.vram).replace(' ', ""));
    let mut text = opening(&request.draft.model, &output, "compressed-tensors # llm-compressor's layout.", &others);
    text.push_str(&kept_layers(model, inputs, &others));
    let bound = bound_layers(layers);
    if !bound.is_empty() {
        let reason = format!("{} that a server fuses with what stays.", count(bound.len(), "linear layer"));
        text.push_str(&passthrough(&reason, &patterns(&bound, inputs)));
    }
    let kinds = kinds(layers, choices);
    let modules = |choice: &Option<usize>| kinds[choice].values().map(|like| like.modules.len()).sum::<usize>();
    // What most layers have stands last, for all that no rule before it takes.
    let Some(&rest) = kinds.keys().max_by_key(|choice| (modules(choice), choice.is_some())) else { return text };
    for (choice, of_choice) in kinds.iter().filter(|(choice, _)| **choice != rest) {
        text.push_str(&heading(layers, *choice, of_choice));
        text.push_str("    targets:\n");
        for like in of_choice.values() {
            for (number, pattern) in patterns(&like.modules, inputs).iter().enumerate() {
                let figures = if number == 0 { format!(" # {}", figures(like)) } else { String::new() };
                text.push_str(&format!("      - {}{figures}\n", visible(pattern)));
            }
        }
    }
    text.push_str(&heading(layers, rest, &kinds[&rest]));
    for (kind, like) in &kinds[&rest] {
        text.push_str(&format!("    # {kind}: {}\n", figures(like)));
    }
    text.push_str("    targets: Linear\n");
    text
}

/// The first lines of the rule for a choice, with what its layers take and lose.
fn heading(layers: &BudgetLayers, choice: Option<usize>, kinds: &BTreeMap<String, LikeLayers<'_>>) -> String {
    let mut all = LikeLayers { modules: Vec::new(), elements: 0.0, cost: Cost { bytes: 0, error: 0.0 } };
    kinds.values().for_each(|like| all.add(&like.modules, like.elements, like.cost));
    let (label, lines) = match choice {
        Some(candidate) => (layers.candidates[candidate].label(), layers.candidates[candidate].lines()),
        None => (UNQUANTIZED.to_owned(), "  - scheme: PASSTHROUGH\n".to_owned()),
    };
    format!("  # {label}: {}\n{lines}", figures(&all))
}

/// The number of layers, what they take, and what they lose.
fn figures(like: &LikeLayers<'_>) -> String {
    let size = format!("{}, {}", count(like.modules.len(), "linear layer"), human(like.cost.bytes));
    match sqnr(like.cost.error, like.elements) {
        None => size,
        ratio => {
            let bits = like.cost.bytes as f64 * 8.0 / like.elements;
            format!("{size} ({bits:.2} bits a weight), {}", decibels(ratio))
        }
    }
}

impl<'a> LikeLayers<'a> {
    fn add(&mut self, modules: &[&'a str], elements: f64, cost: Cost) {
        self.modules.extend(modules);
        self.elements += elements;
        self.cost.bytes += cost.bytes;
        self.cost.error += cost.error;
    }
}

/// The layers of each choice, by the name with `*` for numbers.
fn kinds<'a>(layers: &'a BudgetLayers, choices: &[usize]) -> BTreeMap<Option<usize>, BTreeMap<String, LikeLayers<'a>>> {
    let mut kinds: BTreeMap<Option<usize>, BTreeMap<String, LikeLayers<'_>>> = BTreeMap::new();
    for (set, &choice) in layers.sets.iter().zip(choices) {
        let choice = &set.choices[choice];
        let of_choice = kinds.entry(choice.candidate).or_default();
        for (&input, &cost) in set.inputs.iter().zip(&choice.parts) {
            let input = &layers.inputs[input];
            let elements = input.shape.iter().product::<usize>() as f64;
            let nothing = || LikeLayers { modules: Vec::new(), elements: 0.0, cost: Cost { bytes: 0, error: 0.0 } };
            let like = of_choice.entry(numbers_starred(input.module())).or_insert_with(nothing);
            like.add(&[input.module()], elements, cost);
        }
    }
    kinds
}

/// The linear layers that are in no set, although `Linear` takes them.
fn bound_layers(layers: &BudgetLayers) -> Vec<&str> {
    let chosen: BTreeSet<usize> = layers.sets.iter().flat_map(|set| set.inputs.iter().copied()).collect();
    let linear = layers.inputs.iter().enumerate().filter(|(number, input)| {
        input.kind() == LayerKind::Linear && input.layer.part == Part::Decoder && !chosen.contains(number)
    });
    linear.map(|(_, input)| input.module()).collect()
}
