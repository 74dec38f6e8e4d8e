//! A plan and how it is built: inputs, decisions, layout, serving rules, documents.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Format, NumberKind, Registration, Scheme};
use serde_json::{Number, Value};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Config;
use crate::checkpoint::layout::{ShardLayout, index_json};
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{ExpertsPolicy, NonFinitePolicy, Recipe, ServingPolicy};

use super::inputs::Prepared;
use super::job::{Decision, Job};
use super::kv_cache::{SourceCache, WrittenConfig};
use super::modules::{Modules, Quantized};
use super::planned_input::PlannedInput;
use super::resolve::Resolved;
use super::served::Served;
use super::stays::{Stays, WhyStays};
use super::tensor_parallel::{self, Alignment};
use super::{
    adapters, format, fused, inputs, kept_config, known, kv_cache, non_finite, output, requantized, resolve, serving,
};

/// Everything that a run needs to know, fixed before the first byte is read or written.
#[derive(Debug)]
pub struct Plan {
    pub recipe: Recipe,
    /// The source as it is stored.
    pub checkpoint: Checkpoint,
    /// The checkpoint's tensors as the rules ask for them, in its order.
    pub inputs: Vec<PlannedInput>,
    /// One per input, in their order.
    pub decisions: Vec<Decision>,
    /// One per input, in their order.
    pub jobs: Vec<Job>,
    /// The output's safetensors files.
    pub shards: Vec<ShardLayout>,
    /// Output files other than shards and copies, in the order in which they are written: the model card, the index, then
    /// `config.json`.
    pub documents: Vec<(String, Vec<u8>)>,
    /// The tensor parallel sizes, and which of them the result can be served with.
    pub alignments: Vec<Alignment>,
    /// Servers whose class for this model cannot load the result, by their names.
    pub unserved: BTreeMap<String, String>,
    /// Warnings, which stop nothing.
    pub warnings: Vec<Diagnostic>,
    /// Notes of what the result is right for, and something else is not, and of what stays unquantized unasked, unless
    /// that is most of the weights.
    pub notes: Vec<Diagnostic>,
    /// Why inputs stay unquantized that no rule takes.
    pub stays: Stays,
}

/// A recipe and a checkpoint that do not go together.
#[derive(Debug)]
pub struct Refused {
    /// The recipe whose text the diagnostics point into.
    pub recipe: Recipe,
    /// Errors and warnings, in the order in which they were found.
    pub diagnostics: Vec<Diagnostic>,
}

