//! Layers that servers put into one matrix, or into one kernel call, and which therefore have one scheme.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::AmaxScope;

use crate::checkpoint::models::{self, FUSED, FusedLayer, LayerKind, fused_layer};
use crate::recipe::Recipe;

use super::job::Job;
use super::planned_input::PlannedInput;

/// The weights that are parts of fused layers, by fused layer; one that is no matrix is among them, since a server takes it
/// for a part all the same.
pub(super) fn sets(inputs: &[PlannedInput]) -> BTreeMap<FusedLayer<'_>, Vec<&PlannedInput>> {
    let mut sets: BTreeMap<FusedLayer<'_>, Vec<&PlannedInput>> = BTreeMap::new();
    for input in inputs.iter().filter(|input| input.parameter() == "weight") {
        if let Some(layer) = fused_layer(input.module()) {
            sets.entry(layer).or_default().push(input);
        }
    }
    sets.retain(|_, parts| parts.len() > 1);
    sets
}

/// These modules and all that share a merged layer with one of them.
pub(crate) fn with_fused<'a>(inputs: &'a [PlannedInput], modules: &[&'a str]) -> Vec<&'a str> {
    let touched: BTreeSet<FusedLayer<'_>> = modules.iter().filter_map(|module| fused_layer(module)).collect();
    let parts = inputs.iter().filter(|input| input.kind() == LayerKind::Linear).map(PlannedInput::module);
    let parts = parts.filter(|module| fused_layer(module).is_some_and(|layer| touched.contains(&layer)));
    let mut all: Vec<&str> = modules.iter().copied().chain(parts).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether another part of the same merged layer lies behind this one, so that it must end where a block does.
pub(super) fn has_parts_behind(module: &str, is_there: impl Fn(&str) -> bool) -> bool {
    let (parent, last) = models::split_name(module);
    let Some(set) = FUSED.iter().find(|set| set.contains(&last)) else { return false };
    set.iter().skip_while(|part| **part != last).skip(1).any(|part| is_there(&format!("{parent}.{part}")))
}

/// For each tensor of the plan the first one whose absolute maximum is also its own, which may be itself.
///
/// Experts are merged one by one, as llm-compressor's `oneshot` does; its `model_free_ptq` does not merge them.
pub(super) fn amax_leaders(recipe: &Recipe, inputs: &[PlannedInput], jobs: &[Job]) -> Vec<usize> {
    let mut leaders = BTreeMap::new();
    let tensors = inputs.iter().zip(jobs);
    let leader = |(index, (tensor, job)): (usize, (&PlannedInput, &Job))| {
        let Job::Quantize { rule, .. } = job else { return index };
        let scheme = recipe.rules[*rule].scheme.as_deref();
        if scheme.is_none_or(|scheme| scheme.amax_scope() != AmaxScope::Fused) {
            return index;
        }
        let (parent, last) = models::split_name(tensor.module());
        let Some(set) = FUSED.iter().position(|set| set.contains(&last)) else { return index };
        *leaders.entry((parent.to_owned(), set)).or_insert(index)
    };
    tensors.enumerate().map(leader).collect()
}
