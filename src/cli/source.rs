//! The recipe and the checkpoint that a command names, opened or planned.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use qwen_fp8_hub::{HubAccess, HubError, HubRepository};

use super::args::SourceArgs;
use super::error::CommandError;
use super::screen::Screen;
use super::store;
use crate::checkpoint::adapter::Adapter;
use crate::checkpoint::hub::{HubEnvironment, parse_id};
use crate::checkpoint::model_id::{ModelError, resolve, resolve_adapter};
use crate::checkpoint::models::catalogue::{FamilyFile, add_by_command, add_by_recipe};
use crate::checkpoint::remote::{RemoteFailure, Repository};
use crate::checkpoint::text::{sentence, shown};
use crate::checkpoint::{Checkpoint, CheckpointPlace, is_headers_file};
use crate::plan::{Plan, expected};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{FamiliesError, Recipe, RecipeError, read_families};

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

/// Finds what `model`, a path, a model id or an address in an object store, names.
pub(super) fn checkpoint_place(model: &str) -> Result<CheckpointPlace, CommandError> {
    if store::is_address(model) {
        return Ok(CheckpointPlace::Repository(store::source(model)?));
    }
    let environment = HubEnvironment::of_process();
    match resolve(model, &environment) {
        Ok(dir) => Ok(CheckpointPlace::Directory(dir)),
        Err(error) => match of_hub(model, &error, &environment)? {
            Some(repository) => Ok(CheckpointPlace::Repository(repository)),
            None => Err(CommandError::input(&error).with_help(&error.help())),
        },
    }
}

/// Opens the checkpoint that `model`, a path, a model id or an address in an object store, names, or the headers of one in a
/// file.
pub(super) fn open_checkpoint(model: &str) -> Result<Checkpoint, CommandError> {
    if is_headers_file(Path::new(model)) {
        return Checkpoint::of_headers(Path::new(model))
            .map_err(|error| CommandError::input(&error).with_help(&error.help()));
    }
    let opened = Checkpoint::open_at(&checkpoint_place(model)?);
    opened.map_err(|error| CommandError::input(&error).with_help(&error.help()))
}

/// Finds a model on the hub that is not on this machine; `None` where it is no model id of two parts. Where no connection
/// is wanted, `error` stands, with a word about that.
fn of_hub(
    model: &str,
    error: &ModelError,
    environment: &HubEnvironment,
) -> Result<Option<Arc<dyn Repository>>, CommandError> {
    if !error.is_elsewhere() {
        return Ok(None);
    }
    Ok(hub_repository(model, Some(error), environment)?.map(|repository| repository as Arc<dyn Repository>))
}

/// Finds a model on the hub; `None` where it is no model id of two parts. `missing` says why it is not on this machine.
///
/// # Errors
/// The hub does not have it for this reader, or is not to be asked.
pub(super) fn hub_repository(
    model: &str,
    missing: Option<&ModelError>,
    environment: &HubEnvironment,
) -> Result<Option<Arc<HubRepository>>, CommandError> {
    // A single word is a directory that is missing, more often than one of the hub's oldest models.
    let Some((id, revision)) = parse_id(model).filter(|(id, _)| id.contains('/')) else { return Ok(None) };
    let refused = |refused: HubError| refused_by_hub(&refused, missing);
    let Some(access) = HubAccess::of_process(environment).map_err(refused)? else {
        let offline =
            "`HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set, so that the hub is not asked: unset it for that";
        let Some(missing) = missing else {
            return Err(
                CommandError::Input(format!("{} is not asked for", shown(model))).with_help(&[offline.to_owned()])
            );
        };
        let help: Vec<_> = missing.help().into_iter().chain([offline.to_owned()]).collect();
        return Err(CommandError::input(missing).with_help(&help));
    };
    HubRepository::open(access, id, revision).map(Some).map_err(refused)
}

/// The failure of a request to the hub for a model that is not on this machine.
pub(super) fn refused_by_hub(refused: &HubError, missing: Option<&ModelError>) -> CommandError {
    let failure = if refused.is_of_input() { CommandError::input(refused) } else { CommandError::run(refused) };
    // What is near on this machine may be what was meant.
    let near = missing.and_then(ModelError::nearest).map(|near| format!("did you mean {}?", shown(near)));
    failure.with_help(&near.into_iter().chain(refused.help()).collect::<Vec<_>>())
}

/// Refuses a checkpoint elsewhere for what needs its weights on this machine.
///
/// # Errors
/// It lies there: `why` says what needs them, and the help how to have them.
pub(super) fn need_weights_here(checkpoint: &Checkpoint, why: &str) -> Result<(), CommandError> {
    let Some(repository) = &checkpoint.repository else { return Ok(()) };
    let message = format!("{why}, which is {} and not on this machine", repository.place());
    let help = format!("download it first with {}", shown(&repository.download()));
    Err(CommandError::Input(message).with_help(&[help]))
}

/// Plans what the recipe does to the checkpoint, and shows warnings and notes.
pub(super) fn plan(source: &SourceArgs, screen: &Screen) -> Result<Plan, CommandError> {
    plan_of(read_recipe(&source.recipe, screen)?, source, screen)
}

