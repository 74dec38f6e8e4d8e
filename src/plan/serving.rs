//! What vLLM, SGLang and transformers refuse or, worse, load silently wrong, found before anything is written.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Format, Strategy};

use crate::checkpoint::{Checkpoint, Tensor};
use crate::finding::Finding;
use crate::layer::{self, LayerKind};
use crate::recipe::Recipe;

use super::format::WireFormat;
use super::modules::{Modules, Quantized, same};
use super::resolve::count;
use super::{Decision, Job};

/// The parts that servers merge into one layer, which therefore has one scheme.
const FUSED: &[&[&str]] = &[
    &["q_proj", "k_proj", "v_proj"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
    &["in_proj_qkv", "in_proj_z"],
    &["in_proj_a", "in_proj_b"],
];

/// All that the rules look at.
pub(super) struct Served<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) decisions: &'a [Decision],
    pub(super) jobs: &'a [Job],
    pub(super) modules: &'a Modules<'a>,
    pub(super) wire: &'static dyn WireFormat,
}

/// Every serving rule that the plan breaks.
pub(super) fn check(served: &Served<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if served.modules.quantized.is_empty() {
        return findings;
    }
    format_holds_schemes(served, &mut findings);
    vision_stays(served, &mut findings);
    kinds_that_servers_build_unquantized(served, &mut findings);
    fused_parts_agree(served, &mut findings);
    experts_agree(served, &mut findings);
    stacked_experts(served, &mut findings);
    blocks_fit(served, &mut findings);
    head_is_there(served, &mut findings);
    list_hits_no_quantized_module(served, &mut findings);
    findings
}

fn format_holds_schemes(served: &Served<'_>, findings: &mut Vec<Finding>) {
    for rule in &served.recipe.rules {
        let Some(scheme) = rule.scheme.as_deref() else { continue };
        if let Err(refusal) = served.wire.admits(scheme) {
            findings.push(Finding::error(refusal.reason).at(rule.span.clone()).label(&rule.label).help(refusal.help));
        }
    }
    if served.recipe.format == Format::Fp8 {
        let groups = served.modules.groups();
        if let [(_, first), (_, second), ..] = &groups[..] {
            findings.push(
                Finding::error("`format: fp8` describes one scheme for all layers, and this plan has several")
                    .label(format!("`{}` and `{}` differ", first[0].escape_debug(), second[0].escape_debug()))
                    .help("use `format: compressed-tensors`, or one scheme"),
            );
        }
    }
}

fn vision_stays(served: &Served<'_>, findings: &mut Vec<Finding>) {
    by_rule(
        served,
        findings,
        |module| layer::is_vision(module.tensor.module()),
        |n, example| {
            Finding::error(format!("{} of the vision tower would be quantized, such as `{example}`", count(n, "layer")))
            .help("SGLang builds the tower in BF16 and would load FP8 bytes without their scales: keep it with a rule before this one")
            .help("  - {scheme: PASSTHROUGH, targets: [\"re:.*visual.*\"], optional: true}")
        },
    );
}

fn kinds_that_servers_build_unquantized(served: &Served<'_>, findings: &mut Vec<Finding>) {
    by_rule(
        served,
        findings,
        |module| module.tensor.kind() == LayerKind::Router,
        |n, example| {
            Finding::error(format!("{} would be quantized, such as `{example}`", count(n, "router")))
                .help("servers keep routers in BF16: take the name out of this rule's targets")
        },
    );
    by_rule(
        served,
        findings,
        |module| matches!(module.tensor.kind(), LayerKind::Embedding | LayerKind::PositionEmbedding),
        |_, example| {
            Finding::error(format!("the embedding `{example}` would be quantized"))
                .help("no server reads a quantized embedding: take the name out of this rule's targets")
        },
    );
    let tied = served.checkpoint.config.tie_word_embeddings() == Some(true);
    by_rule(
        served,
        findings,
        |module| module.tensor.kind() == LayerKind::LmHead,
        |_, example| {
            let finding = Finding::error(format!("`{example}` would be quantized"));
            match served.recipe.format {
                Format::Fp8 => finding
                    .label("`format: fp8` never loads a quantized head")
                    .help("keep it with a rule before this one: `{scheme: PASSTHROUGH, targets: [lm_head]}`"),
                Format::CompressedTensors if tied => finding
                    .label("config.json ties it to the embedding, which stays BF16")
                    .help("keep it with a rule before this one: `{scheme: PASSTHROUGH, targets: [lm_head]}`"),
                // Served by vLLM through the group's `re:.*lm_head` target.
                Format::CompressedTensors => Finding::warning(finding.message).help("vLLM serves it; SGLang does not"),
            }
        },
    );
}