impl Plan {
    /// Plans what `recipe` does to the weights of `checkpoint` and to its config.
    ///
    /// # Errors
    /// All that is wrong: patterns that match nothing, tensors that cannot take their scheme, serving rules broken.
    pub(super) fn of_weights(recipe: Recipe, checkpoint: Checkpoint) -> Result<Self, Box<Refused>> {
        let mut diagnostics = Vec::new();
        diagnostics.extend(non_finite::refusals(&recipe));
        let decided = decide(&recipe, &checkpoint, &mut diagnostics);
        let (Prepared { mut inputs, stacked }, Resolved { decisions, misfits }) = match decided {
            Ok(decided) => decided,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return Err(Box::new(Refused { recipe, diagnostics }));
            }
        };
        let stays = Stays { stacked, misfits };
        diagnostics.extend(adapters::attach(&recipe, &checkpoint, &mut inputs));
        diagnostics.extend(requantized::refusals(&recipe, &checkpoint, &inputs, &decisions, &stays));
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        // Serving rules come after the layout: they are about modules and names of the output, which a plan that cannot
        // be laid out does not have.
        let wire = format::wire_format(recipe.format);
        let (jobs, shards) = output::lay_out(&recipe, &checkpoint, &inputs, &decisions, wire, &mut diagnostics);
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        if let Some(diagnostic) = adapters::refusals(&inputs, &jobs) {
            diagnostics.push(diagnostic);
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        let modules = Modules::of(&recipe, &checkpoint.model, &inputs, &decisions, &jobs);
        let served = Served {
            source: &checkpoint.dir,
            recipe: &recipe,
            config: &checkpoint.config,
            model: &checkpoint.model,
            inputs: &inputs,
            decisions: &decisions,
            modules: &modules,
        };
        let not_loaded = known::not_loaded(&served);
        let unserved = known::unserved(&checkpoint.model, &not_loaded);
        let policy = recipe.serving;
        diagnostics
            .extend(serving::check(&served, &not_loaded).into_iter().map(|diagnostic| under(policy, diagnostic)));
        if modules.quantized.is_empty() && checkpoint.quantized.is_none() && checkpoint.adapters.is_empty() {
            diagnostics.push(Diagnostic::warning("no tensor is quantized: the output is a copy of the checkpoint"));
        }
        let alignments = tensor_parallel::alignments(
            modules.quantized.iter().map(|module| (module.input, module.form.weights.strategy)),
            tensor_parallel::Heads::of(&checkpoint.config, &checkpoint.model),
        );
        let keeps_config = kept_config::is_kept(&inputs, &jobs);
        if keeps_config {
            diagnostics.extend(kept_config::refusals(&recipe, &inputs, &decisions, &jobs, &modules));
        }
        let source_cache = SourceCache::of(&checkpoint.config);
        let config = if modules.quantized.is_empty() {
            match checkpoint.quantized {
                Some(_) if !keeps_config => checkpoint.config.without_quantization_config(),
                _ => checkpoint.config.text(),
            }
        } else {
            let mut quantization_config = wire.quantization_config(&modules);
            kv_cache::put(&recipe, &source_cache, &mut quantization_config);
            with_known_keys(&checkpoint, &modules).with_quantization_config(&quantization_config)
        };
        let written = match (modules.quantized.is_empty(), keeps_config) {
            (false, _) => WrittenConfig::New,
            (true, true) => WrittenConfig::Kept,
            (true, false) => WrittenConfig::None,
        };
        diagnostics.extend(kv_cache::check(&recipe, &source_cache, &inputs, written));
        drop(modules);
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        diagnostics.extend(stays.notes(&recipe, &inputs, &decisions));
        let mut documents = Vec::new();
        if shards.len() > 1 {
            documents.push(("model.safetensors.index.json".to_owned(), index_json(&shards).into_bytes()));
        }
        documents.push(("config.json".to_owned(), config.into_bytes()));
        let (notes, warnings) = diagnostics.into_iter().partition(|diagnostic| diagnostic.level == Level::Note);
        Ok(Self {
            recipe,
            checkpoint,
            inputs,
            decisions,
            jobs,
            shards,
            documents,
            alignments,
            unserved,
            warnings,
            notes,
            stays,
        })
    }

    /// Returns the errors of a recipe that need no checkpoint: schemes that its format cannot describe, or that cannot
    /// store NaN and infinity where the recipe asks for it.
    pub fn check_recipe(recipe: &Recipe) -> Vec<Diagnostic> {
        let format =
            serving::format_holds_schemes(recipe).into_iter().map(|diagnostic| under(recipe.serving, diagnostic));
        format.chain(non_finite::refusals(recipe)).collect()
    }