/// Plans what a recipe that was read already does, as [`plan`].
pub(super) fn plan_of(recipe: Recipe, source: &SourceArgs, screen: &Screen) -> Result<Plan, CommandError> {
    let checkpoint = opened(&recipe, source, screen)?;
    planned(recipe, checkpoint, screen)
}

/// Opens the checkpoint, cut to the layers that are asked for.
fn opened(recipe: &Recipe, source: &SourceArgs, screen: &Screen) -> Result<Checkpoint, CommandError> {
    let checkpoint = checkpoint_of(recipe, source.model.as_deref(), screen)?;
    match source.smoke {
        Some(layers) => checkpoint.first_layers(layers).map_err(|error| CommandError::input(&error)),
        None => Ok(checkpoint),
    }
}

/// Opens the checkpoint that a recipe is for: `model`, or the recipe's own.
pub(super) fn checkpoint_of(recipe: &Recipe, model: Option<&str>, screen: &Screen) -> Result<Checkpoint, CommandError> {
    let Some(model) = model.or(recipe.model.as_deref()) else {
        return Err(CommandError::Input(
            "no checkpoint to work on: add `model:` to the recipe, or `--model DIR` to the command".to_owned(),
        ));
    };
    add_models_of(recipe, screen)?;
    let checkpoint = open_checkpoint(model)?;
    let adapters = recipe.adapters.iter().map(|adapter| open_adapter(&adapter.value));
    Ok(checkpoint.with_adapters(adapters.collect::<Result<_, _>>()?))
}

/// Opens the adapter that `text`, a path or an id in the Hugging Face cache, names.
pub(super) fn open_adapter(text: &str) -> Result<Adapter, CommandError> {
    let of_input = |error: &dyn std::error::Error, help: Vec<String>| {
        CommandError::Input(format!("the adapter {}: {}", shown(text), sentence(&error.to_string()))).with_help(&help)
    };
    let dir = resolve_adapter(text, &HubEnvironment::of_process()).map_err(|error| of_input(&error, error.help()))?;
    Adapter::open(&dir).map_err(|error| of_input(&error, error.help()))
}

/// Plans what another recipe does to the checkpoint of a plan, and shows the warnings and notes that were not said of that one.
pub(super) fn plan_beside(plan: &Plan, source: &SourceArgs, screen: &Screen) -> Result<Plan, CommandError> {
    let recipe = read_recipe(&source.recipe, screen)?;
    let checkpoint = opened(&recipe, source, screen)?;
    let said = plan.warnings.iter().chain(&plan.notes).map(|diagnostic| &*diagnostic.message);
    built(recipe, checkpoint, &said.collect(), screen)
}

/// Plans a recipe for a checkpoint that is open, and shows warnings and notes.
pub(super) fn planned(recipe: Recipe, checkpoint: Checkpoint, screen: &Screen) -> Result<Plan, CommandError> {
    built(recipe, checkpoint, &BTreeSet::new(), screen)
}

/// Plans a recipe, and shows warnings and notes but for those that were `said` before.
fn built(recipe: Recipe, checkpoint: Checkpoint, said: &BTreeSet<&str>, screen: &Screen) -> Result<Plan, CommandError> {
    match Plan::build(recipe, checkpoint) {
        Ok(plan) => {
            let all = plan.warnings.iter().chain(&plan.notes);
            let new: Vec<Diagnostic> = all.filter(|one| !said.contains(&*one.message)).cloned().collect();
            screen.diagnostics(&new, &plan.recipe.text);
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

/// Adds the families of the folder that `--models` names to what is known.
pub(super) fn add_models(folder: &Path, screen: &Screen) -> Result<(), CommandError> {
    match read_families(folder) {
        Ok(families) => {
            add_by_command(families);
            Ok(())
        }
        Err(FamiliesError::Folder(message, help)) => Err(CommandError::Input(message).with_help(&help)),
        Err(FamiliesError::Files(refused)) => Err(reported(&refused, screen)),
    }
}

/// Adds the families of the folder that the recipe names to what is known, in place of those of a recipe before it.
pub(super) fn add_models_of(recipe: &Recipe, screen: &Screen) -> Result<(), CommandError> {
    add_by_recipe(families_of(recipe, screen)?);
    Ok(())
}

/// Reads the families of the folder that the recipe names.
pub(super) fn families_of(recipe: &Recipe, screen: &Screen) -> Result<Vec<FamilyFile>, CommandError> {
    let Some(folder) = &recipe.models else { return Ok(Vec::new()) };
    read_families(Path::new(&folder.value)).map_err(|error| match error {
        FamiliesError::Folder(message, help) => {
            let diagnostic = Diagnostic::error(message).at(folder.span.clone());
            screen.diagnostics(&[help.into_iter().fold(diagnostic, Diagnostic::help)], &recipe.text);
            CommandError::Reported
        }
        FamiliesError::Files(refused) => reported(&refused, screen),
    })
}

/// Shows what is wrong with files, each under its own lines.
fn reported(refused: &[RecipeError], screen: &Screen) -> CommandError {
    for error in refused {
        screen.diagnostics(&error.diagnostics, &error.text);
    }
    CommandError::Reported
}
