//! `qwen-fp8 validate`: all diagnostics of recipes, without a checkpoint.

mod sarif;

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::{ReportFormat, ValidateArgs};
use super::error::CommandError;
use super::failure::{DiagnosticLevel, RecipeDiagnostic};
use super::json::JsonOutput;
use super::screen::Screen;
use super::source::{families_of, read_recipe};
use crate::checkpoint::text::{count, shown_path};
use crate::plan::Plan;
use crate::recipe::STDIN;

/// The recipes in the order in which they were named.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ValidateOutput {
    recipes: Vec<ValidatedRecipe>,
}

impl JsonOutput for ValidateOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 validate --json`";
}

/// A recipe and what there is to say of it.
#[derive(Debug, Serialize, JsonSchema)]
struct ValidatedRecipe {
    path: String,
    /// True where no diagnostic is an error.
    valid: bool,
    /// The number of its rules; null where it could not be read.
    rules: Option<usize>,
    diagnostics: Vec<RecipeDiagnostic>,
}

pub(super) fn validate(args: &ValidateArgs, screen: &Screen) -> Result<(), CommandError> {
    let format = args.format.format();
    let mut recipes = Vec::new();
    for path in &args.recipes {
        let recipe = read_recipe(path, screen).ok();
        let path = if path == Path::new("-") { Path::new(STDIN) } else { path };
        if let Some(recipe) = &recipe {
            screen.diagnostics(&Plan::check_recipe(recipe), &recipe.text);
            // What is wrong with them is among the diagnostics that are taken below.
            let _ = families_of(recipe, screen);
        }
        let diagnostics = screen.take_diagnostics();
        let has_error = diagnostics.iter().any(|diagnostic| diagnostic.level == DiagnosticLevel::Error);
        let (rules, valid) = (recipe.map(|recipe| recipe.rules.len()), !has_error);
        if let Some(rules) = rules.filter(|_| valid && format == ReportFormat::Text) {
            screen.say(&format!("{}: fine, {}", shown_path(path), count(rules, "rule")));
        }
        let path = path.to_string_lossy().into_owned();
        recipes.push(ValidatedRecipe { path, valid: valid && rules.is_some(), rules, diagnostics });
    }
    let failed = recipes.iter().any(|recipe| !recipe.valid);
    match format {
        ReportFormat::Text => {}
        ReportFormat::Json => screen.json(&ValidateOutput { recipes })?,
        ReportFormat::Sarif => {
            let diagnostics: Vec<RecipeDiagnostic> =
                recipes.into_iter().flat_map(|recipe| recipe.diagnostics).collect();
            screen.document(&sarif::log(&diagnostics))?;
        }
    }
    if failed { Err(CommandError::Reported) } else { Ok(()) }
}
