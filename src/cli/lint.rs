//! `qwen-fp8 lint`: the structure of anybody's quantized checkpoint.

use schemars::JsonSchema;
use serde::Serialize;

use super::args::{LintArgs, ReportFormat};
use super::error::CommandError;
use super::findings::{fail_on_errors, render, report, verdict};
use super::json::JsonOutput;
use super::progress::ProgressReporter;
use super::screen::Screen;
use super::source::checkpoint_place;
use super::table::{Align, TextTable};
use super::wrap::width_of_stdout;
use crate::check::{self, Finding, RULES};

/// The findings about a checkpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LintOutput {
    directory: String,
    findings: Vec<Finding>,
}

impl JsonOutput for LintOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 lint --json`";
}

pub(super) fn lint(args: &LintArgs, screen: &Screen) -> Result<(), CommandError> {
    let model = match &args.model {
        Some(model) if !args.rules => model,
        _ => return if screen.quiet { Ok(()) } else { screen.data(&rules()) },
    };
    let place = checkpoint_place(model).map_err(CommandError::of_run)?;
    let judge = || check::lint_at(&place, &ProgressReporter::of_check(screen)).map_err(CommandError::from);
    let findings = check::on_threads_for(&[&place], judge)?;
    let failed = fail_on_errors(&findings);
    match args.format.format() {
        ReportFormat::Text => {
            let all = || format!("{}{}\n", render(&findings, screen.verbose), verdict(&findings));
            report(&findings, all, screen)?;
        }
        ReportFormat::Json => {
            screen.json(&LintOutput { directory: place.path().to_string_lossy().into_owned(), findings })?
        }
        ReportFormat::Sarif => screen.document(&check::sarif(&findings, &place))?,
    }
    failed
}

/// The rules as a table: for a terminal in its width, else in Markdown.
fn rules() -> String {
    if width_of_stdout().is_some() {
        let columns = ["code", "name", "lint", "verify", "what is wrong"].map(|name| (name, Align::Left));
        let mut table = TextTable::new(&columns);
        for rule in RULES {
            let texts = [rule.code, rule.name, rule.severity.name(), rule.strict.name(), &rule.text()];
            table.row(texts.map(str::to_owned));
        }
        return table.render();
    }
    let mut table = String::from("| code | name | `lint` | `verify` | what is wrong |\n|---|---|---|---|---|\n");
    for rule in RULES {
        let (lint, verify) = (rule.severity.name(), rule.strict.name());
        table.push_str(&format!("| {} | {} | {lint} | {verify} | {} |\n", rule.code, rule.name, rule.text()));
    }
    table
}
