//! The recipe's text: what the checkpoint holds as comments, and the rules.

use std::collections::BTreeSet;
use std::path::Path;

use crate::checkpoint::config::Config;
use crate::checkpoint::models::catalogue::{KnownScales, ListFormat};
use crate::checkpoint::models::{self, LayerKind, Model, Part};
use crate::checkpoint::text::{count, human, unquoted};
use crate::plan::summary::Summary;
use crate::plan::{PlannedInput, never_loaded_apart, patterns, quoted};

use super::layers::{Layers, RowsBecause, Why};
use super::request::{DraftGranularity, Request};

/// The comments above the recipe.
pub(super) fn head(holds: &str, summary: &Summary, schema: Option<&str>) -> String {
    let modeline = schema.map_or_else(String::new, |schema| format!("# yaml-language-server: $schema={schema}\n#\n"));
    format!(
        "{modeline}{holds}\
         # The weights take {} now, and {} quantized: `qwen-fp8 plan` shows every tensor.\n",
        human(summary.source_bytes),
        human(summary.output_bytes),
    )
}

/// The model and the layers that no rule has to name, a comment each.
pub(super) fn what_it_holds(config: &Config, inputs: &[PlannedInput], layers: &Layers<'_>) -> String {
    let class = config.architectures().into_iter().next().or_else(|| config.model_type()).unwrap_or_default();
    let mut text = match layers.family {
        Some(family) => format!("# {family} ({}).", unquoted(&class)),
        None => format!(
            "# {}: no family that is known here. Only layers whose names say what they are get quantized;\n\
             # whether a server runs the result is yours to find out.",
            unquoted(&class)
        ),
    };
    let number = |kind| inputs.iter().filter(|tensor| tensor.kind() == kind).count();
    let kinds = [
        (LayerKind::Router, "router"),
        (LayerKind::Norm, "norm"),
        (LayerKind::Embedding, "token embedding"),
        (LayerKind::PositionEmbedding, "position embedding"),
        (LayerKind::Conv, "convolution"),
    ];
    let mut stay: Vec<String> = kinds
        .iter()
        .map(|&(kind, noun)| (number(kind), noun))
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| count(n, noun))
        .collect();
    let head = match (number(LayerKind::LmHead), config.tie_word_embeddings()) {
        (0, _) => "the output head is the token embedding",
        (_, Some(true)) => "so does the output head, which `config.json` ties to the embedding",
        _ => "so does the output head",
    };
    text.push_str("\n# `Linear` takes none of these, and they stay unquantized:\n");
    if stay.is_empty() {
        stay.push("no other layers".to_owned());
    }
    text.push_str(&format!("# {}; {head}.\n", stay.join(", ")));
    text
}

/// The recipe without the comments above it.
pub(super) fn body(
    dir: &Path,
    model: &Model,
    inputs: &[PlannedInput],
    layers: &Layers<'_>,
    request: &Request,
) -> String {
    let not_loaded =
        model.not_loaded(ListFormat::Fp8, KnownScales::Block).find(|not| not.layers.is_empty() && not.format.is_some());
    let elsewhere = not_loaded.map(|not| {
        format!("compressed-tensors # {} loads no blocks in `format: fp8` for this model.", unquoted(&not.server))
    });
    let (format, suffix) = match layers.granularity {
        DraftGranularity::Block if elsewhere.is_some() => (elsewhere.as_deref().unwrap_or_default(), "FP8-block"),
        DraftGranularity::Block => ("fp8 # The layout of the official Qwen checkpoints.", "FP8"),
        DraftGranularity::Channel => ("compressed-tensors # llm-compressor's layout.", "FP8-per-channel"),
    };
    let output = format!("{}-{suffix}", base_name(dir, &request.model));
    opening(&request.model, &output, format, layers) + &kept_layers(model, inputs, layers) + &quantizing_rule(layers)
}

/// All that stands above the rules.
pub(super) fn opening(model: &str, output: &str, format: &str, layers: &Layers<'_>) -> String {
    format!(
        "version: 1\nmodel: {}\noutput: {}\nformat: {format}\n{}\
         rules: # The first rule that takes a tensor decides; what no rule takes stays unquantized.\n",
        scalar(model),
        scalar(output),
        split_experts(layers),
    )
}

/// The rules for layers that stay unquantized, and why.
pub(super) fn kept_layers(model: &Model, inputs: &[PlannedInput], layers: &Layers<'_>) -> String {
    let mut text = String::new();
    for (&why, modules) in &layers.unquantized {
        let modules: Vec<&str> = modules.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let n = count(modules.len(), "linear layer");
        text.push_str(&passthrough(&reason(why, &n, layers), &targets(model, inputs, why, &modules)));
    }
    text.push_str(&stacked_experts(model, layers));
    text
}

