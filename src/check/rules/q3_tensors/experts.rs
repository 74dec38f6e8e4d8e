//! Q312 of experts: one of many that is missing, or lacks what the others of its layer have.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::siblings::{LAYERS_MISSING, unpacked};
use crate::report::Finding;
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::models;
use qwen_fp8_checkpoint::text::{agree, count, shown};

/// Keys of config.json that say how many experts a layer has.
const KEYS: [&str; 3] = ["n_routed_experts", "num_local_experts", "num_experts"];

/// Checks the experts of every layer that has a tensor for each.
pub(crate) fn check(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    let names: Vec<Cow<'_, str>> = checkpoint.tensors.iter().map(|tensor| unpacked(&tensor.name)).collect();
    // module of all experts → number of the expert → the weights that it has
    let mut modules: BTreeMap<&str, BTreeMap<u64, BTreeSet<&str>>> = BTreeMap::new();
    for (module, expert, weight) in names.iter().filter_map(|name| split(name)) {
        modules.entry(module).or_default().entry(expert).or_default().insert(weight);
    }
    let declared = KEYS.iter().find_map(|key| checkpoint.config.text_number(key));
    for (module, experts) in &modules {
        let mut having: BTreeMap<&str, usize> = BTreeMap::new();
        experts.values().flatten().for_each(|weight| *having.entry(weight).or_default() += 1);
        // Only what most experts have is due in each.
        having.retain(|_, number| *number * 2 > experts.len());
        let numbers = (experts.keys().next().copied(), experts.keys().next_back().copied());
        let (Some(first), Some(last)) = numbers else { continue };
        // A number that nobody has is missing where others follow. A file may number anything, so that no more are looked at
        // than there are experts.
        let missing = (first..=last).filter(|expert| !experts.contains_key(expert)).take(experts.len());
        for expert in experts.keys().copied().chain(missing) {
            let has = |weight: &str| experts.get(&expert).is_some_and(|weights| weights.contains(weight));
            for (weight, &number) in having.iter().filter(|(weight, _)| !has(weight)) {
                let name = format!("{module}.{expert}.{weight}");
                let (others, have) = (count(number, "other expert"), agree(number, "has", "have"));
                let message = format!("{} is missing, and {others} of the layer {have} theirs", shown(&name));
                findings.push(Finding::new(&LAYERS_MISSING, message).tensor(&name));
            }
        }
        if let Some(declared) = declared.filter(|&declared| first == 0 && last.saturating_add(1) < declared) {
            let (declared, there) = (count(declared as usize, "expert"), last + 1);
            let message = format!("config.json declares {declared} a layer, and {} has {there}", shown(module));
            findings.push(Finding::new(&LAYERS_MISSING, message).tensor(&format!("{module}.{there}")));
        }
    }
}

/// Splits `model.layers.3.mlp.experts.7.up_proj.weight` into the module of all experts, the expert and its weight.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    const EXPERTS: &str = ".experts.";
    let at = name.find(EXPERTS)? + EXPERTS.len();
    let (expert, weight) = name[at..].split_once('.')?;
    (models::split_name(weight).1 == "weight").then_some((&name[..at - 1], expert.parse().ok()?, weight))
}
