//! The failure to draft a recipe.

use super::error::CommandError;
use super::screen::Screen;
use crate::init::InitError;
use crate::recipe::diagnostic::Level;

/// The failure of a draft; what the plan of a draft refused is shown.
pub(super) fn refused(error: &InitError, screen: &Screen) -> CommandError {
    if let InitError::Refused(refused) = error {
        let diagnostics: Vec<_> =
            refused.diagnostics.iter().filter(|diagnostic| diagnostic.level == Level::Error).cloned().collect();
        screen.diagnostics(&diagnostics, &refused.recipe.text);
    }
    CommandError::input(error).with_help(&error.help())
}
