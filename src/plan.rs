//! A plan: for every tensor one action and the rule that decided it, and every byte offset of the output.
//!
//! Only headers are read to make one, and everything about the output is known when it is made.

pub mod explain;
mod float8;
pub mod format;
mod kernels;
mod merged;
mod modules;
mod non_finite;
mod output;
mod requantized;
pub mod resolve;
mod seen;
mod selection;
mod serving;
pub mod summary;
pub mod tensor_parallel;

use qwen_fp8_schemes::{Registration, TensorSpec};

use crate::checkpoint::layout::{ShardLayout, index_json};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{NonFinitePolicy, Recipe, ServingPolicy};

pub(crate) use merged::with_partners;
pub(crate) use selection::{patterns, quoted};
pub(crate) use serving::is_cut;

use modules::Modules;
use tensor_parallel::Alignment;

/// Everything that a run needs to know, fixed before the first byte is read or written.
#[derive(Debug)]
pub struct Plan {
    pub recipe: Recipe,
    pub checkpoint: Checkpoint,
    /// One per tensor of the checkpoint, in its order.
    pub decisions: Vec<Decision>,
    /// One per tensor of the checkpoint, in its order.
    pub jobs: Vec<Job>,
    /// The output's safetensors files.
    pub shards: Vec<ShardLayout>,
    /// Output files other than shards and copies, in the order in which they are written: the index, then `config.json`.
    pub documents: Vec<(String, Vec<u8>)>,
    /// Over how many GPUs the result can be served.
    pub alignments: Vec<Alignment>,
    /// What is worth knowing and stops nothing.
    pub warnings: Vec<Diagnostic>,
}

/// What decided one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rule that took the tensor and which of its targets matched; a tensor that no rule takes is copied.
    pub rule: Option<(usize, usize)>,
}

/// The work for one source tensor.
#[derive(Clone, Debug)]
pub enum Job {
    /// The bytes go unchanged to this place, or what the tensor's view makes of them.
    Copy { to: Slot },
    /// The codes of a weight that is FP8 already, and its scales, go unchanged to these places.
    Carry { weight: Slot, scale: Slot },
    /// The scheme of this rule writes these tensors.
    Quantize { rule: usize, outputs: Vec<(TensorSpec, Slot)> },
}

impl Job {
    /// The places that are written, in the order of what is written.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Self::Copy { to } => vec![*to],
            Self::Carry { weight, scale } => vec![*weight, *scale],
            Self::Quantize { outputs, .. } => outputs.iter().map(|(_, slot)| *slot).collect(),
        }
    }
}

/// A tensor of the output: `shards[shard].tensors[tensor]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub shard: usize,
    pub tensor: usize,
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
    /// Returns the scheme that quantizes or decodes this tensor of the checkpoint, `None` where its bytes are copied.
    pub fn registration(&self, tensor: usize) -> Option<&'static Registration> {
        let rule = match &self.jobs[tensor] {
            Job::Quantize { rule, .. } => Some(*rule),
            Job::Copy { .. } if self.checkpoint.tensors[tensor].view.float8().is_some() => {
                self.decisions[tensor].rule.map(|(rule, _)| rule)
            }
            Job::Copy { .. } | Job::Carry { .. } => None,
        };
        rule.map(|rule| self.recipe.rules[rule].registration)
    }

    /// Plans what `recipe` does to `checkpoint`.
    ///
    /// # Errors
    /// All that is wrong: patterns that match nothing, tensors that cannot take their scheme, serving rules broken.
    pub fn build(recipe: Recipe, checkpoint: Checkpoint) -> Result<Self, Box<Refused>> {
        let mut diagnostics = Vec::new();
        diagnostics.extend(non_finite::refusals(&recipe));
        let checkpoint = match seen::seen(&recipe, checkpoint) {
            Ok(checkpoint) => checkpoint,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                return Err(Box::new(Refused { recipe, diagnostics }));
            }
        };
        let decisions = resolve::resolve(&recipe, &checkpoint, &mut diagnostics);
        diagnostics.extend(requantized::refusals(&recipe, &checkpoint, &decisions));
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        let wire = format::wire_format(recipe.format);
        let (jobs, shards) = output::lay_out(&recipe, &checkpoint, &decisions, wire, &mut diagnostics);
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        let modules = Modules::of(&recipe, &checkpoint, &decisions, &jobs);
        let served =
            serving::Served { recipe: &recipe, checkpoint: &checkpoint, decisions: &decisions, modules: &modules };
        let policy = recipe.serving;
        diagnostics.extend(serving::check(&served).into_iter().map(|diagnostic| under(policy, diagnostic)));
        if modules.quantized.is_empty() && checkpoint.quantized.is_none() {
            diagnostics.push(Diagnostic::warning("no tensor is quantized: the output is a copy of the checkpoint"));
        }
        let alignments = tensor_parallel::alignments(
            modules.quantized.iter().map(|module| (module.tensor, module.scheme.weights().strategy)),
            tensor_parallel::Heads::of(&checkpoint.config),
        );
        let config = if modules.quantized.is_empty() {
            match checkpoint.quantized {
                Some(_) => checkpoint.config.without_quantization_config(),
                None => checkpoint.config.text(),
            }
        } else {
            checkpoint.config.with_quantization_config(&wire.quantization_config(&modules))
        };
        drop(modules);
        if has_error(&diagnostics) {
            return Err(Box::new(Refused { recipe, diagnostics }));
        }
        let mut documents = Vec::new();
        if shards.len() > 1 {
            documents.push(("model.safetensors.index.json".to_owned(), index_json(&shards).into_bytes()));
        }
        documents.push(("config.json".to_owned(), config.into_bytes()));
        Ok(Self { recipe, checkpoint, decisions, jobs, shards, documents, alignments, warnings: diagnostics })
    }

    /// What is wrong with a recipe whatever the checkpoint is: rules that its format cannot describe, or that cannot
    /// keep what it wants kept.
    pub fn check_recipe(recipe: &Recipe) -> Vec<Diagnostic> {
        let format =
            serving::format_holds_schemes(recipe).into_iter().map(|diagnostic| under(recipe.serving, diagnostic));
        format.chain(non_finite::refusals(recipe)).collect()
    }

    /// For each tensor the first one whose absolute maximum is also its own: itself, but for
    /// [`AmaxScope::Fused`](qwen_fp8_schemes::AmaxScope::Fused).
    pub fn amax_leaders(&self) -> Vec<usize> {
        merged::amax_leaders(self)
    }

    /// Returns whether NaN and infinity go into the output (`on_nonfinite: keep`) instead of ending the run.
    pub fn keeps_non_finite(&self) -> bool {
        self.recipe.on_nonfinite == NonFinitePolicy::Keep
    }

    /// Bytes of all tensors of the source.
    pub fn source_bytes(&self) -> u64 {
        self.checkpoint.tensors.iter().map(Tensor::source_bytes).sum()
    }

    /// Bytes of all output files that the run computes; side files come on top.
    pub fn output_bytes(&self) -> u64 {
        let documents: u64 = self.documents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.shards.iter().map(|shard| shard.size).sum::<u64>() + documents
    }
}

/// The diagnostic as heavy as the recipe wants it.
fn under(policy: ServingPolicy, diagnostic: Diagnostic) -> Diagnostic {
    match policy {
        ServingPolicy::Enforce => diagnostic,
        ServingPolicy::Warn => Diagnostic { level: Level::Warning, ..diagnostic },
    }
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error)
}
