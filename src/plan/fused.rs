//! Fused layers of a plan: the sets of weights that share a scheme, a block grid or an absolute maximum.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::AmaxScope;

use crate::checkpoint::models::{FusedLayer, LayerKind, Model, split_name};
use crate::recipe::Recipe;

use super::job::Job;
use super::planned_input::PlannedInput;

/// The weights that are parts of fused layers, by fused layer; one that is no matrix is among them, since a server
/// takes it for a part all the same.
pub(crate) fn sets<'a>(
    model: &'a Model,
    inputs: &'a [PlannedInput],
) -> BTreeMap<FusedLayer<'a>, Vec<&'a PlannedInput>> {
    let mut sets: BTreeMap<FusedLayer<'a>, Vec<&PlannedInput>> = BTreeMap::new();
    for input in inputs.iter().filter(|input| input.parameter() == "weight") {
        if let Some(layer) = model.fused_layer(input.module()) {
            sets.entry(layer).or_default().push(input);
        }
    }
    sets.retain(|_, parts| parts.len() > 1);
    sets
}

/// Returns these modules and all that are parts of the same fused layers.
pub(crate) fn with_fused<'a>(model: &Model, inputs: &'a [PlannedInput], modules: &[&'a str]) -> Vec<&'a str> {
    let touched: BTreeSet<FusedLayer<'_>> = modules.iter().filter_map(|module| model.fused_layer(module)).collect();
    let parts = inputs.iter().filter(|input| input.kind() == LayerKind::Linear).map(PlannedInput::module);
    let parts = parts.filter(|module| model.fused_layer(module).is_some_and(|layer| touched.contains(&layer)));
    let mut all: Vec<&str> = modules.iter().copied().chain(parts).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Returns what names the weights that share an absolute maximum with this one; `None` where it stands alone.
//
// By parent and layer rather than by shard: the parts of a fused layer may lie in different shards of the source.
pub(crate) fn shared_amax<'a>(model: &'a Model, module: &'a str) -> Option<(&'a str, &'a str)> {
    let fused = model.fused(module)?;
    Some((split_name(module).0, &fused.layer))
}

/// Returns for each input the first one whose absolute maximum is also its own, which may be itself.
///
/// Experts share a maximum each with itself, as in llm-compressor's `oneshot`; its `model_free_ptq` does not fuse them.
pub(super) fn amax_leaders(model: &Model, recipe: &Recipe, inputs: &[PlannedInput], jobs: &[Job]) -> Vec<usize> {
    let mut leaders: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(inputs.len());
    for (index, (input, job)) in inputs.iter().zip(jobs).enumerate() {
        let scheme = match job {
            Job::Quantize { rule, .. } => recipe.rules[*rule].scheme.as_deref(),
            _ => None,
        };
        let is_shared = scheme.is_some_and(|scheme| scheme.amax_scope() == AmaxScope::Fused);
        let shared = if is_shared { shared_amax(model, input.module()) } else { None };
        all.push(shared.map_or(index, |shared| *leaders.entry(shared).or_insert(index)));
    }
    all
}
