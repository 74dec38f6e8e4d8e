//! The failure of a command as programs read it.

use schemars::JsonSchema;
use serde::Serialize;

use super::error::CommandError;
use super::json::JsonOutput;
use crate::recipe::RecipeText;
use crate::recipe::diagnostic::{Diagnostic, Level};

/// What a command prints in place of its output where it fails.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FailureOutput {
    error: FailureBody,
}

impl JsonOutput for FailureOutput {
    const TITLE: &'static str = "Failure of a command under `--json`";
}

/// What is wrong, where, and what to do.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FailureBody {
    kind: FailureKind,
    /// The exit code of the process.
    exit_code: u8,
    /// The fault in one line; of the first one where a recipe has several.
    pub(super) message: String,
    /// The places that are to blame, as far as they are known.
    pub(super) places: Vec<FailurePlace>,
    /// The ways out, a line each.
    pub(super) help: Vec<String>,
    /// Everything that is wrong with a recipe, and what it was warned of before the failure.
    pub(super) diagnostics: Vec<RecipeDiagnostic>,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FailureKind {
    /// The command line.
    Usage,
    /// The recipe, or the recipe and the checkpoint together; `diagnostics` says all of it.
    Recipe,
    /// The checkpoint, or something that an argument names.
    Input,
    /// The run: files, memory, the machine.
    Run,
    /// Parts of a run, which are missing, another job's, or spoilt.
    Parts,
    /// A signal ended the run.
    Interrupted,
}

/// A file, and a place in it where there is a text to point into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct FailurePlace {
    pub(super) file: String,
    /// The line, from 1.
    pub(super) line: Option<usize>,
    /// The character of the line, from 1.
    pub(super) column: Option<usize>,
    pub(super) end_line: Option<usize>,
    /// The character after the last one.
    pub(super) end_column: Option<usize>,
}

/// An error or a warning about a recipe.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct RecipeDiagnostic {
    pub(super) level: DiagnosticLevel,
    /// The fault in one line.
    pub(super) message: String,
    /// What is said of the place itself; may be empty.
    pub(super) label: String,
    pub(super) place: FailurePlace,
    /// The ways out, a line each.
    pub(super) help: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DiagnosticLevel {
    Error,
    Warning,
    Note,
}

impl RecipeDiagnostic {
    /// Takes a diagnostic, with its place in `text`.
    pub(super) fn new(diagnostic: &Diagnostic, text: &RecipeText) -> Self {
        let mut place = FailurePlace::of_file(text.path.to_string_lossy().into_owned());
        if let Some(span) = diagnostic.span.as_ref().filter(|_| !text.text.is_empty()) {
            let (start, end) = (text.position(span.start), text.position(span.end.max(span.start)));
            (place.line, place.column) = (Some(start.line), Some(start.column));
            (place.end_line, place.end_column) = (Some(end.line), Some(end.column));
        }
        Self {
            level: match diagnostic.level {
                Level::Error => DiagnosticLevel::Error,
                Level::Warning => DiagnosticLevel::Warning,
                Level::Note => DiagnosticLevel::Note,
            },
            message: diagnostic.message.clone(),
            label: diagnostic.label.clone(),
            place,
            help: diagnostic.help.clone(),
        }
    }
}

impl FailurePlace {
    fn of_file(file: String) -> Self {
        Self { file, line: None, column: None, end_line: None, end_column: None }
    }
}

impl FailureBody {
    /// The failure of what has shown these diagnostics.
    pub(super) fn new(failure: &CommandError, diagnostics: Vec<RecipeDiagnostic>) -> Self {
        let (bare, details) = failure.parts();
        let first = diagnostics.iter().find(|diagnostic| diagnostic.level == DiagnosticLevel::Error);
        let of_recipe = first.filter(|_| matches!(bare, CommandError::Reported));
        let kind = match bare {
            CommandError::Usage(_) => FailureKind::Usage,
            CommandError::Run(_) => FailureKind::Run,
            CommandError::Parts(_) => FailureKind::Parts,
            CommandError::Interrupted(..) => FailureKind::Interrupted,
            _ if of_recipe.is_some() => FailureKind::Recipe,
            _ => FailureKind::Input,
        };
        let message = match (bare, of_recipe) {
            (
                CommandError::Input(text)
                | CommandError::Usage(text)
                | CommandError::Run(text)
                | CommandError::Parts(text)
                | CommandError::Interrupted(text, _),
                _,
            ) => text.clone(),
            (_, Some(first)) => first.message.clone(),
            (_, None) => "the input is at fault".to_owned(),
        };
        let mut help: Vec<String> = of_recipe.map_or_else(Vec::new, |first| first.help.clone());
        let mut places = Vec::new();
        if of_recipe.is_some() {
            let errors = diagnostics.iter().filter(|diagnostic| diagnostic.level == DiagnosticLevel::Error);
            places.extend(errors.map(|diagnostic| diagnostic.place.clone()));
        }
        if let Some(details) = details {
            help.extend_from_slice(&details.help);
            let file = details.file.as_ref().map(|file| file.to_string_lossy().into_owned());
            places.extend(file.map(FailurePlace::of_file));
        }
        Self { kind, exit_code: failure.exit_code(), message, places, help, diagnostics }
    }
}

impl FailureOutput {
    /// The message; `None` of a verdict, which is an answer.
    pub(super) fn message(&self, failure: &CommandError) -> Option<&str> {
        let is_verdict = matches!(failure.parts().0, CommandError::Verdict(_));
        (!is_verdict).then_some(&self.error.message)
    }

    /// The failure of a command that has shown these diagnostics.
    pub(super) fn new(failure: &CommandError, diagnostics: Vec<RecipeDiagnostic>) -> Self {
        Self { error: FailureBody::new(failure, diagnostics) }
    }

    /// A command line that is wrong.
    pub(super) fn of_usage(message: String, help: Vec<String>, exit_code: u8) -> Self {
        let (places, diagnostics) = (Vec::new(), Vec::new());
        Self { error: FailureBody { kind: FailureKind::Usage, exit_code, message, places, help, diagnostics } }
    }
}
