//! Checks that a recipe's schemes can store NaN and infinity where it asks for that.

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{NonFinitePolicy, Recipe};

/// Returns an error for each rule whose scheme cannot store non-finite values under `on_nonfinite: keep`.
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
                .help("its codes cannot hold NaN or infinity; those of FP8, FP8_BLOCK and FP8_DYNAMIC can")
        })
        .collect()
}
