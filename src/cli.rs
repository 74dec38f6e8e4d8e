//! The command line: one file per command, each a translation from what was typed to what the engine wants.

mod apply;
mod args;
mod completers;
mod completions;
mod diff;
mod editor_schema;
mod error;
mod explain;
mod failure;
mod findings;
mod fit;
mod init;
mod inspect;
mod interrupt;
mod json;
mod junit;
mod lint;
mod lock;
mod machine;
mod manifest;
mod models;
mod next_steps;
mod outputs;
mod plan;
mod progress;
mod report;
mod schemes;
mod screen;
mod source;
mod table;
mod tensor_stats;
mod test_recipes;
mod timings;
mod usage;
mod validate;
mod verify;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use args::{Cli, Command};
use error::CommandError;
use failure::FailureOutput;
use screen::Screen;

use crate::check::on_all_processors;

/// Runs the command line of this process.
///
/// A crate that adds schemes calls this from its own `main` after `use its_schemes as _;`.
pub fn main() -> ExitCode {
    completions::answer();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = usage::asks_for_json(&arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &Screen::plain(json)),
    };
    let screen = Arc::new(Screen::new(&cli.global, json));
    if !matches!(cli.command, Command::Apply(_)) {
        // Without a handler the system ends the command, which is as good but for the last word.
        let _ = interrupt::end_in_order(&screen);
    }
    if let Some(folder) = &cli.global.models
        && let Err(failure) = source::add_models(folder)
    {
        return failed(&failure, &screen);
    }
    let done = match &cli.command {
        Command::Init(args) => init::init(args, &screen),
        Command::Apply(args) => apply::apply(args, &screen),
        Command::Plan(args) => plan::plan(args, &screen),
        Command::Fit(args) => fit::fit(args, &screen),
        Command::Explain(args) => explain::explain(args, &screen),
        Command::Validate(args) => validate::validate(args, &screen),
        Command::Test(args) => test_recipes::test(args, &screen),
        Command::Schema(args) => outputs::schema(args, &screen),
        Command::Schemes(args) => schemes::schemes(args, &screen),
        Command::Models(args) => models::models(args, &screen),
        Command::Inspect(args) => inspect::inspect(args, &screen),
        Command::Verify(args) => on_all_processors(|| verify::verify(args, &screen)),
        Command::Lint(args) => on_all_processors(|| lint::lint(args, &screen)),
        Command::Diff(args) => on_all_processors(|| diff::diff(args, &screen)),
        Command::Completions(args) => completions::completions(args, &screen),
        Command::Man(args) => completions::man(args, &screen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure, &screen),
    }
}

fn failed(failure: &CommandError, screen: &Screen) -> ExitCode {
    screen.failure(failure);
    screen.failure_as_json(&FailureOutput::new(failure, screen.take_diagnostics()));
    ExitCode::from(failure.exit_code())
}