fn fused_parts_agree(served: &Served<'_>, findings: &mut Vec<Finding>) {
    let mut layers: BTreeMap<(&str, usize), Vec<(&Tensor, Option<&Quantized<'_>>)>> = BTreeMap::new();
    each_weight(served, |tensor, quantized| {
        let (parent, last) = layer::split_name(tensor.module());
        if let Some(set) = FUSED.iter().position(|set| set.contains(&last)) {
            layers.entry((parent, set)).or_default().push((tensor, quantized));
        }
    });
    report_disagreement(served, layers.into_values(), "are one layer to a server and must have one scheme", findings);
}

fn experts_agree(served: &Served<'_>, findings: &mut Vec<Finding>) {
    let mut layers: BTreeMap<&str, Vec<(&Tensor, Option<&Quantized<'_>>)>> = BTreeMap::new();
    each_weight(served, |tensor, quantized| {
        if let Some((layer, _)) = tensor.module().split_once(".experts.") {
            layers.entry(layer).or_default().push((tensor, quantized));
        }
    });
    report_disagreement(served, layers.into_values(), "are experts of one layer and must have one scheme", findings);
}

fn report_disagreement<'a>(
    served: &Served<'_>,
    layers: impl Iterator<Item = Vec<(&'a Tensor, Option<&'a Quantized<'a>>)>>,
    why: &str,
    findings: &mut Vec<Finding>,
) {
    let mut differing = layers.filter_map(|parts| {
        let first = parts[0];
        let other = parts.iter().copied().find(|part| match (first.1, part.1) {
            (Some(a), Some(b)) => !same(a.scheme, b.scheme),
            (a, b) => a.is_some() != b.is_some(),
        })?;
        Some((first, other))
    });
    let Some((first, other)) = differing.next() else { return };
    let more = differing.count();
    let taken = first.1.or(other.1);
    let says = |part: (&Tensor, Option<&Quantized<'_>>)| {
        let how = part
            .1
            .map_or_else(|| "stays as it is".to_owned(), |q| format!("goes to {}", served.recipe.rules[q.rule].label));
        format!("`{}` {how}", part.0.module().escape_debug())
    };
    let mut finding = Finding::error(format!("{}, {}: they {why}", says(first), says(other)));
    if more > 0 {
        finding = finding.label(format!("and in {} more", count(more, "layer")));
    }
    if let Some(taken) = taken {
        finding = finding.at(served.recipe.rules[taken.rule].targets[taken.target].span.clone());
    }
    findings.push(finding.help("give all of them to one rule"));
}

/// Stacked experts are not quantized; a server must be told, and the user must have said so.
fn stacked_experts(served: &Served<'_>, findings: &mut Vec<Finding>) {
    let mut silent = served
        .checkpoint
        .tensors
        .iter()
        .zip(served.decisions)
        .filter(|(tensor, decision)| tensor.kind() == LayerKind::Experts && decision.rule.is_none());
    if let Some((tensor, _)) = silent.next() {
        findings.push(
            Finding::error(format!(
                "{} of fused experts would stay as they are, such as `{}`",
                count(silent.count() + 1, "tensor"),
                tensor.name.escape_debug()
            ))
            .help("three-dimensional experts are not split by this version; to keep them in BF16, say so:")
            .help("  - {scheme: PASSTHROUGH, targets: [Experts]}"),
        );
    }
}

fn blocks_fit(served: &Served<'_>, findings: &mut Vec<Finding>) {
    let block = |module: &Quantized<'_>| match module.scheme.weights().strategy {
        Strategy::Block(block) => block,
        _ => [1, 1],
    };
    let ragged = |module: &Quantized<'_>| {
        let (shape, block) = (&module.tensor.shape, block(module));
        // A layer of fewer rows than a block has one scale, which every server reads alike.
        !shape[1].is_multiple_of(block[1]) || (shape[0] > block[0] && !shape[0].is_multiple_of(block[0]))
    };
    by_rule(served, findings, ragged, |n, example| {
        let module = served.modules.quantized.iter().find(|module| module.tensor.module() == example);
        let (shape, block) = module.map_or((&[][..], [128, 128]), |module| (&module.tensor.shape[..], block(module)));
        Finding::error(format!("{} cut a block short, such as `{example}` with shape {shape:?}", count(n, "layer")))
            .help(format!("vLLM fails on columns that are no multiple of {}, transformers reads such rows wrong", block[1]))
            .help(format!("keep them with a rule before this one: `{{scheme: PASSTHROUGH, targets: [\"{example}\"]}}`, or drop `block_size`"))
    });
}

