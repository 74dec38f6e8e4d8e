//! The report of `lint` and `verify`: findings grouped by rule, and errors that prevent a verdict.

use super::adapters::GIVE_ADAPTERS;
use super::error::CommandError;
use super::screen::Screen;
use crate::check::{CheckError, Finding, Severity};
use crate::checkpoint::text::count;

/// The number of findings of one rule that are shown in full; the rest is counted.
const SHOWN: usize = 5;

impl From<CheckError> for CommandError {
    fn from(error: CheckError) -> Self {
        match &error {
            CheckError::Open(reason) | CheckError::Source(reason) => Self::run(&error).with_help(&reason.help()),
            CheckError::OwnSource(_) => {
                Self::run(&error).with_help(&["say with `--source` what the output was made from".to_owned()])
            }
            CheckError::NoAdapters { .. } => Self::run(&error).with_help(&[GIVE_ADAPTERS.to_owned()]),
            CheckError::Adapter(_)
            | CheckError::Read(_)
            | CheckError::QuantizedSource(_)
            | CheckError::Layers(_)
            | CheckError::Cancelled => Self::run(&error),
        }
    }
}

/// The text of the findings: a few of each rule, or all of them.
pub(super) fn render(findings: &[Finding], all: bool) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (finding.severity, finding.rule.code));
    let mut text = String::new();
    for group in sorted.chunk_by(|a, b| (a.severity, a.rule.code) == (b.severity, b.rule.code)) {
        let shown = if all { group.len() } else { SHOWN };
        for finding in group.iter().take(shown) {
            let place = finding.place.describe();
            text.push_str(&format!("{}[{}]: {}\n", finding.severity.name(), finding.rule.code, finding.message));
            if !place.is_empty() {
                text.push_str(&format!(" --> {place}\n"));
            }
            if !finding.help.is_empty() {
                text.push_str(&format!("  = help: {}\n", finding.help));
            }
        }
        if group.len() > shown {
            text.push_str(&format!("  … and {} more of {}\n", group.len() - shown, group[0].rule.code));
        }
    }
    text
}

/// Writes the report `all` to stdout; of the findings only the errors under `--quiet`.
pub(super) fn report(findings: &[Finding], all: impl FnOnce() -> String, screen: &Screen) -> Result<(), CommandError> {
    if !screen.quiet {
        return screen.report(&all());
    }
    let errors: Vec<Finding> = findings.iter().filter(|finding| finding.severity == Severity::Error).cloned().collect();
    screen.data(&render(&errors, screen.verbose))
}

/// The number of findings of each severity, such as `2 errors, 1 warning`.
pub(super) fn verdict(findings: &[Finding]) -> String {
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| {
            let number = findings.iter().filter(|finding| finding.severity == severity).count();
            (number > 0).then(|| count(number, severity.name()))
        })
        .collect();
    if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") }
}

/// Fails where the findings, which have been shown already, contain an error.
pub(super) fn fail_on_errors(findings: &[Finding]) -> Result<(), CommandError> {
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    if failed { Err(CommandError::Reported) } else { Ok(()) }
}
