//! The structural part of a proof: config.json, list and tensors against each other. No weight is read, and of other tensors
//! only those that hold a number or two.

mod beside;
mod container;
mod listed;
mod siblings;
mod tensors;

use super::coded::Coded;
use super::declared::Declared;
use super::finding::Finding;
use super::modules::{self, Module, Stored};
use super::rules;
use super::shards::Shards;
use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// What the structure of a checkpoint shows.
#[derive(Debug)]
pub(super) struct Structure<'a> {
    /// Weights that can be decoded, in order of name.
    pub(super) coded: Vec<Coded<'a>>,
    /// Scales and their like, which belong to some weight; in order of name.
    pub(super) companions: Vec<&'a str>,
}

impl<'a> Structure<'a> {
    /// The weight whose codes this tensor holds.
    pub(super) fn coded(&self, tensor: &Tensor) -> Option<&Coded<'a>> {
        let at = self.coded.binary_search_by(|coded| coded.codes.name.cmp(&tensor.name)).ok()?;
        Some(&self.coded[at])
    }

    /// Whether the tensor stands beside some weight.
    pub(super) fn is_companion(&self, tensor: &Tensor) -> bool {
        self.companions.binary_search(&tensor.name.as_str()).is_ok()
    }
}

/// What the rules look at.
struct View<'v, 'a> {
    checkpoint: &'a Checkpoint,
    shards: &'v Shards,
    declared: &'v Declared,
    modules: &'v [Module<'a>],
}

/// Holds a checkpoint against the rules.
///
/// # Errors
/// A tensor that says how others are read cannot be read.
pub(super) fn check<'a>(
    checkpoint: &'a Checkpoint,
    shards: &Shards,
    findings: &mut Vec<Finding>,
) -> Result<Structure<'a>, SourceError> {
    container::check(checkpoint, findings);
    siblings::check(checkpoint, findings);
    let modules = modules::modules(checkpoint);
    let mut companions: Vec<&str> =
        modules.iter().flat_map(|module| &module.companions).map(|tensor| tensor.name.as_str()).collect();
    companions.sort_unstable();
    let quantized = modules.iter().find(|module| module.is(Stored::Coded) || !module.companions.is_empty());
    let mut coded = match (Declared::read(&checkpoint.config, findings), quantized) {
        (Some(declared), Some(_)) => {
            let view = View { checkpoint, shards, declared: &declared, modules: &modules };
            listed::check(&view, findings);
            tensors::check(&view, findings)?
        }
        (Some(_), None) => {
            let message = "config.json declares a quantization, and no tensor is quantized";
            findings.push(Finding::new(&rules::NOTHING_QUANTIZED, message).config(""));
            Vec::new()
        }
        (None, Some(module)) if checkpoint.config.quantization_config().is_none() => {
            let message = format!(
                "{} is quantized, and config.json has no `quantization_config`",
                shown(module.stored().map_or(module.name, |weight| &weight.name))
            );
            findings.push(Finding::new(&rules::NO_CONFIG, message).file("config.json"));
            Vec::new()
        }
        (None, None) if checkpoint.config.quantization_config().is_none() => {
            findings.push(Finding::new(&rules::UNQUANTIZED, "no tensor is quantized").file("config.json"));
            Vec::new()
        }
        (None, _) => Vec::new(),
    };
    coded.sort_by(|a, b| a.codes.name.cmp(&b.codes.name));
    Ok(Structure { coded, companions })
}

/// Whether servers build a layer of this kind with a quantization when config.json has one.
fn is_quantizable(kind: LayerKind) -> bool {
    matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts | LayerKind::LmHead)
}

/// `1 module`, `7 modules`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
