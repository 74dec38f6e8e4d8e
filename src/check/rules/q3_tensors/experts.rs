//! Q312 of experts: one of many that is missing, or lacks what the others of its layer have.

use std::collections::{BTreeMap, BTreeSet};

use super::siblings::LAYERS_MISSING;
use crate::report::Finding;
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::models;
use qwen_fp8_checkpoint::text::{count, shown};

/// Keys of config.json that say how many experts a layer has.
const KEYS: [&str; 3] = ["n_routed_experts", "num_local_experts", "num_experts"];

/// Checks the experts of every layer that has a tensor for each; `names` are those of weights, packed or not.
pub(super) fn check(checkpoint: &Checkpoint, names: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    // module of all experts → number of the expert → the weights that it has
    let mut modules: BTreeMap<&str, BTreeMap<u64, BTreeSet<&str>>> = BTreeMap::new();
    for (module, expert, weight) in names.iter().filter_map(|name| split(name)) {
        modules.entry(module).or_default().entry(expert).or_default().insert(weight);
    }
    let declared = KEYS.iter().find_map(|key| checkpoint.config.text_number(key));
    for (module, experts) in &modules {
        let all: BTreeSet<&str> = experts.values().flatten().copied().collect();
        let having = |weight: &str| experts.values().filter(|weights| weights.contains(weight)).count();
        // Only what most experts have is due in each.
        let due: Vec<&str> = all.into_iter().filter(|&weight| having(weight) * 2 > experts.len()).collect();
        let numbers = (experts.keys().next().copied(), experts.keys().next_back().copied());
        let (Some(first), Some(last)) = numbers else { continue };
        // A number that nobody has is missing where others follow. A file may number anything, so that no more are looked at
        // than there are experts.
        let missing = (first..=last).filter(|expert| !experts.contains_key(expert)).take(experts.len());
        for expert in experts.keys().copied().chain(missing) {
            let has = |weight: &&&str| experts.get(&expert).is_some_and(|weights| weights.contains(**weight));
            for weight in due.iter().filter(|weight| !has(weight)) {
                let name = format!("{module}.{expert}.{weight}");
                let others = count(having(weight), "other expert");
                let have = if having(weight) == 1 { "has" } else { "have" };
                let message = format!("{} is missing, and {others} of the layer {have} theirs", shown(&name));
                findings.push(Finding::new(&LAYERS_MISSING, message).tensor(&name));
            }
        }
        if let Some(declared) = declared.filter(|&declared| last + 1 < declared && first == 0) {
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
