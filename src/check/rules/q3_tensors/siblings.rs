//! Q310 to Q312: heads, layers and parts of fused layers that are missing, as what stands beside them shows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::decode::is_packed_codes;
use crate::report::Severity::{Error, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::models::{self, LayerKind, Model, Part};
use qwen_fp8_checkpoint::text::{count, shown};

// Seen in vLLM 0.26 and 0.33: an untied model without a head loads. A tied one with a stored head loads as well.
pub(crate) static NO_HEAD: LintRule = LintRule {
    code: "Q310",
    name: "no-head",
    severity: Error,
    strict: Error,
    title: "The embeddings are not tied, and `lm_head.weight` is missing.",
    why: "vLLM loads an uninitialised head and reports no error.",
};

// The check for uninitialised weights, which would catch it, runs only for models that are not quantized.
pub(crate) static FUSED_MISSING: LintRule = LintRule {
    code: "Q311",
    name: "fused-part-missing",
    severity: Error,
    strict: Error,
    title: "A part of a layer that servers fuse is missing.",
    why: "That part of the fused layer stays uninitialised: for quantized models vLLM does not check it.",
};

// Shards that were lost on the way, or a conversion that stopped: the index may be whole all the same.
pub(crate) static LAYERS_MISSING: LintRule = LintRule {
    code: "Q312",
    name: "layers-missing",
    severity: Error,
    strict: Error,
    title: "A layer or an expert has no tensors, or lacks one that most of its siblings have.",
    why: "What is missing stays uninitialised: for quantized models vLLM does not check it.",
};

/// Checks that nothing is missing which the rest of the checkpoint calls for.
pub(crate) fn check(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    head(checkpoint, findings);
    let names: Vec<Cow<'_, str>> = checkpoint.tensors.iter().map(|tensor| unpacked(&tensor.name)).collect();
    let names: BTreeSet<&str> = names.iter().map(|name| &**name).collect();
    fused_parts(&checkpoint.model, &names, findings);
    layers(checkpoint, &names, findings);
}

/// Makes warnings of the parts and layers that the result's source lacks too: nothing of them was lost on the way.
pub(crate) fn allow_for_source(findings: &mut [Finding], is_lacked_by_source: impl Fn(&str) -> bool) {
    let of_siblings = findings.iter_mut().filter(|finding| [&FUSED_MISSING, &LAYERS_MISSING].contains(&finding.rule));
    for finding in of_siblings {
        if finding.place.tensor.as_deref().is_some_and(&is_lacked_by_source) {
            finding.severity = Warning;
            finding.help = "the source lacks it too, as the manifest says".into();
        }
    }
}

/// Reports a head that is missing in a model which generates text and does not tie it to the embedding.
fn head(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    let has_head =
        checkpoint.tensors.iter().any(|tensor| tensor.kind() == LayerKind::LmHead || tensor.module() == "lm_head");
    // Embedding and reranking models have no head.
    let generates = checkpoint
        .config
        .architectures()
        .iter()
        .any(|name| name.ends_with("ForCausalLM") || name.ends_with("ForConditionalGeneration"));
    if !has_head && generates && checkpoint.config.tie_word_embeddings() == Some(false) {
        let message = "`tie_word_embeddings` is false, and there is no `lm_head.weight`";
        findings.push(Finding::new(&NO_HEAD, message).file("config.json"));
    }
}

/// Returns the name that a weight has when its codes are not packed under another name.
pub(super) fn unpacked(name: &str) -> Cow<'_, str> {
    let (module, parameter) = models::split_name(name);
    if is_packed_codes(parameter) { Cow::Owned(format!("{module}.weight")) } else { Cow::Borrowed(name) }
}

/// Returns the end of a weight's name: `mlp.gate_proj.weight`.
fn parent_and_part(name: &str) -> &str {
    name.rmatch_indices('.').nth(2).map_or(name, |(at, _)| &name[at + 1..])
}

/// Reports the missing one of two parts that a server needs both.
fn fused_parts(model: &Model, names: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    // Which layers a family has that nobody knows, its own tensors say: MLPs without a gate are common.
    let is_unknown = model.family().is_none();
    let has_any: BTreeSet<&str> = names.iter().filter(|_| is_unknown).map(|name| parent_and_part(name)).collect();
    for name in names {
        let Some((parent, part)) = name.strip_suffix(".weight").map(models::split_name) else { continue };
        let Some(fused) = model.fused(&format!("{parent}.{part}")) else { continue };
        if !fused.needed_together.iter().any(|needed| needed == part) {
            continue;
        }
        let modules = fused.needed_together.iter().map(|needed| format!("{parent}.{needed}"));
        let weights = modules.filter(|module| !model.may_lack(module)).map(|module| format!("{module}.weight"));
        let is_due = |weight: &String| !is_unknown || has_any.contains(parent_and_part(weight));
        for missing in weights.filter(|weight| !names.contains(weight.as_str()) && is_due(weight)) {
            let message = format!("{} is there, and {} is missing", shown(name), shown(&missing));
            findings.push(Finding::new(&FUSED_MISSING, message).tensor(&missing));
        }
    }
}

