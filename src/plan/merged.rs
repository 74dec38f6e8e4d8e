//! Layers that servers put into one matrix, or into one kernel call, and which therefore have one scheme.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::AmaxScope;

use crate::checkpoint::models::{self, FUSED, FusedLayer, LayerKind, fused_layer};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::plan::{Job, Plan};

/// The weights of a checkpoint that are merged, by what they are merged into; one that is no matrix is among them, since
/// a server takes it for a part all the same.
pub(super) fn wholes(checkpoint: &Checkpoint) -> BTreeMap<FusedLayer<'_>, Vec<&Tensor>> {
    let mut wholes: BTreeMap<FusedLayer<'_>, Vec<&Tensor>> = BTreeMap::new();
    for tensor in checkpoint.tensors.iter().filter(|tensor| tensor.parameter() == "weight") {
        if let Some(whole) = fused_layer(tensor.module()) {
            wholes.entry(whole).or_default().push(tensor);
        }
    }
    wholes.retain(|_, parts| parts.len() > 1);
    wholes
}

/// These modules and all that share a merged layer with one of them.
pub(crate) fn with_partners<'a>(checkpoint: &'a Checkpoint, modules: &[&'a str]) -> Vec<&'a str> {
    let touched: BTreeSet<FusedLayer<'_>> = modules.iter().filter_map(|module| fused_layer(module)).collect();
    let partners = checkpoint.tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Linear).map(Tensor::module);
    let partners = partners.filter(|module| fused_layer(module).is_some_and(|whole| touched.contains(&whole)));
    let mut all: Vec<&str> = modules.iter().copied().chain(partners).collect();
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
pub(super) fn amax_leaders(plan: &Plan) -> Vec<usize> {
    let mut leaders = BTreeMap::new();
    let tensors = plan.checkpoint.tensors.iter().zip(&plan.jobs);
    let leader = |(index, (tensor, job)): (usize, (&'_ Tensor, &Job))| {
        let Job::Quantize { rule, .. } = job else { return index };
        let scheme = plan.recipe.rules[*rule].scheme.as_deref();
        if scheme.is_none_or(|scheme| scheme.amax_scope() != AmaxScope::Fused) {
            return index;
        }
        let (parent, last) = models::split_name(tensor.module());
        let Some(set) = FUSED.iter().position(|set| set.contains(&last)) else { return index };
        *leaders.entry((parent.to_owned(), set)).or_insert(index)
    };
    tensors.enumerate().map(leader).collect()
}
