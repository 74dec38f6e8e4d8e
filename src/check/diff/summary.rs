//! Differences by kind of layer and by layer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::described::TensorDifference;
use super::tensor::LogicalTensor;
use crate::report::Sums;
use qwen_fp8_checkpoint::models::{self, LayerKind, Model, Part};

/// The tensors of one kind of layer, together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KindDifference {
    /// The last part of the module's name for linear layers, such as `q_proj`; the kind of layer for others.
    pub kind: String,
    pub vision: bool,
    /// Number of tensors in both checkpoints.
    pub tensors: u64,
    /// Number of those that differ.
    pub changed: u64,
    /// Frobenius norm of the changes over that of the changed tensors in A.
    pub relative_error: Option<f64>,
    /// Largest absolute change of an element.
    pub max_error: Option<f64>,
    /// Lowest cosine of a changed tensor.
    pub min_cosine: Option<f64>,
}

/// A layer of a numbered stack in which something changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LayerDifference {
    /// The name of the stack, such as `model.language_model.layers`.
    pub stack: String,
    pub layer: u64,
    /// Number of changed tensors.
    pub changed: u64,
    /// Frobenius norm of the changes over that of the changed tensors in A; null in JSON where NaN makes it none.
    #[schemars(with = "Option<f64>")]
    pub relative_error: f64,
}

/// Sums up differences by kind of layer.
pub(super) fn by_kind(
    pairs: &[(LogicalTensor<'_>, LogicalTensor<'_>)],
    compared: &[Option<TensorDifference>],
) -> Vec<KindDifference> {
    let mut kinds: BTreeMap<(bool, String), (KindDifference, Sums)> = BTreeMap::new();
    // The names alone decide, as for two checkpoints of which one may be anything.
    let model = Model::default();
    for ((of_a, _), difference) in pairs.iter().zip(compared) {
        let layer = model.layer(&of_a.name, of_a.shape().len());
        let vision = layer.part == Part::Vision;
        let kind = match layer.kind {
            LayerKind::Linear => models::split_name(of_a.tensor.module()).1.to_owned(),
            kind => kind.name().to_owned(),
        };
        let (summary, sums) = kinds.entry((vision, kind.clone())).or_insert_with(|| {
            let (relative_error, max_error, min_cosine) = (None, None, None);
            let empty = KindDifference { kind, vision, tensors: 0, changed: 0, relative_error, max_error, min_cosine };
            (empty, Sums::default())
        });
        summary.tensors += 1;
        let Some(difference) = difference else { continue };
        summary.changed += 1;
        if let Some(figures) = &difference.figures {
            // Sums and not means of figures: a large tensor counts as much as its elements.
            sums.merge(&difference.sums);
            summary.relative_error = Some(sums.figures().relative_error);
            summary.max_error = Some(sums.max_error);
            summary.min_cosine = Some(summary.min_cosine.map_or(figures.cosine, |least| least.min(figures.cosine)));
        }
    }
    kinds.into_values().map(|(summary, _)| summary).collect()
}

/// Sums up differences by layer of a numbered stack.
pub(super) fn by_layer(changed: &[TensorDifference]) -> Vec<LayerDifference> {
    let mut layers: BTreeMap<(&str, u64), (u64, Sums)> = BTreeMap::new();
    for difference in changed {
        let Some(layer) = layer_of(&difference.name) else { continue };
        let (number, sums) = layers.entry(layer).or_default();
        *number += 1;
        sums.merge(&difference.sums);
    }
    let layer = |((stack, layer), (changed, sums)): ((&str, u64), (u64, Sums))| LayerDifference {
        stack: stack.to_owned(),
        layer,
        changed,
        relative_error: sums.figures().relative_error,
    };
    layers.into_iter().map(layer).collect()
}

/// Reads `model.layers.3.mlp.up_proj.weight` as (`model.layers`, 3).
fn layer_of(name: &str) -> Option<(&str, u64)> {
    let at = name.match_indices('.').find_map(|(at, _)| {
        let number: u64 = name[at + 1..].split('.').next()?.parse().ok()?;
        Some((&name[..at], number))
    })?;
    Some(at)
}
