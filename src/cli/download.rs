//! `apply --download`: puts a model of the hub into the Hugging Face cache before it is planned.

use std::path::Path;

use qwen_fp8_hub::HubError;

use super::args::ApplyArgs;
use super::error::CommandError;
use super::interrupt::Interrupt;
use super::progress::ProgressReporter;
use super::proof::CancelledProgress;
use super::screen::Screen;
use super::source::{hub_repository, refused_by_hub};
use super::store;
use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::model_id::resolve;
use crate::checkpoint::text::{shown, shown_path};
use crate::checkpoint::{Checkpoint, is_headers_file};
use crate::recipe::Recipe;

/// Puts the model of a recipe, or the one that the command names, into the cache, unless it is on this machine as a whole.
///
/// # Errors
/// It cannot be had, or is no model of the hub; or a signal ends the download.
pub(super) fn download(
    recipe: &Recipe,
    args: &ApplyArgs,
    interrupt: &Interrupt,
    screen: &Screen,
) -> Result<(), CommandError> {
    let Some(model) = args.source.model.as_deref().or(recipe.model.as_deref()) else { return Ok(()) };
    if store::is_address(model) || is_headers_file(Path::new(model)) {
        let message = format!("`--download` is for models of the hub, and {} is none", shown(model));
        return Err(CommandError::Input(message));
    }
    let environment = HubEnvironment::of_process();
    let found = resolve(model, &environment);
    let cache = environment.hub_cache();
    let missing = match (&found, &cache) {
        // A shard may be missing there: then the download goes on.
        (Ok(dir), Some(cache)) if dir.starts_with(cache) => match Checkpoint::open(dir) {
            Ok(_) => return Ok(()),
            Err(error) => CommandError::input(&error).with_help(&error.help()),
        },
        // Whatever is wrong with a directory, the plan says it.
        (Ok(_), _) => return Ok(()),
        (Err(error), _) => CommandError::input(error).with_help(&error.help()),
    };
    let near = found.as_ref().err();
    let Some(repository) = hub_repository(model, near, &environment)? else { return Err(missing) };
    let cache = cache.ok_or_else(|| {
        let message = "there is no home directory for the Hugging Face cache to be in".to_owned();
        CommandError::Input(message).with_help(&["set `HF_HOME` or `HF_HUB_CACHE`".to_owned()])
    })?;
    // Looked at before hours are spent on it: a model of another form has no headers to read.
    let checkpoint = Checkpoint::open_remote(repository.clone());
    let checkpoint = checkpoint.map_err(|error| CommandError::input(&error).with_help(&error.help()))?;
    let progress = ProgressReporter::of_check(screen);
    let progress = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
    let snapshot = repository.download_into(&cache, |name| checkpoint.has_use_of(name), &progress);
    let snapshot = snapshot.map_err(|error| match error {
        HubError::Cancelled => {
            let message = "what was downloaded stays in the cache, and the same command goes on".to_owned();
            CommandError::Interrupted(message, interrupt.exit_code())
        }
        error => refused_by_hub(&error, near),
    })?;
    screen.say(&format!("downloaded: {} is in {}", shown(model), shown_path(&snapshot)));
    Ok(())
}