/// Reports layers of a stack that lack what nearly all others have.
fn layers(checkpoint: &Checkpoint, names: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    // stack → layer → the parameters that it has
    let mut stacks: BTreeMap<&str, BTreeMap<u64, BTreeSet<&str>>> = BTreeMap::new();
    for name in names {
        let Some((stack, layer, rest)) = split(name) else { continue };
        stacks.entry(stack).or_default().entry(layer).or_default().insert(rest);
    }
    if let Some(declared) = checkpoint.config.text_number("num_hidden_layers") {
        // A bound on a number from a file, far beyond any model.
        const MOST_LAYERS: u64 = 100_000;
        // A model may have further stacks beside the language model's, of other lengths.
        let texts = stacks.iter().filter(|(stack, _)| is_text(&checkpoint.model, stack));
        if let Some((stack, present)) = texts.max_by_key(|(_, layers)| layers.len())
            && let Some(missing) = (0..declared.min(MOST_LAYERS)).find(|layer| !present.contains_key(layer))
            && !checkpoint.model.may_lack(&format!("{stack}.{missing}"))
        {
            let declared = count(declared as usize, "layer");
            let message = format!("config.json declares {declared}, and {} has no layer {missing}", shown(stack));
            findings.push(Finding::new(&LAYERS_MISSING, message).tensor(&format!("{stack}.{missing}")));
        }
    }
    for (stack, layers) in &stacks {
        for (all, of_kind) in kinds(layers) {
            for rest in all {
                let lacking = of_kind.iter().filter(|layer| !layers[layer].contains(rest));
                let lacking: Vec<u64> = lacking.copied().collect();
                let having = of_kind.len() - lacking.len();
                // Only what nearly all layers of a kind have is due in each.
                if having < 2 || lacking.len() * 8 > of_kind.len().max(8) {
                    continue;
                }
                for layer in lacking {
                    let name = format!("{stack}.{layer}.{rest}");
                    if checkpoint.model.may_lack(models::split_name(&name).0) {
                        continue;
                    }
                    let message = format!("{} is missing, and {having} other layers have theirs", shown(&name));
                    findings.push(Finding::new(&LAYERS_MISSING, message).tensor(&name));
                }
            }
        }
    }
}

/// The layers of a stack by kind: the parameters that a whole layer of the kind has, and the layers that have these or
/// some of them.
///
/// Hybrid models alternate between kinds of layers, such as attention and GDN, and layers of experts follow dense ones:
/// a layer that has what the others have not is of another kind, and lacks nothing.
fn kinds<'n>(layers: &BTreeMap<u64, BTreeSet<&'n str>>) -> Vec<(BTreeSet<&'n str>, Vec<u64>)> {
    let mut alike: BTreeMap<&BTreeSet<&str>, Vec<u64>> = BTreeMap::new();
    for (layer, parameters) in layers {
        alike.entry(parameters).or_default().push(*layer);
    }
    let mut forms: Vec<&BTreeSet<&'n str>> = layers.values().collect::<BTreeSet<_>>().into_iter().collect();
    // Larger forms first, so that each is held against those alone that may hold it; of several the smallest does.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    let mut kinds: Vec<(BTreeSet<&'n str>, Vec<u64>)> = Vec::new();
    for form in forms {
        let of_form = alike.get(form).cloned().unwrap_or_default();
        match kinds.iter_mut().rev().find(|(whole, _)| form.is_subset(whole)) {
            Some((_, of_kind)) => of_kind.extend(of_form),
            None => kinds.push((form.clone(), of_form)),
        }
    }
    kinds
}

/// Reports whether a stack is the language model's: `num_hidden_layers` says nothing of towers and MTP layers.
fn is_text(model: &Model, stack: &str) -> bool {
    (stack == "layers" || stack.ends_with(".layers")) && model.part(stack).is_none_or(|part| part == Part::Decoder)
}

/// Splits `model.layers.3.mlp.up_proj.weight` into (`model.layers`, 3, `mlp.up_proj.weight`). `None` for quantization
/// tensors, since layers may differ in these.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    let dot_after = |middle: &str| Some(name.find(middle)? + middle.len() - 1);
    // DeepSeek-V4's names have nothing before.
    let at_start = name.starts_with("layers.").then_some("layers".len());
    let at = at_start.or_else(|| [".layers.", ".blocks."].into_iter().find_map(dot_after))?;
    let (stack, rest) = (&name[..at], &name[at + 1..]);
    let (layer, rest) = rest.split_once('.')?;
    let parameter = models::split_name(rest).1;
    matches!(parameter, "weight" | "bias").then_some((stack, layer.parse().ok()?, rest))
}
