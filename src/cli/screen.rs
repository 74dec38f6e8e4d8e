//! The two output streams: data goes to stdout, everything else to stderr, and nothing panics when either is gone.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::args::{ColorWhen, GlobalArgs};
use super::error::CommandError;
use super::failure::{FailureOutput, RecipeDiagnostic};
use super::json::{JsonOutput, Versioned};
use super::wrap::fitted;
use crate::recipe::RecipeText;
use crate::recipe::diagnostic::{self, Diagnostic, Level};

/// The verbosity and the colours of a command, and what has been shown so far.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) color: bool,
    /// A program reads stdout and gets one object of JSON, whatever happens.
    json: bool,
    /// That object has been written.
    answered: AtomicBool,
    /// The diagnostics that were shown and not taken yet.
    diagnostics: Mutex<Vec<RecipeDiagnostic>>,
}

impl Screen {
    pub(super) fn new(global: &GlobalArgs, json: bool) -> Self {
        let color = match global.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
                    && io::stderr().is_terminal()
            }
        };
        Self { quiet: global.quiet, verbose: global.verbose, color, ..Self::plain(json) }
    }

    /// The screen of a command line that could not be understood.
    pub(super) fn plain(json: bool) -> Self {
        let (answered, diagnostics) = (AtomicBool::new(false), Mutex::default());
        Self { quiet: false, verbose: false, color: false, json, answered, diagnostics }
    }

    /// Writes what the command makes to stdout, as it is and whatever the verbosity.
    ///
    /// # Errors
    /// stdout cannot be written; a reader that went away is no error.
    pub(super) fn data(&self, text: &str) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(CommandError::Run(format!("standard output cannot be written: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a report for people to stdout, in lines that fit the terminal, unless `--quiet`.
    ///
    /// # Errors
    /// As [`Screen::data`].
    pub(super) fn report(&self, text: &str) -> Result<(), CommandError> {
        if self.quiet { Ok(()) } else { self.data(&fitted(text)) }
    }

    /// Writes the output of a command for programs to stdout.
    ///
    /// # Errors
    /// As [`Screen::data`].
    pub(super) fn json<T: JsonOutput>(&self, output: &T) -> Result<(), CommandError> {
        self.document(&Versioned::new(output))
    }

    /// Writes JSON that has a form of its own, such as SARIF, to stdout.
    ///
    /// # Errors
    /// As [`Screen::data`].
    pub(super) fn document(&self, document: &impl serde::Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(document).map_err(|error| CommandError::run(&error))?;
        self.answered.store(true, Ordering::Relaxed);
        self.data(&format!("{}\n", harmless(&text)))
    }

    /// Writes a line for people to stderr, unless `--quiet`.
    pub(super) fn say(&self, line: &str) {
        if !self.quiet {
            say_anyway(line);
        }
    }

    /// Shows diagnostics, each under its line of the recipe; `--quiet` leaves out the warnings.
    pub(super) fn diagnostics(&self, diagnostics: &[Diagnostic], text: &RecipeText) {
        let for_programs = diagnostics.iter().map(|diagnostic| RecipeDiagnostic::new(diagnostic, text));
        self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner).extend(for_programs);
        let shown: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| !self.quiet || diagnostic.level == Level::Error).cloned().collect();
        if !shown.is_empty() {
            say_anyway(diagnostic::render(&shown, text, self.color).trim_end());
        }
    }

    /// Takes the diagnostics that were shown since they were last taken.
    pub(super) fn take_diagnostics(&self) -> Vec<RecipeDiagnostic> {
        std::mem::take(&mut *self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the message of a failed command to stderr.
    pub(super) fn failure(&self, failure: &CommandError) {
        let (bare, details) = failure.parts();
        let (word, text) = match bare {
            CommandError::Reported | CommandError::Unproven(_) | CommandError::Detailed(..) => return,
            CommandError::Input(text) | CommandError::Run(text) => ("error", text),
            CommandError::Interrupted(text, _) => ("interrupted", text),
        };
        let help = details.map_or(&[][..], |details| &details.help);
        let help: String = help.iter().map(|line| format!("\n  = help: {line}")).collect();
        if self.color {
            say_anyway(&format!("\x1b[1;31m{word}\x1b[0m: {text}{help}"));
        } else {
            say_anyway(&format!("{word}: {text}{help}"));
        }
    }

    /// Writes a failure to stdout where a program reads it and has got nothing yet.
    //
    // A report that says of itself that something is at fault is the one object already: there is no second.
    pub(super) fn failure_as_json(&self, failure: &FailureOutput) {
        if self.json && !self.answered.load(Ordering::Relaxed) {
            // The command has failed already, and its exit code says so.
            let _ = self.json(failure);
        }
    }
}

/// Replaces control and direction characters, which a terminal acts on, by their `\u` escapes. In JSON they occur in
/// strings only.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

/// Writes a line to stderr, whatever the verbosity. A stderr that is gone is no error.
pub(super) fn say_anyway(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
