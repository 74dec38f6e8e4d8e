//! The two output streams: data goes to stdout, everything else to stderr, and nothing panics when either is gone.

use std::io::{self, IsTerminal, Write};

use super::args::{ColorWhen, GlobalArgs};
use super::error::CommandError;
use crate::recipe::RecipeText;
use crate::recipe::diagnostic::{self, Diagnostic, Level};

/// The verbosity and the colours of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) color: bool,
}

impl Screen {
    pub(super) fn new(global: &GlobalArgs) -> Self {
        let color = match global.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
                    && io::stderr().is_terminal()
            }
        };
        Self { quiet: global.quiet, verbose: global.verbose, color }
    }

    /// Writes data to stdout.
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

    /// Writes data as JSON to stdout.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(|error| CommandError::run(&error))?;
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
        let shown: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| !self.quiet || diagnostic.level == Level::Error).cloned().collect();
        if !shown.is_empty() {
            say_anyway(diagnostic::render(&shown, text, self.color).trim_end());
        }
    }

    /// Writes the message of a failed command to stderr.
    pub(super) fn failure(&self, failure: &CommandError) {
        let (word, text) = match failure {
            CommandError::Reported | CommandError::Unproven(_) => return,
            CommandError::Input(text) | CommandError::Run(text) => ("error", text),
            CommandError::Interrupted(text, _) => ("interrupted", text),
        };
        if self.color {
            say_anyway(&format!("\x1b[1;31m{word}\x1b[0m: {text}"));
        } else {
            say_anyway(&format!("{word}: {text}"));
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
