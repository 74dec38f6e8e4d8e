//! `qwen-fp8 test`: recipes planned for a checkpoint, and held against what they expect and against their locks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::{SourceArgs, TestArgs};
use super::error::CommandError;
use super::failure::{DiagnosticLevel, FailureBody, RecipeDiagnostic};
use super::json::JsonOutput;
use super::junit::{self, JunitCase, JunitOutcome};
use super::lock;
use super::screen::Screen;
use crate::checkpoint::text::{count, shown_path};
use crate::plan::Plan;
use crate::recipe::RecipeText;

/// The results, in the order in which the recipes were tested.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TestOutput {
    recipes: Vec<TestedRecipe>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl JsonOutput for TestOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 test --json`";
}

/// The result of a recipe.
#[derive(Debug, Serialize, JsonSchema)]
struct TestedRecipe {
    path: String,
    outcome: TestOutcome,
    /// The number of things that the recipe expects of its plan; null where it could not be read.
    expectations: Option<usize>,
    /// Set where the recipe expects a signal-to-noise ratio besides, which takes the weights: `apply` measures it.
    sqnr_left_to_apply: bool,
    /// The lock that the plan was held against; null where none lies beside the recipe.
    lock: Option<String>,
    /// Why it was not planned; null where it was.
    skipped: Option<&'static str>,
    /// What is wrong; null where nothing is.
    failure: Option<FailureBody>,
    /// The warnings and notes of a recipe without a failure.
    diagnostics: Vec<RecipeDiagnostic>,
    #[serde(skip)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TestOutcome {
    Passed,
    Failed,
    /// The recipe was validated; there was no checkpoint to plan it for.
    Skipped,
}

const NO_CHECKPOINT: &str =
    "it names no checkpoint: it was validated only (`model:` in the recipe or `--model` names one)";

pub(super) fn test(args: &TestArgs, screen: &Screen) -> Result<(), CommandError> {
    let mut recipes = Vec::new();
    for path in found(&args.paths)? {
        let tested = tested(&path, args, screen);
        screen.say(&line(&tested, &path));
        recipes.push(tested);
    }
    let number = |outcome| recipes.iter().filter(|recipe| recipe.outcome == outcome).count();
    let (passed, failed) = (number(TestOutcome::Passed), number(TestOutcome::Failed));
    let skipped = number(TestOutcome::Skipped);
    if let Some(file) = &args.junit {
        fs::write(file, junit(&recipes))
            .map_err(|error| CommandError::Run(format!("{} cannot be written: {error}", shown_path(file))))?;
    }
    if args.json {
        screen.json(&TestOutput { recipes, passed, failed, skipped })?;
    } else {
        screen.report(&format!(
            "{}: {passed} passed, {failed} failed, {skipped} skipped\n",
            count(passed + failed + skipped, "recipe")
        ))?;
    }
    if failed > 0 { Err(CommandError::Reported) } else { Ok(()) }
}

/// Returns the recipes that the paths name, those of directories in the order of their names.
fn found(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CommandError> {
    let mut recipes = Vec::new();
    for path in paths {
        let before = recipes.len();
        if path.is_dir() {
            add_folder(path, &mut recipes)?;
            if recipes.len() == before {
                let none = format!("{} holds no recipe: no .yaml, .yml or .toml file", shown_path(path));
                return Err(CommandError::Input(none));
            }
        } else {
            recipes.push(path.clone());
        }
    }
    Ok(recipes)
}

fn add_folder(folder: &Path, recipes: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    let cannot = |error| CommandError::Run(format!("{} cannot be listed: {error}", shown_path(folder)));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        entries.push((entry.path(), entry.file_type().map_err(cannot)?));
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (path, kind) in entries {
        // A link to a directory may lead around in a circle.
        if kind.is_dir() {
            add_folder(&path, recipes)?;
        } else if RecipeText::is_by_ending(&path) {
            recipes.push(path);
        }
    }
    Ok(())
}

fn tested(path: &Path, args: &TestArgs, screen: &Screen) -> TestedRecipe {
    let began = Instant::now();
    let mut tested = TestedRecipe {
        path: path.to_string_lossy().into_owned(),
        outcome: TestOutcome::Passed,
        expectations: None,
        sqnr_left_to_apply: false,
        lock: None,
        skipped: None,
        failure: None,
        diagnostics: Vec::new(),
        seconds: 0.0,
    };
    let result = hold(path, args, screen, &mut tested);
    let diagnostics = screen.take_diagnostics();
    tested.seconds = began.elapsed().as_secs_f64();
    match result {
        Ok(()) => tested.diagnostics = diagnostics,
        Err(failure) => {
            screen.failure(&failure);
            tested.outcome = TestOutcome::Failed;
            tested.failure = Some(FailureBody::new(&failure, diagnostics));
        }
    }
    tested
}

/// Plans a recipe and holds the plan against what there is.
fn hold(path: &Path, args: &TestArgs, screen: &Screen, tested: &mut TestedRecipe) -> Result<(), CommandError> {
    let recipe = super::source::read_recipe(path, screen)?;
    tested.expectations = Some(recipe.expect.of_plan());
    tested.sqnr_left_to_apply = recipe.expect.sqnr_at_least.is_some();
    if args.model.is_none() && recipe.model.is_none() {
        screen.diagnostics(&Plan::check_recipe(&recipe), &recipe.text);
        super::source::families_of(&recipe, screen)?;
        (tested.outcome, tested.skipped) = (TestOutcome::Skipped, Some(NO_CHECKPOINT));
        return Ok(());
    }
    let source = SourceArgs { recipe: path.to_owned(), model: args.model.clone(), smoke: None };
    let plan = super::source::plan_of(recipe, &source, screen)?;
    let beside = lock::beside(path);
    if beside.exists() {
        tested.lock = Some(beside.to_string_lossy().into_owned());
        lock::hold(&plan, path, Some(&beside), screen)?;
    }
    Ok(())
}

fn line(tested: &TestedRecipe, path: &Path) -> String {
    let path = shown_path(path);
    match (tested.outcome, tested.skipped) {
        (TestOutcome::Skipped, why) => format!("{path}: skipped: {}", why.unwrap_or_default()),
        (TestOutcome::Failed, _) => format!("{path}: FAILED"),
        (TestOutcome::Passed, _) => {
            let expectations = match tested.expectations {
                Some(number @ 1..) => count(number, "expectation"),
                _ => "it expects nothing but a plan".to_owned(),
            };
            let locked = if tested.lock.is_some() { ", locked" } else { "" };
            let left = if tested.sqnr_left_to_apply { "; `sqnr_at_least` is left to `apply`" } else { "" };
            format!("{path}: passed ({expectations}{locked}{left})")
        }
    }
}

fn junit(recipes: &[TestedRecipe]) -> String {
    let texts: Vec<String> =
        recipes.iter().map(|recipe| recipe.failure.as_ref().map_or_else(String::new, text)).collect();
    let cases: Vec<JunitCase<'_>> = recipes
        .iter()
        .zip(&texts)
        .map(|(recipe, text)| {
            let outcome = match (&recipe.failure, recipe.skipped) {
                (Some(failure), _) => JunitOutcome::Failed { message: &failure.message, text },
                (None, Some(why)) => JunitOutcome::Skipped(why),
                (None, None) => JunitOutcome::Passed,
            };
            JunitCase { name: &recipe.path, seconds: recipe.seconds, outcome }
        })
        .collect();
    junit::suite("qwen-fp8 recipes", &cases)
}

/// The message of a failure and everything that goes with it, a line each.
fn text(failure: &FailureBody) -> String {
    let errors = failure.diagnostics.iter().filter(|diagnostic| diagnostic.level == DiagnosticLevel::Error);
    let at_places = errors.map(|error| {
        let place = &error.place;
        let at = place.line.zip(place.column).map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
        format!("{}{at}: {}", place.file, error.message)
    });
    let mut lines: Vec<String> = at_places.collect();
    if lines.is_empty() {
        lines.push(failure.message.clone());
    }
    lines.extend(failure.help.iter().map(|help| format!("help: {help}")));
    lines.join("\n")
}
