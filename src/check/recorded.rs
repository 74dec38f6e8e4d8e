//! What the manifest of a result says of its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qwen_fp8_checkpoint::manifest::Manifest;

/// What the manifest says of weights that are not as others; nothing where there is none that can be read.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// For each weight that holds NaN and infinity on purpose, how many of its scales are no numbers.
    kept: BTreeMap<String, u64>,
    /// Tensors that no scheme has changed.
    unchanged: BTreeSet<String>,
    /// Weights whose scales were looked for by the squared error.
    searched: BTreeSet<String>,
}

impl Recorded {
    /// What the manifest in `dir` says.
    pub(super) fn of(dir: &Path) -> Self {
        let mut recorded = Self::default();
        let Ok(manifest) = Manifest::read(dir) else { return recorded };
        for action in manifest.actions {
            if action.scale_search.as_deref() == Some("mse") {
                recorded.searched.insert(action.tensor.clone());
            }
            if action.scheme.is_none() {
                recorded.unchanged.insert(action.tensor.clone());
            }
            if let Some(non_finite) = action.non_finite {
                recorded.kept.insert(action.tensor, non_finite.scales);
            }
        }
        recorded
    }

    /// Whether just so many scales of the weight are no numbers on purpose.
    pub(super) fn keeps(&self, weight: &str, scales: usize) -> bool {
        scales > 0 && self.kept.get(weight) == Some(&(scales as u64))
    }

    /// Whether the weight was left as it was.
    pub(super) fn carried(&self, weight: &str) -> bool {
        self.unchanged.contains(weight)
    }

    /// Whether the scales of the weight were looked for.
    pub(super) fn searched(&self, weight: &str) -> bool {
        self.searched.contains(weight)
    }
}
