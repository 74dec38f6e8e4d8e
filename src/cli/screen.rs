//! Where words go: data to stdout, everything else to stderr, nothing panics when either is gone.

use std::io::{self, IsTerminal, Write};

use super::args::{ColorWhen, Global};
use crate::recipe::RecipeText;
use crate::recipe::diagnostic::{self, Diagnostic, Level};

/// How much is said, and in which colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(super) color: bool,
}

/// Why a command did not do what was asked, and the exit code that says so.
#[derive(Debug)]
pub(super) enum Failure {
    /// The recipe or the checkpoint is at fault.
    Input(String),
    /// The same, and everything has been said already.
    Said,
    /// The run failed: files, memory, the machine.
    Run(String),
    /// A signal such as Ctrl-C, and the exit code that says which.
    Interrupted(String, u8),
}

impl Failure {
    pub(super) fn input(error: &dyn std::error::Error) -> Self {
        Self::Input(with_sources(error))
    }

    pub(super) fn run(error: &dyn std::error::Error) -> Self {
        Self::Run(with_sources(error))
    }

    /// The failure with hints below it, a line each.
    pub(super) fn with_help(self, help: &[String]) -> Self {
        let lines: String = help.iter().map(|line| format!("\n  = help: {line}")).collect();
        match self {
            Self::Input(text) => Self::Input(text + &lines),
            Self::Run(text) => Self::Run(text + &lines),
            Self::Interrupted(text, code) => Self::Interrupted(text + &lines, code),
            Self::Said => Self::Said,
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Said => 1,
            Self::Run(_) => 2,
            Self::Interrupted(_, code) => *code,
        }
    }
}

impl Screen {
    pub(super) fn new(global: &Global) -> Self {
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

    /// Data, to stdout.
    ///
    /// # Errors
    /// stdout cannot be written; a reader that went away is no error.
    pub(super) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Run(format!("standard output cannot be written: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Data as JSON, to stdout.
    pub(super) fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::run(&error))?;
        self.data(&format!("{}\n", harmless(&text)))
    }

    /// A line for people, to stderr, unless `--quiet`.
    pub(super) fn say(&self, line: &str) {
        if !self.quiet {
            say_anyway(line);
        }
    }

    /// Findings, each where it stands in the recipe; warnings only unless `--quiet`.
    pub(super) fn diagnostics(&self, diagnostics: &[Diagnostic], text: &RecipeText) {
        let shown: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| !self.quiet || diagnostic.level == Level::Error).cloned().collect();
        if !shown.is_empty() {
            say_anyway(diagnostic::render(&shown, text, self.color).trim_end());
        }
    }

    pub(super) fn failure(&self, failure: &Failure) {
        let (word, text) = match failure {
            Failure::Said => return,
            Failure::Input(text) | Failure::Run(text) => ("error", text),
            Failure::Interrupted(text, _) => ("interrupted", text),
        };
        if self.color {
            say_anyway(&format!("\x1b[1;31m{word}\x1b[0m: {text}"));
        } else {
            say_anyway(&format!("{word}: {text}"));
        }
    }
}

/// JSON with what a terminal acts on as `\u` escapes; outside of strings there is none of it but line ends.
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

/// An error and what caused it, one after the other on one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A line to stderr; when stderr is gone there is no one left to tell.
pub(super) fn say_anyway(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
