//! `qwen-fp8 lint`: the structure of anybody's quantized checkpoint.

use serde_json::json;

use super::args::{LintArgs, LintFormat};
use super::error::CommandError;
use super::findings::{fail_on_errors, render, verdict};
use super::progress::ProgressReporter;
use super::screen::Screen;
use super::source::checkpoint_dir;
use crate::check::{self, RULES};

pub(super) fn lint(args: &LintArgs, screen: &Screen) -> Result<(), CommandError> {
    let model = match &args.model {
        Some(model) if !args.rules => model,
        _ => return screen.data(&rules()),
    };
    let dir = checkpoint_dir(model)?;
    let findings = check::lint(&dir, &ProgressReporter::of_check(screen))?;
    match args.format {
        LintFormat::Text => screen.data(&format!("{}{}\n", render(&findings, screen.verbose), verdict(&findings)))?,
        LintFormat::Json => screen.json(&json!({ "directory": dir.to_string_lossy(), "findings": findings }))?,
        LintFormat::Sarif => screen.json(&check::sarif(&findings, &dir))?,
    }
    fail_on_errors(&findings)
}

fn rules() -> String {
    let mut table = String::from("| code | name | `lint` | `verify` | what is wrong |\n|---|---|---|---|---|\n");
    for rule in RULES {
        let (lint, verify) = (rule.severity.name(), rule.strict.name());
        table.push_str(&format!("| {} | {} | {lint} | {verify} | {} |\n", rule.code, rule.name, rule.text()));
    }
    table
}