    /// Returns why this input stays unquantized, `None` where a rule says so or none is after it.
    pub(super) fn why_unquantized(&self, input: usize) -> Option<WhyStays<'_>> {
        self.stays.why(input, &self.inputs[input], &self.decisions[input])
    }

    /// Returns for each input the first one whose absolute maximum is also its own: itself, but for
    /// [`AmaxScope::Fused`](qwen_fp8_schemes::AmaxScope::Fused).
    pub fn amax_leaders(&self) -> Vec<usize> {
        fused::amax_leaders(&self.checkpoint.model, &self.recipe, &self.inputs, &self.jobs)
    }

    /// Reports whether NaN and infinity go into the output; else they end the run.
    pub fn keeps_non_finite(&self) -> bool {
        self.recipe.on_nonfinite == NonFinitePolicy::Keep
    }

    /// The scheme of a rule that quantizes.
    pub fn scheme(&self, rule: usize) -> Option<&dyn Scheme> {
        self.recipe.rules.get(rule)?.scheme.as_deref()
    }

    /// Returns the registration of the scheme that quantizes or decodes this input, `None` where bytes are copied.
    pub fn registration(&self, input: usize) -> Option<&'static Registration> {
        let rule = match &self.jobs[input] {
            Job::Quantize { rule, .. } => Some(*rule),
            Job::Dequantize { .. } => self.decisions[input].rule.map(|(rule, _)| rule),
            Job::Copy { .. } | Job::PassThrough { .. } => None,
        };
        rule.map(|rule| self.recipe.rules[rule].registration)
    }

    /// The schemes of the rules that took something.
    pub fn schemes_used(&self) -> Vec<&'static Registration> {
        let rules: BTreeSet<usize> =
            self.decisions.iter().filter_map(|decision| decision.rule.map(|(rule, _)| rule)).collect();
        rules.into_iter().map(|rule| self.recipe.rules[rule].registration).collect()
    }

    /// The name that messages give a rule.
    pub fn rule_label(&self, rule: usize) -> &str {
        &self.recipe.rules[rule].label
    }

    /// The `scale_search` option of a rule, where its recipe gives one.
    pub fn scale_search(&self, rule: usize) -> Option<&str> {
        self.recipe.rules[rule].options.get("scale_search").and_then(Value::as_str)
    }

    /// The `input_scale` option of a rule, where its recipe gives one.
    pub fn input_scale(&self, rule: usize) -> Option<&Number> {
        self.recipe.rules[rule].options.get("input_scale").and_then(Value::as_number)
    }

    /// The `quantization_config` of the output; null where there is none at the top level of its `config.json`.
    pub(crate) fn quantization_config(&self) -> Value {
        let config = self.documents.iter().find(|(name, _)| name == "config.json");
        let config: Option<Value> = config.and_then(|(_, bytes)| serde_json::from_slice(bytes).ok());
        config.and_then(|mut config| config.get_mut("quantization_config").map(Value::take)).unwrap_or_default()
    }

    /// The wire format of the output.
    pub fn format(&self) -> Format {
        self.recipe.format
    }

    /// The text of the recipe as it was read.
    pub fn recipe_text(&self) -> &str {
        &self.recipe.text.text
    }

    /// Bytes of all tensors of the source.
    pub fn source_bytes(&self) -> u64 {
        self.checkpoint.tensors.iter().map(|tensor| tensor.len).sum()
    }

    /// Bytes of all output files that the run computes; side files come on top.
    pub fn output_bytes(&self) -> u64 {
        let documents: u64 = self.documents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.shards.iter().map(|shard| shard.size).sum::<u64>() + documents
    }
}

/// Returns the diagnostic with the level that the recipe's serving policy gives it.
fn under(policy: ServingPolicy, diagnostic: Diagnostic) -> Diagnostic {
    match policy {
        ServingPolicy::Enforce => diagnostic,
        ServingPolicy::Warn => Diagnostic { level: diagnostic.level.max(Level::Warning), ..diagnostic },
    }
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error)
}

/// Returns the checkpoint's config with the keys by which servers know how the quantized layers are stored.
fn with_known_keys(checkpoint: &Checkpoint, modules: &Modules<'_>) -> Config {
    let mut config = checkpoint.config.clone();
    let is_fp8 = |module: &&Quantized<'_>| {
        let weights = &module.form.weights;
        weights.kind == NumberKind::Float && weights.num_bits == 8
    };
    for module in modules.quantized.iter().filter(is_fp8) {
        for known in checkpoint.model.config_keys(module.input.module()) {
            config.set(&[&known.key], &Value::from(known.value.as_str()));
        }
    }
    config
}

/// Prepares the inputs and decides what becomes of each. Stacks of which no rule quantizes a part stay stacked where the recipe
/// leaves that open.
///
/// # Errors
/// What [`inputs::prepare`] cannot do.
fn decide(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(Prepared, Resolved), Diagnostic> {
    let resolve = |prepared: Prepared| {
        let mut found = Vec::new();
        let resolved = resolve::resolve(recipe, &checkpoint.model, &prepared.inputs, &mut found);
        (prepared, resolved, found)
    };
    let (mut prepared, mut resolved, mut found) = resolve(inputs::prepare(recipe, checkpoint)?);
    if recipe.experts == ExpertsPolicy::SplitOrKeep {
        let parts = || prepared.inputs.iter().enumerate().filter(|(_, input)| input.part_of.is_some());
        if parts().next().is_some() && !parts().any(|(part, _)| resolved.decisions[part].is_quantized(recipe)) {
            // Apart they would gain nothing, and some loaders know stacks alone.
            let misfit = parts().find_map(|(part, _)| resolved.first_misfit(part));
            let stacked = resolve(inputs::prepare_stacked(checkpoint, misfit)?);
            // A rule that names a part gets it.
            if !has_error(&stacked.2) {
                (prepared, resolved, found) = stacked;
            }
        }
    }
    diagnostics.append(&mut found);
    Ok((prepared, resolved))
}
