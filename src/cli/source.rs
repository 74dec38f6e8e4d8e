//! From a recipe and an optional `--model` to a plan: what `apply`, `plan` and `explain` share.

use super::args::Source;
use super::screen::{Failure, Screen};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::model_id::{HubEnvironment, resolve};
use crate::plan::Plan;
use crate::recipe::Recipe;

/// Reads a recipe and shows what is wrong with it.
pub(super) fn read_recipe(path: &std::path::Path, screen: &Screen) -> Result<Recipe, Failure> {
    Recipe::read(path).map_err(|refused| {
        screen.diagnostics(&refused.diagnostics, &refused.text);
        Failure::Said
    })
}

/// Opens the checkpoint that `model` means.
pub(super) fn open_checkpoint(model: &str) -> Result<Checkpoint, Failure> {
    let dir = resolve(model, &HubEnvironment::of_process())
        .map_err(|error| Failure::input(&error).with_help(&error.help()))?;
    Checkpoint::open(&dir).map_err(|error| Failure::input(&error).with_help(&error.help()))
}

/// Plans what the recipe does to the checkpoint, and shows the warnings.
pub(super) fn plan(source: &Source, screen: &Screen) -> Result<Plan, Failure> {
    let recipe = read_recipe(&source.recipe, screen)?;
    let Some(model) = source.model.as_ref().or(recipe.model.as_ref()) else {
        return Err(Failure::Input(
            "no checkpoint to work on: add `model:` to the recipe, or `--model DIR` to the command".to_owned(),
        ));
    };
    let mut checkpoint = open_checkpoint(model)?;
    if let Some(layers) = source.smoke {
        checkpoint = checkpoint.first_layers(layers).map_err(|error| Failure::input(&error))?;
    }
    match Plan::build(recipe, checkpoint) {
        Ok(plan) => {
            screen.diagnostics(&plan.warnings, &plan.recipe.text);
            Ok(plan)
        }
        Err(refused) => {
            screen.diagnostics(&refused.diagnostics, &refused.recipe.text);
            Err(Failure::Said)
        }
    }
}
