//! `qwen-fp8 validate`: all diagnostics of recipes, without a checkpoint.

use super::args::ValidateArgs;
use super::error::CommandError;
use super::screen::Screen;
use super::source::read_recipe;
use crate::checkpoint::text::{count, shown_path};
use crate::plan::Plan;
use crate::recipe::diagnostic::Level;

pub(super) fn validate(args: &ValidateArgs, screen: &Screen) -> Result<(), CommandError> {
    let mut failed = false;
    for path in &args.recipes {
        match read_recipe(path, screen) {
            Ok(recipe) => {
                let diagnostics = Plan::check_recipe(&recipe);
                screen.diagnostics(&diagnostics, &recipe.text);
                if diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error) {
                    failed = true;
                } else {
                    screen.say(&format!(
                        "{}: fine, {}",
                        shown_path(&recipe.text.path),
                        count(recipe.rules.len(), "rule")
                    ));
                }
            }
            Err(_) => failed = true,
        }
    }
    if failed { Err(CommandError::Reported) } else { Ok(()) }
}
