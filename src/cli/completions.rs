//! What a shell completes, and the manual pages: both are made from the description of the command line.

use std::ffi::OsStr;
use std::path::Path;

use clap::{CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::Shells;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::error::CommandError;
use super::screen::Screen;
use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::model_meant::cached_ids;
use crate::checkpoint::models::catalogue::families;
use crate::checkpoint::text::shown_path;
use crate::schemes::{Simd, registered};

/// The name by which shells call the program.
const NAME: &str = "qwen-fp8";
/// The variable by which the registered script asks for completions; its value is the shell.
const ASKS: &str = "QWEN_FP8_COMPLETE";

/// A shell that the program can complete in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShellName {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
}

/// Answers a shell that asks for completions, and ends the process; does nothing otherwise.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKS).bin(NAME).complete();
}

/// Prints the script by which a shell asks this program for completions.
pub(super) fn completions(args: &CompletionsArgs, screen: &Screen) -> Result<(), CommandError> {
    let name = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(&name) {
        shell.write_registration(ASKS, NAME, NAME, NAME, &mut script).map_err(|error| CommandError::run(&error))?;
    }
    screen.data(&String::from_utf8_lossy(&script))
}

/// Writes a manual page for the program and for each of its commands into a directory.
pub(super) fn man(args: &ManArgs, screen: &Screen) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::Run(format!("{} cannot be written: {error}", shown_path(&args.directory)))
    };
    std::fs::create_dir_all(&args.directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.directory).map_err(failed)?;
    let page = args.directory.join(format!("{NAME}.1"));
    screen.say(&format!(
        "wrote the manual pages; `man -l {}` shows the first",
        shown_path(&page).to_string().trim_matches('`')
    ));
    Ok(())
}

/// Completes recipes: files in YAML or TOML, and the directories on the way to them.
pub(super) fn recipes() -> PathCompleter {
    let is_recipe = |path: &Path| {
        let ending = path.extension().and_then(OsStr::to_str);
        path.is_dir() || ending.is_some_and(|ending| ["yaml", "yml", "toml"].contains(&ending))
    };
    PathCompleter::any().filter(is_recipe).stdio()
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
