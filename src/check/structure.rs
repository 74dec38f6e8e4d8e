//! The structural part of a proof: config.json, list and tensors against each other. No weight is read.

mod container;
mod listed;
mod siblings;
mod tensors;

use super::declared::{Declared, Grid};
use super::finding::Finding;
use super::modules::{self, Module, Stored};
use super::rules;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::layer::LayerKind;
use crate::shown::shown;

/// A weight in codes, and the scales that they are multiplied by; their shapes and dtypes fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coded<'a> {
    pub(super) weight: &'a Tensor,
    pub(super) scale: &'a Tensor,
    pub(super) grid: Grid,
}

/// What the structure of a checkpoint shows.
#[derive(Debug)]
pub(super) struct Structure<'a> {
    /// Weights that can be decoded, in order of name.
    pub(super) coded: Vec<Coded<'a>>,
    /// Scales and their like, which belong to some weight; in order of name.
    pub(super) companions: Vec<&'a str>,
}

/// What the rules look at.
struct View<'v, 'a> {
    checkpoint: &'a Checkpoint,
    declared: &'v Declared,
    modules: &'v [Module<'a>],
}

impl Module<'_> {
    /// The rows and columns of the weight, where it is a matrix.
    fn matrix(&self) -> Option<[usize; 2]> {
        <[usize; 2]>::try_from(self.weight?.shape.as_slice()).ok()
    }

    fn is(&self, stored: Stored) -> bool {
        self.weight.is_some_and(|weight| Stored::of(weight) == stored)
    }
}

/// Holds a checkpoint against the rules.
pub(super) fn check<'a>(checkpoint: &'a Checkpoint, findings: &mut Vec<Finding>) -> Structure<'a> {
    container::check(checkpoint, findings);
    siblings::check(checkpoint, findings);
    let modules = modules::modules(checkpoint);
    let mut companions: Vec<&str> =
        modules.iter().flat_map(|module| &module.companions).map(|tensor| tensor.name.as_str()).collect();
    companions.sort_unstable();
    let quantized = modules.iter().find(|module| module.is(Stored::Float8) || !module.companions.is_empty());
    let coded = match (Declared::read(&checkpoint.config, findings), quantized) {
        (Some(declared), Some(_)) => {
            let view = View { checkpoint, declared: &declared, modules: &modules };
            listed::check(&view, findings);
            tensors::check(&view, findings)
        }
        (Some(_), None) => {
            let message = "config.json declares a quantization, and no tensor is quantized";
            findings.push(Finding::new(&rules::NOTHING_QUANTIZED, message).config(""));
            Vec::new()
        }
        (None, Some(module)) if checkpoint.config.quantization_config().is_none() => {
            let message = format!(
                "{} is quantized, and config.json has no `quantization_config`",
                shown(module.weight.map_or(module.name, |weight| &weight.name))
            );
            findings.push(Finding::new(&rules::NO_CONFIG, message).file("config.json"));
            Vec::new()
        }
        (None, _) => Vec::new(),
    };
    Structure { coded, companions }
}

/// Whether servers build a layer of this kind with a quantization when config.json has one.
fn is_quantizable(kind: LayerKind) -> bool {
    matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts | LayerKind::LmHead)
}

/// `1 module`, `7 modules`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
