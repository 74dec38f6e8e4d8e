//! The weights that hold NaN and infinity on purpose, as the manifest of the result says.

use std::collections::BTreeMap;
use std::path::Path;

use crate::report::manifest::Manifest;

/// For each such weight how many of its scales are no numbers.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<String, u64>);

impl Kept {
    /// What the manifest in `dir` says; nothing where there is none that can be read.
    pub(super) fn of(dir: &Path) -> Self {
        let Ok(manifest) = Manifest::read(dir) else { return Self::default() };
        let actions = manifest.actions.into_iter();
        Self(actions.filter_map(|action| Some((action.tensor, action.non_finite?.scales))).collect())
    }

    /// Whether just so many scales of the weight are no numbers on purpose.
    pub(super) fn explains(&self, weight: &str, scales: usize) -> bool {
        scales > 0 && self.0.get(weight) == Some(&(scales as u64))
    }
}
