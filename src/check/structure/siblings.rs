//! Layers and merged parts that are missing, seen from what stands beside them.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::Finding;
use crate::rules;
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::models;
use qwen_fp8_checkpoint::text::shown;

pub(super) fn check(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    let names: BTreeSet<&str> = checkpoint.tensors.iter().map(|tensor| unpacked(&tensor.name)).collect();
    fused_parts(&names, findings);
    layers(checkpoint, &names, findings);
}

/// The name without what says that a weight is packed.
fn unpacked(name: &str) -> &str {
    match name.strip_suffix("_packed") {
        Some(weight) if weight.ends_with(".weight") => weight,
        _ => name,
    }
}

fn fused_parts(names: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    for name in names {
        let Some((parent, part)) = name.strip_suffix(".weight").map(models::split_name) else { continue };
        let Some(pair) = models::FUSED_PAIRS.iter().find(|pair| pair.contains(&part)) else { continue };
        let partner = if pair[0] == part { pair[1] } else { pair[0] };
        let partner = format!("{parent}.{partner}.weight");
        if !names.contains(partner.as_str()) {
            let message = format!("{} is there, and {} is missing", shown(name), shown(&partner));
            findings.push(Finding::new(&rules::FUSED_MISSING, message).tensor(&partner));
        }
    }
}

/// Layers of one stack that lack what nearly all others have.
fn layers(checkpoint: &Checkpoint, names: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    // (stack, parameter within a layer) → the layers that have it
    let mut having: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    let mut stacks: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for name in names {
        let Some((stack, layer, rest)) = split(name) else { continue };
        having.entry((stack, rest)).or_default().insert(layer);
        stacks.entry(stack).or_default().insert(layer);
    }
    if let Some(declared) = checkpoint.config.text_number("num_hidden_layers") {
        for (stack, present) in stacks.iter().filter(|(stack, _)| is_text(stack)) {
            if let Some(missing) = (0..declared.min(100_000)).find(|layer| !present.contains(layer)) {
                let message =
                    format!("config.json says {declared} layers, and {} has none of number {missing}", shown(stack));
                findings.push(Finding::new(&rules::LAYERS_MISSING, message).tensor(&format!("{stack}.{missing}")));
            }
        }
    }
    for ((stack, rest), layers) in &having {
        let all = &stacks[stack];
        // Hybrid models alternate between kinds of layers: only what nearly all have is due in each.
        let lacking = all.len() - layers.len();
        if lacking == 0 || layers.len() < 2 || lacking * 8 > all.len().max(8) {
            continue;
        }
        for layer in all.difference(layers) {
            let name = format!("{stack}.{layer}.{rest}");
            let message = format!("{} is missing, and {} other layers have theirs", shown(&name), layers.len());
            findings.push(Finding::new(&rules::LAYERS_MISSING, message).tensor(&name));
        }
    }
}

fn is_text(stack: &str) -> bool {
    stack.ends_with(".layers") && !models::is_vision(stack) && !stack.contains("mtp")
}

/// `model.layers.3.mlp.up_proj.weight` → (`model.layers`, 3, `mlp.up_proj.weight`); what quantization adds is left out,
/// since layers may differ in that.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    let at = [".layers.", ".blocks."].iter().find_map(|middle| name.find(middle).map(|at| at + middle.len() - 1))?;
    let (stack, rest) = (&name[..at], &name[at + 1..]);
    let (layer, rest) = rest.split_once('.')?;
    let parameter = models::split_name(rest).1;
    matches!(parameter, "weight" | "bias").then_some((stack, layer.parse().ok()?, rest))
}
