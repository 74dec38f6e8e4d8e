//! Everything that is wrong with a recipe, as one error.

use std::path::Path;

use crate::recipe::diagnostic::{self, Diagnostic};
use crate::recipe::text::RecipeText;

/// The refusal of a recipe: every diagnostic, and the text that they point into.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", diagnostic::render(.diagnostics, .text, false))]
pub struct RecipeError {
    pub text: RecipeText,
    /// The diagnostics in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// The number of diagnostics that are shown; more help nobody.
const MAX_DIAGNOSTICS: usize = 50;

impl RecipeError {
    /// The error of a file whose text cannot be had.
    pub(super) fn of_file(path: &Path, diagnostic: Diagnostic) -> Self {
        Self::new(RecipeText::new(path, String::new()), vec![diagnostic])
    }

    /// Puts the diagnostics into the order of the text, once each, as many as help.
    pub(super) fn new(text: RecipeText, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| (span.start, span.end)));
        diagnostics.dedup();
        let rest = diagnostics.len().saturating_sub(MAX_DIAGNOSTICS);
        diagnostics.truncate(MAX_DIAGNOSTICS);
        if rest > 0 {
            diagnostics.push(Diagnostic::error(format!("{rest} more errors are not shown")));
        }
        Self { text, diagnostics }
    }
}
