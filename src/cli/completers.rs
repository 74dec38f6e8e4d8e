//! What a shell completes beside commands and options: recipes, checkpoints, families, schemes, instruction sets.

use std::ffi::OsStr;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};

use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::model_meant::cached_ids;
use crate::checkpoint::models::catalogue::families;
use crate::recipe::RecipeText;
use crate::schemes::{Simd, registered};

/// Completes recipes: files in YAML or TOML, and the directories on the way to them.
pub(super) fn recipes() -> PathCompleter {
    PathCompleter::any().filter(|path| path.is_dir() || RecipeText::is_by_ending(path)).stdio()
}

/// Completes checkpoints: directories, and the ids of the Hugging Face cache.
pub(super) fn checkpoints(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = PathCompleter::dir().complete(typed);
    let ids = cached_ids(&HubEnvironment::of_process()).into_iter();
    candidates.extend(beginning_with(typed, ids.map(CompletionCandidate::new)));
    candidates
}

/// Completes what `models` takes: families by their classes, and checkpoints.
pub(super) fn families_and_checkpoints(typed: &OsStr) -> Vec<CompletionCandidate> {
    let known = families().into_iter().flat_map(|family| {
        let name = family.name;
        family
            .architectures
            .into_iter()
            .map(move |class| CompletionCandidate::new(class).help(Some(name.clone().into())))
    });
    let mut candidates: Vec<_> = beginning_with(typed, known).collect();
    candidates.extend(checkpoints(typed));
    candidates
}

/// Completes the names of schemes.
pub(super) fn scheme_names() -> Vec<CompletionCandidate> {
    let named = registered().into_iter();
    named.map(|scheme| CompletionCandidate::new(scheme.name).help(Some(scheme.summary.into()))).collect()
}

/// Completes the instruction sets of this machine.
pub(super) fn instruction_sets() -> Vec<CompletionCandidate> {
    Simd::available().into_iter().map(|set| CompletionCandidate::new(set.name())).collect()
}

fn beginning_with(
    typed: &OsStr,
    candidates: impl Iterator<Item = CompletionCandidate>,
) -> impl Iterator<Item = CompletionCandidate> {
    let typed = typed.to_string_lossy().into_owned();
    candidates.filter(move |candidate| candidate.get_value().to_string_lossy().starts_with(&typed))
}
