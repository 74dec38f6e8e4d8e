//! Layers that servers put into one matrix, or into one kernel call, and which therefore have one scheme.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::AmaxScope;

use crate::checkpoint::models::{self, LayerKind};
use crate::recipe::Recipe;

use super::job::Job;
use super::planned_input::PlannedInput;

/// The parts of a merged layer, in the order in which they lie in it.
const MERGED: &[&[&str]] = &[
    &["q_proj", "k_proj", "v_proj"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
    &["in_proj_qkv", "in_proj_z"],
    &["in_proj_b", "in_proj_a"],
];

/// What a module is merged into: the experts of a layer, or the merged layer of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FusedSet<'a> {
    Experts(&'a str),
    Layer { parent: &'a str, set: usize },
}

/// What the module is merged into, if anything.
pub(super) fn set_of(module: &str) -> Option<FusedSet<'_>> {
    if let Some((layer, _)) = module.split_once(".experts.") {
        return Some(FusedSet::Experts(layer));
    }
    let (parent, last) = models::split_name(module);
    let set = MERGED.iter().position(|set| set.contains(&last))?;
    Some(FusedSet::Layer { parent, set })
}

/// The weights of a checkpoint that are merged, by what they are merged into; one that is no matrix is among them, since
/// a server takes it for a part all the same.
pub(super) fn sets(inputs: &[PlannedInput]) -> BTreeMap<FusedSet<'_>, Vec<&PlannedInput>> {
    let mut sets: BTreeMap<FusedSet<'_>, Vec<&PlannedInput>> = BTreeMap::new();
    for tensor in inputs.iter().filter(|tensor| tensor.parameter() == "weight") {
        if let Some(whole) = set_of(tensor.module()) {
            sets.entry(whole).or_default().push(tensor);
        }
    }
    sets.retain(|_, parts| parts.len() > 1);
    sets
}

/// These modules and all that share a merged layer with one of them.
pub(crate) fn with_fused<'a>(inputs: &'a [PlannedInput], modules: &[&'a str]) -> Vec<&'a str> {
    let touched: BTreeSet<FusedSet<'_>> = modules.iter().filter_map(|module| set_of(module)).collect();
    let partners = inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Linear).map(PlannedInput::module);
    let partners = partners.filter(|module| set_of(module).is_some_and(|whole| touched.contains(&whole)));
    let mut all: Vec<&str> = modules.iter().copied().chain(partners).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether another part of the same merged layer lies behind this one, so that it must end where a block does.
pub(super) fn has_parts_behind(module: &str, is_there: impl Fn(&str) -> bool) -> bool {
    let (parent, last) = models::split_name(module);
    let Some(set) = MERGED.iter().find(|set| set.contains(&last)) else { return false };
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
        let Some(set) = MERGED.iter().position(|set| set.contains(&last)) else { return index };
        *leaders.entry((parent.to_owned(), set)).or_insert(index)
    };
    tensors.enumerate().map(leader).collect()
}