fn head_is_there(served: &Served<'_>, findings: &mut Vec<Finding>) {
    let has_head = served.checkpoint.tensors.iter().any(|tensor| tensor.kind() == LayerKind::LmHead);
    let generates = served
        .checkpoint
        .config
        .architectures()
        .iter()
        .any(|name| name.ends_with("ForCausalLM") || name.ends_with("ForConditionalGeneration"));
    if !has_head && generates && served.checkpoint.config.tie_word_embeddings() == Some(false) {
        findings.push(
            Finding::error("config.json says `tie_word_embeddings: false`, and the checkpoint has no `lm_head.weight`")
                .help("vLLM would load it with an uninitialised head: get the missing shard, or correct config.json"),
        );
    }
}

/// transformers matches a list entry as a prefix or suffix of a name, and would then read FP8 bytes as weights.
fn list_hits_no_quantized_module(served: &Served<'_>, findings: &mut Vec<Finding>) {
    if served.recipe.format != Format::Fp8 {
        return;
    }
    for module in &served.modules.quantized {
        let name = module.tensor.module();
        if let Some(entry) =
            served.modules.kept().iter().find(|entry| name.starts_with(**entry) || name.ends_with(**entry))
        {
            findings.push(
                Finding::error(format!(
                    "`{}` is quantized, and the list entry `{entry}` hits it in transformers",
                    name.escape_debug()
                ))
                .help("transformers matches entries as prefixes and suffixes: use `format: compressed-tensors`"),
            );
            return;
        }
    }
}

/// One finding per rule for all the modules of it that `wrong` picks.
fn by_rule(
    served: &Served<'_>,
    findings: &mut Vec<Finding>,
    wrong: impl Fn(&Quantized<'_>) -> bool,
    finding: impl Fn(usize, &str) -> Finding,
) {
    let mut found: BTreeMap<usize, (usize, &Quantized<'_>)> = BTreeMap::new();
    for module in served.modules.quantized.iter().filter(|module| wrong(module)) {
        found.entry(module.rule).or_insert((0, module)).0 += 1;
    }
    for (rule, (n, example)) in found {
        let target = &served.recipe.rules[rule].targets[example.target];
        let name = example.tensor.module().escape_debug().to_string();
        findings.push(finding(n, &name).at(target.span.clone()));
    }
}

/// Calls `visit` with every linear weight and the scheme that takes it, if one does.
fn each_weight<'a>(served: &Served<'a>, mut visit: impl FnMut(&'a Tensor, Option<&'a Quantized<'a>>)) {
    let quantized: BTreeMap<&str, &Quantized<'_>> =
        served.modules.quantized.iter().map(|module| (module.tensor.name.as_str(), module)).collect();
    for (tensor, job) in served.checkpoint.tensors.iter().zip(served.jobs) {
        match job {
            Job::Quantize { .. } => visit(tensor, quantized.get(tensor.name.as_str()).copied()),
            Job::Copy { .. } if tensor.kind() == LayerKind::Linear => visit(tensor, None),
            Job::Copy { .. } => {}
        }
    }
}
