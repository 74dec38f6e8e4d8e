//! The two output streams: data goes to stdout, everything else to stderr, and nothing panics when either is gone.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::args::{ColorWhen, GlobalArgs};
use super::error::CommandError;
use super::events::{Event, EventLog};
use super::failure::{FailureOutput, RecipeDiagnostic};
use super::json::{JsonOutput, Versioned};
use super::wrap::{broken, fitted, width_of_stderr, wrapped};
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
    /// Whether that object has been written.
    answer: Mutex<Answer>,
    /// The bar that is on the terminal, if any.
    bar: Mutex<Option<ProgressBar>>,
    /// The diagnostics that were shown and not taken yet.
    diagnostics: Mutex<Vec<RecipeDiagnostic>>,
    /// The place of events for programs, where they are asked for.
    events: Option<Arc<EventLog>>,
}

/// The one object of JSON that a program reads from stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Open,
    Given,
    /// Given by a signal, which ends the process.
    Last,
}

impl Screen {
    pub(super) fn new(global: &GlobalArgs, events: Option<EventLog>, json: bool) -> Self {
        let color = match global.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
                    && io::stderr().is_terminal()
            }
        };
        let events = events.map(Arc::new);
        Self { quiet: global.quiet, verbose: global.verbose, color, events, ..Self::plain(json) }
    }

    /// The screen of a command line that could not be understood.
    pub(super) fn plain(json: bool) -> Self {
        let (answer, bar, diagnostics) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { quiet: false, verbose: false, color: false, json, answer, bar, diagnostics, events: None }
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
        let mut answer = self.answer();
        *answer = Answer::Given;
        self.write_document(document)
    }

    /// Writes JSON in a layout of its own to stdout.
    ///
    /// # Errors
    /// As [`Screen::data`].
    pub(super) fn json_text(&self, json: &str) -> Result<(), CommandError> {
        self.data(&harmless(json))
    }

    fn write_document(&self, document: &impl serde::Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(document).map_err(|error| CommandError::run(&error))?;
        self.data(&format!("{}\n", harmless(&text)))
    }

    /// What has been answered, which nobody else answers while this is held.
    fn answer(&self) -> MutexGuard<'_, Answer> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        if *answer == Answer::Last {
            drop(answer);
            // The thread that gave it ends the process, with its exit code.
            loop {
                thread::park();
            }
        }
        answer
    }

    /// Reports whether a program reads stdout.
    pub(super) fn answers_in_json(&self) -> bool {
        self.json
    }

    /// The place of events for programs.
    pub(super) fn events(&self) -> Option<Arc<EventLog>> {
        self.events.clone()
    }

    /// Writes an event, where they are asked for.
    pub(super) fn event(&self, event: &Event<'_>) {
        if let Some(events) = &self.events {
            events.write(event);
        }
    }

    /// Remembers a bar, to clear it where a signal ends the process.
    pub(super) fn clear_at_the_end(&self, bar: &ProgressBar) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
    }

    /// Takes the bar, if there is one, from the terminal.
    pub(super) fn clear(&self) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.finish_and_clear();
            // Workers go on for a moment, and would draw it again.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Writes a line for people to stderr, in the width of its terminal, unless `--quiet`.
    pub(super) fn say(&self, line: &str) {
        if !self.quiet {
            say_anyway(line);
        }
    }

    /// Writes lines that are to be typed to stderr, as they are, unless `--quiet`.
    //
    // A shell would take a line that is broken for two.
    pub(super) fn say_unbroken(&self, lines: &str) {
        if !self.quiet {
            to_stderr(lines);
        }
    }

    /// Shows diagnostics, each under its line of the recipe; `--quiet` leaves out all but errors.
    pub(super) fn diagnostics(&self, diagnostics: &[Diagnostic], text: &RecipeText) {
        let for_programs = diagnostics.iter().map(|diagnostic| RecipeDiagnostic::new(diagnostic, text));
        self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner).extend(for_programs);
        let shown: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| !self.quiet || diagnostic.level == Level::Error).cloned().collect();
        if !shown.is_empty() {
            let width = width_of_stderr();
            let shown = match width {
                Some(width) => shown.into_iter().map(|diagnostic| narrowed(diagnostic, text, width)).collect(),
                None => shown,
            };
            to_stderr(diagnostic::render_within(&shown, text, self.color, width).trim_end());
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
            CommandError::Reported | CommandError::Verdict(_) | CommandError::Detailed(..) => return,
            CommandError::Input(text)
            | CommandError::Usage(text)
            | CommandError::Run(text)
            | CommandError::Parts(text) => ("error", text),
            CommandError::Interrupted(text, _) => ("interrupted", text),
        };
        let help = details.map_or(&[][..], |details| &details.help);
        let help: String = help.iter().map(|line| format!("\n  = help: {line}")).collect();
        let said = format!("{word}: {text}{help}");
        let said = width_of_stderr().map_or_else(|| said.clone(), |width| wrapped(&said, width));
        let said = said.trim_end();
        match said.strip_prefix(word).filter(|_| self.color) {
            Some(rest) => to_stderr(&format!("\x1b[1;31m{word}\x1b[0m{rest}")),
            None => to_stderr(said),
        }
    }

    /// Writes a failure to stdout where a program reads it and has got nothing yet.
    //
    // A report that says of itself that something is at fault is the one object already: there is no second.
    pub(super) fn failure_as_json(&self, failure: &FailureOutput) {
        let mut answer = self.answer();
        if self.json && *answer == Answer::Open {
            *answer = Answer::Given;
            // The command has failed already, and its exit code says so.
            let _ = self.write_document(&Versioned::new(failure));
        }
    }

    /// Writes the failure of a command that a signal ends, as [`Screen::failure_as_json`] does; no answer follows it.
    //
    // An answer that is being written is left alone: its reader may never take the rest.
    pub(super) fn last_answer_as_json(&self, failure: &FailureOutput) {
        let Ok(mut answer) = self.answer.try_lock() else { return };
        if self.json && *answer == Answer::Open {
            let _ = self.write_document(&Versioned::new(failure));
        }
        *answer = Answer::Last;
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

/// The diagnostic in lines that fit the width. Its label joins the message where it does not fit beside the mark.
fn narrowed(mut diagnostic: Diagnostic, text: &RecipeText, width: usize) -> Diagnostic {
    let end = diagnostic.span.as_ref().map(|span| text.position(span.end.max(span.start)));
    let (line, column) = end.map_or((1, 1), |end| (end.line, end.column));
    let digits = line.to_string().len();
    if !diagnostic.label.is_empty() && digits + " | ".len() + column + 1 + diagnostic.label.chars().count() > width {
        let label = std::mem::take(&mut diagnostic.label);
        diagnostic.message = format!("{}: {label}", diagnostic.message);
    }
    let fit = |text: &str, before: usize| {
        let lines = text.lines().flat_map(|line| {
            let fits = line.chars().count() + before <= width;
            if fits { vec![line.to_owned()] } else { broken(line, width.saturating_sub(before)) }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let word = match diagnostic.level {
        Level::Error => "error: ",
        Level::Warning => "warning: ",
        Level::Note => "note: ",
    };
    diagnostic.message = fit(&diagnostic.message, word.len());
    diagnostic.help = diagnostic.help.iter().map(|help| fit(help, digits + " = help: ".len())).collect();
    diagnostic
}

/// Writes a line to stderr, in the width of its terminal, whatever the verbosity.
pub(super) fn say_anyway(line: &str) {
    match width_of_stderr() {
        Some(width) => to_stderr(wrapped(line, width).trim_end()),
        None => to_stderr(line),
    }
}

/// Writes a line to stderr as it is. A stderr that is gone is no error.
fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
