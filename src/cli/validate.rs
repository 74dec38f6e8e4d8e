//! `qwen-fp8 validate`: everything that can be wrong with a recipe by itself.

use super::args::Validate;
use super::screen::{Failure, Screen};
use super::source::read_recipe;
use crate::checkpoint::text::shown_path;
use crate::plan::Plan;
use crate::recipe::diagnostic::Level;

pub(super) fn validate(args: &Validate, screen: &Screen) -> Result<(), Failure> {
    let mut failed = false;
    for path in &args.recipes {
        match read_recipe(path, screen) {
            Ok(recipe) => {
                let diagnostics = Plan::check_recipe(&recipe);
                screen.diagnostics(&diagnostics, &recipe.text);
                if diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error) {
                    failed = true;
                } else {
                    let rules = recipe.rules.len();
                    screen.say(&format!(
                        "{}: fine, {rules} rule{}",
                        shown_path(path),
                        if rules == 1 { "" } else { "s" }
                    ));
                }
            }
            Err(_) => failed = true,
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}
