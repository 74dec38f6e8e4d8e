//! The word of a result's manifest on single tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::group::ScaleRule;
use qwen_fp8_checkpoint::CheckpointPlace;
use qwen_fp8_checkpoint::manifest::{Manifest, ManifestSource};

/// The manifest's word on tensors that are not what the rules expect; empty without a readable manifest.
// The manifest comes with the result and proves nothing. It only lets a rule expect something else, which is then
// proved.
#[derive(Debug, Default)]
pub(crate) struct RecordedActions {
    /// Weights whose non-finite values were let through, and the number of their non-finite scales.
    non_finite: BTreeMap<String, u64>,
    /// Tensors that no scheme changed.
    unchanged: BTreeSet<String>,
    /// The rules of scales that do not follow the absolute maximum alone, by weight.
    scale_rules: BTreeMap<String, ScaleRule>,
    /// The scales of activations that the recipe gave, by weight.
    input_scales: BTreeMap<String, f32>,
    /// The source that the result was made from.
    source: Option<ManifestSource>,
    /// The tensors of the source, in order.
    tensors: BTreeSet<String>,
}

impl RecordedActions {
    /// Reads the manifest at `place`.
    pub(crate) fn read(place: &CheckpointPlace) -> Self {
        let mut recorded = Self::default();
        let Ok(manifest) = Manifest::read_at(place) else { return recorded };
        recorded.source = Some(manifest.source);
        for action in manifest.actions {
            recorded.tensors.insert(action.tensor.clone());
            let rule = match action.scale_search.as_deref() {
                Some("mse") => Some(ScaleRule::Search),
                Some("four_over_six") => Some(ScaleRule::FourOverSix),
                Some("lossless") => Some(ScaleRule::Lossless),
                _ => None,
            };
            recorded.scale_rules.extend(rule.map(|rule| (action.tensor.clone(), rule)));
            let scale = action.input_scale.and_then(|scale| scale.as_f64());
            recorded.input_scales.extend(scale.map(|scale| (action.tensor.clone(), scale as f32)));
            if action.scheme.is_none() {
                recorded.unchanged.insert(action.tensor.clone());
            }
            if let Some(found) = action.non_finite {
                recorded.non_finite.insert(action.tensor, found.scales);
            }
        }
        recorded
    }

    /// Reports whether the manifest says that exactly this many scales of the weight are not finite.
    pub(crate) fn has_non_finite(&self, weight: &str, scales: usize) -> bool {
        scales > 0 && self.non_finite.get(weight) == Some(&(scales as u64))
    }

    /// Reports whether the manifest says that no scheme changed the weight.
    pub(crate) fn is_unchanged(&self, weight: &str) -> bool {
        self.unchanged.contains(weight)
    }

    /// Returns the number of the source's first layers that the result was made from; `None` for all of them.
    pub(crate) fn layers(&self) -> Option<u64> {
        self.source.as_ref().and_then(|source| source.layers)
    }

    /// Reports whether the manifest says that the source has neither a tensor of this name nor one below it.
    pub(crate) fn is_lacked_by_source(&self, name: &str) -> bool {
        let below = format!("{name}.");
        let is_below = self.tensors.range(below.clone()..).next().is_some_and(|tensor| tensor.starts_with(&below));
        self.source.is_some() && !self.tensors.contains(name) && !is_below
    }

    /// Returns the source that the manifest names.
    pub(crate) fn source(&self) -> Option<&ManifestSource> {
        self.source.as_ref()
    }

    /// Returns the scale of the activations of the weight's layer that the manifest says the recipe gave.
    pub(crate) fn input_scale(&self, weight: &str) -> Option<f32> {
        self.input_scales.get(weight).copied()
    }

    /// Returns the rule of the weight's scales that the manifest names.
    pub(crate) fn scale_rule(&self, weight: &str) -> Option<ScaleRule> {
        self.scale_rules.get(weight).copied()
    }
}
