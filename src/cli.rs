//! The command line: one file per command, each a translation from what was typed to what the engine wants.

mod adapters;
mod apply;
mod args;
mod budget;
mod completers;
mod completions;
mod delta;
mod diff;
mod doctor;
mod download;
mod editor_schema;
mod error;
mod events;
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
mod pace;
mod part_number;
mod parts;
mod plan;
mod progress;
mod proof;
mod push;
mod recipe_schema;
mod report;
mod schemes;
mod screen;
mod slurm;
mod source;
mod store;
mod table;
mod tensor_stats;
mod test_recipes;
mod timings;
mod undrafted;
mod usage;
mod validate;
mod verify;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use error::CommandError;
use events::{Event, EventLog};
use failure::FailureOutput;
use screen::Screen;

use crate::check::on_all_processors;
use crate::checkpoint::text::shown_path;

/// Runs the command line of this process.
///
/// A crate that adds schemes calls this from its own `main` after `use its_schemes as _;`.
pub fn main() -> ExitCode {
    completions::answer();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = usage::asks_for_json(&arguments);
    let parsed = Cli::command().try_get_matches_from(&arguments).and_then(|mut matches| {
        let name = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((name, Cli::from_arg_matches_mut(&mut matches)?))
    });
    let (name, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage::report(&error, &Screen::plain(json)),
    };
    let screen = match screen(&cli, &name, json) {
        Ok(screen) => screen,
        Err(failure) => return failed(&failure, &Screen::plain(json)),
    };
    if !matches!(cli.command, Command::Apply(_) | Command::Delta(_) | Command::ApplyDelta(_)) {
        // Without a handler the system ends the command, which is as good but for the last word.
        let _ = interrupt::end_in_order(&screen);
    }
    if let Some(folder) = &cli.global.models
        && let Err(failure) = source::add_models(folder, &screen)
    {
        return failed(&failure, &screen);
    }
    let done = match &cli.command {
        Command::Doctor(args) => doctor::doctor(args, &screen),
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
        Command::Verify(args) => verify::verify(args, &screen),
        Command::Lint(args) => lint::lint(args, &screen),
        Command::Diff(args) => diff::diff(args, &screen),
        Command::Delta(args) => on_all_processors(|| delta::delta(args, &screen)),
        Command::ApplyDelta(args) => on_all_processors(|| delta::apply_delta(args, &screen)),
        Command::Completions(args) => completions::completions(args, &screen),
        Command::Man(args) => completions::man(args, &screen),
    };
    match done {
        Ok(()) => {
            screen.event(&Event::Ended { exit_code: 0, error: None });
            ExitCode::SUCCESS
        }
        Err(failure) => failed(&failure, &screen),
    }
}

/// The screen of a command, whose first event is written.
fn screen(cli: &Cli, name: &str, json: bool) -> Result<Arc<Screen>, CommandError> {
    let log = cli.global.events.as_ref().map(|path| {
        EventLog::open(path).map_err(|error| {
            CommandError::Run(format!("the events cannot be written to {}: {error}", shown_path(path)))
        })
    });
    let screen = Screen::new(&cli.global, log.transpose()?, json);
    screen.event(&Event::Started { schema_version: json::SCHEMA_VERSION, command: name });
    Ok(Arc::new(screen))
}

fn failed(failure: &CommandError, screen: &Screen) -> ExitCode {
    screen.failure(failure);
    let output = FailureOutput::new(failure, screen.take_diagnostics());
    screen.failure_as_json(&output);
    screen.event(&Event::Ended { exit_code: failure.exit_code(), error: output.message(failure) });
    ExitCode::from(failure.exit_code())
}
