//! The output seen as a server sees it: which modules are quantized, by which scheme, and which keep their weights.

use std::cmp::Ordering;

use qwen_fp8_schemes::Scheme;

use crate::checkpoint::{Checkpoint, Tensor};
use crate::layer::{self, LayerKind};
use crate::recipe::Recipe;

use super::Job;

/// The modules of a plan.
pub(super) struct Modules<'a> {
    pub(super) quantized: Vec<Quantized<'a>>,
    kept: Vec<&'a str>,
}

/// A module whose weight a scheme takes.
#[derive(Clone, Copy)]
pub(super) struct Quantized<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) scheme: &'a dyn Scheme,
    /// The rule that took it.
    pub(super) rule: usize,
    /// Which of the rule's targets matched.
    pub(super) target: usize,
}

impl<'a> Modules<'a> {
    pub(super) fn of(
        recipe: &'a Recipe,
        checkpoint: &'a Checkpoint,
        decisions: &[super::Decision],
        jobs: &[Job],
    ) -> Self {
        let mut quantized = Vec::new();
        let mut kept = Vec::new();
        for ((tensor, decision), job) in checkpoint.tensors.iter().zip(decisions).zip(jobs) {
            match (job, decision.rule) {
                (&Job::Quantize { rule, .. }, Some((_, target))) => {
                    if let Some(scheme) = recipe.rules[rule].scheme.as_deref() {
                        quantized.push(Quantized { tensor, scheme, rule, target });
                    }
                }
                _ if is_listed(tensor) => kept.push(tensor.module()),
                _ => {}
            }
        }
        // A tied head has no tensor of its own, and a server builds it all the same.
        if !checkpoint.tensors.iter().any(|tensor| tensor.kind() == LayerKind::LmHead) {
            kept.push("lm_head");
        }
        kept.sort_by(|a, b| natural(a, b));
        kept.dedup();
        quantized.sort_by(|a, b| natural(&a.tensor.name, &b.tensor.name));
        Self { quantized, kept }
    }

    /// Full names of the modules that keep their weights, of every kind that a server would otherwise build
    /// quantized or that the official lists name; the head first, the rest in natural order.
    pub(super) fn kept(&self) -> &[&'a str] {
        &self.kept
    }

    pub(super) fn schemes(&self) -> impl Iterator<Item = &'a dyn Scheme> {
        self.quantized.iter().map(|module| module.scheme)
    }

    /// The distinct schemes as a server reads them, each with its modules in natural order.
    pub(super) fn groups(&self) -> Vec<(&'a dyn Scheme, Vec<&'a str>)> {
        let mut groups: Vec<(&dyn Scheme, Vec<&str>)> = Vec::new();
        for module in &self.quantized {
            let name = module.tensor.module();
            match groups.iter_mut().find(|(scheme, _)| same(*scheme, module.scheme)) {
                Some((_, names)) => names.push(name),
                None => groups.push((module.scheme, vec![name])),
            }
        }
        groups
    }
}

/// Whether a server reads the two alike.
pub(super) fn same(a: &dyn Scheme, b: &dyn Scheme) -> bool {
    a.weights() == b.weights()
        && a.input_activations() == b.input_activations()
        && a.storage_format() == b.storage_format()
}

fn is_listed(tensor: &Tensor) -> bool {
    let module = tensor.module();
    match tensor.kind() {
        LayerKind::Linear | LayerKind::LmHead | LayerKind::Router | LayerKind::Experts => true,
        LayerKind::Conv | LayerKind::PositionEmbedding => true,
        // The official lists name the norms of the mergers, though no server would quantize them.
        LayerKind::Norm => tensor.parameter() == "weight" && layer::is_vision(module) && module.contains("merger"),
        LayerKind::Embedding | LayerKind::Bias | LayerKind::Other => false,
    }
}

/// Orders `layers.2` before `layers.10`, and the head before everything.
fn natural(a: &str, b: &str) -> Ordering {
    let key = |name: &str| name != "lm_head" && name != "lm_head.weight";
    key(a).cmp(&key(b)).then_with(|| {
        for (x, y) in a.split('.').zip(b.split('.')) {
            let order = match (x.parse::<u64>(), y.parse::<u64>()) {
                (Ok(x), Ok(y)) => x.cmp(&y),
                _ => x.cmp(y),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        a.len().cmp(&b.len())
    })
}
