//! The checkpoint as the recipe wants it seen, before a rule is asked: stacked experts one by one.

use crate::checkpoint::Checkpoint;
use crate::finding::Finding;
use crate::recipe::{ExpertsPolicy, Recipe};
use crate::shown::sentence;

/// The checkpoint under the policies of the recipe, or what stands in the way.
pub(super) fn seen(recipe: &Recipe, checkpoint: Checkpoint) -> Result<Checkpoint, Finding> {
    match recipe.experts {
        ExpertsPolicy::Split if checkpoint.has_stacked_experts() => checkpoint.split_experts().map_err(|error| {
            Finding::error(format!("`experts: split` cannot take the stacks apart: {}", sentence(&error.to_string())))
                .help("`experts: keep` keeps stacked experts as they are")
        }),
        _ => Ok(checkpoint),
    }
}