fn reason(why: Why, n: &str, layers: &Layers<'_>) -> String {
    match why {
        Why::Part(Part::NextTokens) => {
            format!("{n} for predicting further tokens: servers build some of them in BF16.")
        }
        Why::Part(Part::Outside) => format!("{n} outside of the language model's layers."),
        Why::Part(Part::FewRows) => {
            format!("{n} with a few rows for each head of linear attention: official models keep them.")
        }
        Why::Part(Part::Unrecognized) => {
            format!("{n} of which nothing is known: name them in a rule of their own to have them quantized.")
        }
        Why::Part(part) => format!("{n} {}: {}.", part.place(), part.why()),
        Why::Misfit => {
            let shapes: Vec<String> = layers.cut.iter().take(3).map(|shape| format!("{shape:?}")).collect();
            let more = if layers.cut.len() > shapes.len() { " and others" } else { "" };
            let rest = if layers.draws_along { ", and servers fuse the rest with those" } else { "" };
            format!(
                "{n}: blocks of 128 do not fit {}{more}{rest}.\n  \
                 # They stay; `qwen-fp8 init --scheme channel` writes a recipe that quantizes them too.",
                shapes.join(", ")
            )
        }
    }
}

fn targets(model: &Model, inputs: &[PlannedInput], why: Why, modules: &[&str]) -> Vec<String> {
    match why {
        Why::Part(Part::Vision) => {
            let towers: BTreeSet<&str> = modules.iter().filter_map(|module| model.part_word(module)).collect();
            // A file may name a tower by more than a word of it.
            let others: Vec<&str> =
                modules.iter().copied().filter(|module| model.part_word(module).is_none()).collect();
            let towers = towers.into_iter().map(|tower| format!("re:.*{tower}.*"));
            towers.chain(patterns(&others, inputs)).collect()
        }
        Why::Part(Part::NextTokens) => {
            let parts: BTreeSet<&str> = modules.iter().filter_map(|module| models::mtp_part(module)).collect();
            let others: Vec<&str> =
                modules.iter().copied().filter(|module| models::mtp_part(module).is_none()).collect();
            let parts = parts.into_iter().map(|part| format!(r"re:{}\..*", regex::escape(part)));
            parts.chain(patterns(&others, inputs)).collect()
        }
        _ => patterns(modules, inputs),
    }
}

/// A rule that leaves unquantized what these patterns match.
pub(super) fn passthrough(reason: &str, targets: &[String]) -> String {
    let mut text = format!("  # {reason}\n  - scheme: PASSTHROUGH\n    targets:\n");
    for target in targets {
        text.push_str(&format!("      - {}\n", visible(target)));
    }
    text
}

fn split_experts(layers: &Layers<'_>) -> String {
    match layers.split {
        0 => String::new(),
        stacks => {
            format!("experts: split # {} of experts, one by one: as servers load them.\n", count(stacks, "stack"))
        }
    }
}

fn stacked_experts(model: &Model, layers: &Layers<'_>) -> String {
    let Some(first) = layers.stacked.first() else { return String::new() };
    let why = match never_loaded_apart(model, &first.name) {
        Some(not) => format!("which stay. {}: {}", unquoted(&not.server), unquoted(&not.because)),
        None => "in a layout that is not known".to_owned(),
    };
    let bytes = layers.stacked.iter().map(|tensor| tensor.len).sum();
    let reason = format!(
        "{} of experts stacked in three dimensions, {}, {why}.",
        count(layers.stacked.len(), "tensor"),
        human(bytes)
    );
    passthrough(&reason, &[LayerKind::Experts.name().to_owned()])
}

fn quantizing_rule(layers: &Layers<'_>) -> String {
    let n = count(layers.taken, "linear layer");
    let (what, option) = match layers.granularity {
        DraftGranularity::Block => ("one scale for each block of 128 x 128", "    block_size: 128\n"),
        DraftGranularity::Channel => ("one scale per row", ""),
    };
    let because = match layers.rows_because {
        None => String::new(),
        Some(RowsBecause::Misfits) => "\n  # Blocks of 128 do not fit most of them, hence rows.".to_owned(),
        Some(RowsBecause::MustBeQuantized(module)) => {
            format!("\n  # Blocks of 128 do not fit {}, and no list lets vLLM leave it: hence rows.", unquoted(module))
        }
        Some(RowsBecause::NotLoaded(not)) => {
            format!("\n  # Rows, since {} loads no blocks for this model.", unquoted(&not.server))
        }
    };
    format!(
        "  # {n} of the language model: FP8 with {what}.{because}\n  - scheme: FP8_DYNAMIC\n{option}    targets: Linear\n"
    )
}

/// The name that the output's is made from: the last part of the model's name, else of its directory.
pub(super) fn base_name(dir: &Path, model: &str) -> String {
    let trimmed = model.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or(trimmed);
    // A revision follows `@`.
    let last = last.split('@').next().unwrap_or(last);
    if !matches!(last, "" | "." | "..") {
        return last.to_owned();
    }
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A string as YAML reads it back, plain where that is safe.
pub(super) fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.'))
        && text.contains(['/', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-@".contains(c));
    if is_plain { text.to_owned() } else { visible(text) }
}

/// A string in quotes, with an escape for all that a terminal would act on or not show.
pub(super) fn visible(text: &str) -> String {
    // `escape_debug` leaves one character of what can be seen, and a quote or backslash behind a backslash.
    let is_seen = |c: char| c.escape_debug().count() == 1 || matches!(c, '"' | '\'' | '\\');
    if text.chars().all(is_seen) {
        return quoted(text);
    }
    let inner: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if is_seen(c) => c.to_string(),
            c => format!("\\U{:08x}", u32::from(c)),
        })
        .collect();
    format!("\"{inner}\"")
}
