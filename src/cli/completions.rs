//! `qwen-fp8 completions` and `man`: both are made from the description of the command line.

use clap::{CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::error::CommandError;
use super::next_steps::typed;
use super::screen::Screen;
use crate::checkpoint::text::shown_path;

/// The name by which shells call the program.
const NAME: &str = "qwen-fp8";
/// The variable by which the registered script asks for completions; its value is the shell.
const ASKS: &str = "QWEN_FP8_COMPLETE";

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
    let show =
        typed(&args.directory.join(format!("{NAME}.1"))).map(|page| format!("; `man -l {page}` shows the first"));
    screen.say(&format!("wrote the manual pages{}", show.unwrap_or_default()));
    Ok(())
}
