//! What a recipe says of NaN and infinity, held against its schemes.

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{NonFinitePolicy, Recipe};

/// The rules whose scheme cannot keep what `on_nonfinite: keep` wants kept; no checkpoint is needed to see them.
pub(super) fn refusals(recipe: &Recipe) -> Vec<Diagnostic> {
    if recipe.on_nonfinite == NonFinitePolicy::Error {
        return Vec::new();
    }
    let rules = recipe.rules.iter();
    let refused = rules.filter(|rule| rule.scheme.as_ref().is_some_and(|scheme| !scheme.keeps_non_finite()));
    refused
        .map(|rule| {
            Diagnostic::error(format!("`on_nonfinite: keep` does not go with `{}`", rule.registration.name))
                .at(rule.span.clone())
                .label(&rule.label)
                .help("its numbers have no place for NaN and infinity; FP8, FP8_BLOCK and FP8_DYNAMIC keep them")
        })
        .collect()
}
