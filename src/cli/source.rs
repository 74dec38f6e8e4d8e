//! The recipe and the checkpoint that a command names, opened or planned.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::args::SourceArgs;
use super::error::CommandError;
use super::screen::Screen;
use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::model_id::resolve;
use crate::checkpoint::models::catalogue::add_folder;
use crate::checkpoint::{Checkpoint, is_headers_file};
use crate::plan::{Plan, expected};
use crate::recipe::Recipe;

/// Reads a recipe, from standard input where the path is `-`; its diagnostics are shown where it has any.
pub(super) fn read_recipe(path: &Path, screen: &Screen) -> Result<Recipe, CommandError> {
    let read = if path == Path::new("-") {
        let stdin = io::stdin().lock();
        if stdin.is_terminal() {
            screen.say("reading the recipe from the terminal; Ctrl-D ends it");
        }
        Recipe::read_stream(stdin)
    } else {
        Recipe::read(path)
    };
    read.map_err(|refused| {
        screen.diagnostics(&refused.diagnostics, &refused.text);
        CommandError::Reported
    })
}

/// Finds the directory that `model`, a path or a model id, names.
pub(super) fn checkpoint_dir(model: &str) -> Result<PathBuf, CommandError> {
    resolve(model, &HubEnvironment::of_process()).map_err(|error| CommandError::run(&error).with_help(&error.help()))
}

/// Opens the checkpoint that `model`, a path or a model id, names, or the headers of one in a file.
pub(super) fn open_checkpoint(model: &str) -> Result<Checkpoint, CommandError> {
    if is_headers_file(Path::new(model)) {
        return Checkpoint::of_headers(Path::new(model))
            .map_err(|error| CommandError::input(&error).with_help(&error.help()));
    }
    let dir = resolve(model, &HubEnvironment::of_process())
        .map_err(|error| CommandError::input(&error).with_help(&error.help()))?;
    Checkpoint::open(&dir).map_err(|error| CommandError::input(&error).with_help(&error.help()))
}

/// Plans what the recipe does to the checkpoint, and shows warnings and notes.
pub(super) fn plan(source: &SourceArgs, screen: &Screen) -> Result<Plan, CommandError> {
    plan_of(read_recipe(&source.recipe, screen)?, source, screen)
}

/// Plans what a recipe that was read already does, as [`plan`].
pub(super) fn plan_of(recipe: Recipe, source: &SourceArgs, screen: &Screen) -> Result<Plan, CommandError> {
    let mut checkpoint = checkpoint_of(&recipe, source.model.as_deref())?;
    if let Some(layers) = source.smoke {
        checkpoint = checkpoint.first_layers(layers).map_err(|error| CommandError::input(&error))?;
    }
    planned(recipe, checkpoint, screen)
}

/// Opens the checkpoint that a recipe is for: `model`, or the recipe's own.
pub(super) fn checkpoint_of(recipe: &Recipe, model: Option<&str>) -> Result<Checkpoint, CommandError> {
    let Some(model) = model.or(recipe.model.as_deref()) else {
        return Err(CommandError::Input(
            "no checkpoint to work on: add `model:` to the recipe, or `--model DIR` to the command".to_owned(),
        ));
    };
    if let Some(folder) = &recipe.models {
        add_models(Path::new(folder))?;
    }
    open_checkpoint(model)
}

/// Plans a recipe for a checkpoint that is open, and shows warnings and notes.
pub(super) fn planned(recipe: Recipe, checkpoint: Checkpoint, screen: &Screen) -> Result<Plan, CommandError> {
    match Plan::build(recipe, checkpoint) {
        Ok(plan) => {
            screen.diagnostics(&plan.warnings, &plan.recipe.text);
            screen.diagnostics(&plan.notes, &plan.recipe.text);
            let otherwise = expected::check(&plan);
            screen.diagnostics(&otherwise, &plan.recipe.text);
            if otherwise.is_empty() { Ok(plan) } else { Err(CommandError::Reported) }
        }
        Err(refused) => {
            screen.diagnostics(&refused.diagnostics, &refused.recipe.text);
            Err(CommandError::Reported)
        }
    }
}

/// Adds the families of a folder to what is known.
pub(super) fn add_models(folder: &Path) -> Result<(), CommandError> {
    add_folder(folder).map(drop).map_err(|error| {
        let help = "`qwen-fp8 models --schema` prints what such a file may say; docs/models.md explains it";
        CommandError::input(&error).with_help(&[help.to_owned()])
    })
}
