//! The model card of an output: the source's, with the metadata that the Hugging Face hub knows quantized models by, and
//! with what was done.

mod front_matter;

use std::collections::BTreeMap;

use crate::checkpoint::model_card::{MODEL_CARD, parts};
use crate::checkpoint::text::{count, decibels, human};
use crate::recipe::ModelCardOptions;

use super::build::Plan;
use super::job::Job;
use super::servers::serving;

/// The words that begin what is added, by which a card of ours is known.
const ADDED: &str = "<!-- added by qwen-fp8; the card of the source follows -->";

/// The most bytes of a recipe that the card shows; the manifest holds any.
const MOST_OF_RECIPE: usize = 64 << 10;

/// Puts the card among the plan's documents, in place of the source's. Where that one is no text, or its front matter is
/// none, it stays a file that is copied.
pub(super) fn add(plan: &mut Plan) {
    let options = &plan.recipe.model_card;
    if options.as_in_source || !plan.jobs.iter().any(|job| matches!(job, Job::Quantize { .. })) {
        return;
    }
    let is_there = plan.checkpoint.side_files.iter().any(|file| file.name == MODEL_CARD);
    let source = plan.checkpoint.card.as_deref();
    if is_there && source.is_none() {
        return;
    }
    let Some(card) = card(plan, options, source.unwrap_or_default(), &[]) else { return };
    plan.checkpoint.side_files.retain(|file| file.name != MODEL_CARD);
    // Before the files that make an output loadable.
    plan.documents.insert(0, (MODEL_CARD.to_owned(), card.into_bytes()));
}

/// The quality of the quantized layers of one kind, as it was measured.
#[derive(Clone, Debug)]
pub struct LayerQuality {
    /// The last part of the modules' names, such as `q_proj`.
    pub kind: String,
    pub weights: u64,
    /// The lowest signal-to-quantization-noise ratio of a weight in decibels; `None` where none has noise.
    pub min_sqnr_db: Option<f64>,
    /// The lowest cosine between a decoded weight and its source.
    pub min_cosine: Option<f64>,
}

/// Returns the card of the plan with a table of what was measured; `None` where the output has no card of ours, or where
/// nothing was measured.
pub fn with_quality(plan: &Plan, quality: &[LayerQuality]) -> Option<String> {
    let has_card = plan.documents.iter().any(|(name, _)| name == MODEL_CARD);
    let source = plan.checkpoint.card.as_deref().unwrap_or_default();
    if has_card && !quality.is_empty() { card(plan, &plan.recipe.model_card, source, quality) } else { None }
}

fn card(plan: &Plan, options: &ModelCardOptions, source: &str, quality: &[LayerQuality]) -> Option<String> {
    let (matter, text) = parts(source);
    let id = plan.checkpoint.model_name().id;
    let base = options.base_model.as_deref().or(id.as_deref());
    let matter = front_matter::with(matter.unwrap_or_default(), base, options.quantized_by.as_deref())?;
    let front = if matter.is_empty() { String::new() } else { format!("---\n{matter}---\n\n") };
    Some(format!("{front}{ADDED}\n\n{}\n{}", done(plan, base, quality), text.trim_start_matches(['\r', '\n'])))
}

/// What was done to the weights, how large they are, how to serve them, and the recipe.
fn done(plan: &Plan, base: Option<&str>, quality: &[LayerQuality]) -> String {
    let from = base.map_or_else(String::new, |base| format!(" from `{base}`"));
    let tensors = plan.shards.iter().flat_map(|shard| &shard.tensors);
    let mut text = format!(
        "> Quantized{from} with `qwen-fp8` {}. `qwen-fp8-manifest.json`, where it is among the files, says what was done to \
         each tensor.\n\n| | source | here |\n|---|---|---|\n| all tensors | {} | {} |\n",
        env!("CARGO_PKG_VERSION"),
        human(plan.source_bytes()),
        human(tensors.map(|tensor| tensor.len).sum()),
    );
    for (rule, weights) in by_rule(plan) {
        let rule = &plan.recipe.rules[rule];
        let options: Vec<String> = rule.options.iter().map(|(option, value)| format!("`{option}: {value}`")).collect();
        let with = if options.is_empty() { String::new() } else { format!(", {}", options.join(", ")) };
        text.push_str(&format!("| {} | quantized | `{}`{with} |\n", count(weights, "weight"), rule.registration.name));
    }
    let is_copied = |job: &&Job| matches!(job, Job::Copy { .. } | Job::PassThrough { .. });
    let copied = plan.jobs.iter().filter(is_copied).count();
    if copied > 0 {
        text.push_str(&format!("| {} | as they are | the same bytes |\n", count(copied, "other tensor")));
    }
    text.push_str(&measured(quality));
    text.push_str(&served(plan));
    let recipe = plan.recipe_text();
    if recipe.len() > MOST_OF_RECIPE {
        return text;
    }
    // A fence longer than any in it.
    let fence = "`".repeat(3.max(1 + recipe.split(|other| other != '`').map(str::len).max().unwrap_or_default()));
    let language = if plan.recipe.text.is_toml() { "toml" } else { "yaml" };
    text.push_str(&format!(
        "\n<details>\n\
         <summary>The recipe</summary>\n\n{fence}{language}\n{}\n{fence}\n\n</details>\n",
        recipe.trim_end()
    ));
    text
}

/// How to serve it: by the servers that are not known to fail.
fn served(plan: &Plan) -> String {
    let serving: Vec<_> = serving(&plan.schemes_used(), &plan.unserved).collect();
    let Some((_, command)) = serving.first() else {
        return "\n`config.json` says how it is quantized; no server is known to load it.\n".to_owned();
    };
    let names: Vec<&str> = serving.iter().map(|(server, _)| *server).collect();
    let see = if names.len() == 1 { "sees" } else { "see" };
    let names = names.join(" and ");
    format!("\n{names} {see} in `config.json` how it is quantized:\n\n```console\n{command} PATH_OR_ID\n```\n")
}

/// The table of what was measured, with what its figures are.
fn measured(quality: &[LayerQuality]) -> String {
    if quality.is_empty() {
        return String::new();
    }
    let rows = quality.iter().map(|layers| {
        let sqnr = decibels(layers.min_sqnr_db);
        let cosine = layers.min_cosine.map_or_else(String::new, |cosine| format!("{cosine:.6}"));
        // A name of the checkpoint: a bar or a backtick would end the cell or the code.
        let kind: String = layers.kind.chars().filter(|c| !"|`".contains(*c) && !c.is_control()).collect();
        format!("| `{kind}` | {} | {sqnr} | {cosine} |\n", layers.weights)
    });
    format!(
        "\nThe decoded weights against those of the source, the worst weight of each kind of layer (signal-to-quantization-noise \
         ratio, and the cosine between both):\n\n| layers | weights | least SQNR | least cosine |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

/// The rules that quantize, each with the number of its weights.
fn by_rule(plan: &Plan) -> BTreeMap<usize, usize> {
    let mut rules = BTreeMap::new();
    for job in &plan.jobs {
        if let Job::Quantize { rule, .. } = job {
            *rules.entry(*rule).or_default() += 1;
        }
    }
    rules
}
