//! What `lint` and `verify` say: findings under their rules, and where the verdict cannot be reached.

use std::path::PathBuf;

use super::screen::Failure;
use crate::check::{CheckError, Finding, Severity};
use crate::checkpoint::model_id::{HubEnvironment, resolve};

/// Findings of one rule that are shown; the rest is a number.
const SHOWN: usize = 5;

/// The directory that is meant.
pub(super) fn directory(model: &str) -> Result<PathBuf, Failure> {
    resolve(model, &HubEnvironment::of_process()).map_err(|error| Failure::run(&error).with_help(&error.help()))
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match &error {
            CheckError::Open(reason) | CheckError::Source(reason) => Self::run(&error).with_help(&reason.help()),
            CheckError::Read(_) | CheckError::QuantizedSource(_) => Self::run(&error),
        }
    }
}

/// The findings, a few of each rule unless `all`.
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

/// `2 errors, 1 warning`, or that there is nothing.
pub(super) fn verdict(findings: &[Finding]) -> String {
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(|severity| {
            let number = findings.iter().filter(|finding| finding.severity == severity).count();
            (number > 0).then(|| format!("{number} {}{}", severity.name(), if number == 1 { "" } else { "s" }))
        })
        .collect();
    if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") }
}

/// The failure that errors among the findings are; they have been shown.
pub(super) fn fail_on_errors(findings: &[Finding]) -> Result<(), Failure> {
    match findings.iter().any(|finding| finding.severity == Severity::Error) {
        true => Err(Failure::Said),
        false => Ok(()),
    }
}
