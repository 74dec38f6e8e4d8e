//! The checkpoint as the recipe wants it seen, before a rule is asked: stacked experts one by one, FP8 weights as numbers.

use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::sentence;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{ExpertsPolicy, Recipe};

use super::float8;

/// The checkpoint under the policies of the recipe, or what stands in the way.
pub(super) fn seen(recipe: &Recipe, mut checkpoint: Checkpoint) -> Result<Checkpoint, Diagnostic> {
    if let Some(how) = &checkpoint.quantized {
        let message = format!("the checkpoint is quantized already: {how}");
        checkpoint = float8::decoded(checkpoint).map_err(|why| {
            Diagnostic::error(message)
                .help(format!("it cannot be decoded: {}", sentence(&why)))
                .help("start from its BF16 original; quantizing twice loses what the first pass kept")
        })?;
    }
    match recipe.experts {
        ExpertsPolicy::Split if checkpoint.has_stacked_experts() => checkpoint.split_experts().map_err(|error| {
            Diagnostic::error(format!(
                "`experts: split` cannot take the stacks apart: {}",
                sentence(&error.to_string())
            ))
            .help("`experts: keep` keeps stacked experts as they are")
        }),
        _ => Ok(checkpoint),
    }
}
