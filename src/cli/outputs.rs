//! `qwen-fp8 schema`: the JSON Schemas of recipes, for editors, and of every output, for programs.

use super::apply::ApplyOutput;
use super::args::{OutputName, SchemaArgs};
use super::delta::{ApplyDeltaOutput, DeltaOutput};
use super::editor_schema::{self, EditorSchema};
use super::error::CommandError;
use super::events;
use super::explain::ExplainOutput;
use super::failure::FailureOutput;
use super::inspect::InspectOutput;
use super::json::schema_of;
use super::lint::LintOutput;
use super::lock;
use super::models::ModelsOutput;
use super::recipe_schema;
use super::schemes::{SchemesOutput, SchemesTestOutput};
use super::screen::Screen;
use super::test_recipes::TestOutput;
use super::validate::ValidateOutput;
use super::verify::VerifyOutput;
use crate::check::Difference;
use crate::checkpoint::HeadersFile;
use crate::checkpoint::text::shown_path;
use crate::doctor::Checklist;
use crate::fit::Fit;
use crate::plan::changes::Changes;
use crate::plan::summary::Summary;
use crate::recipe;

pub(super) fn schema(args: &SchemaArgs, screen: &Screen) -> Result<(), CommandError> {
    if args.install {
        return install(screen);
    }
    if let Some(recipe) = &args.recipe {
        return recipe_schema::write_for(recipe, &args.for_recipe, screen);
    }
    let schema = match args.output {
        None => recipe::recipe_schema(),
        Some(OutputName::Apply) => schema_of::<ApplyOutput<'_>>(),
        Some(OutputName::ApplyDelta) => schema_of::<ApplyDeltaOutput>(),
        Some(OutputName::Delta) => schema_of::<DeltaOutput>(),
        Some(OutputName::Diff) => schema_of::<Difference>(),
        Some(OutputName::Doctor) => schema_of::<Checklist>(),
        Some(OutputName::Error) => schema_of::<FailureOutput>(),
        Some(OutputName::Events) => events::schema(),
        Some(OutputName::Explain) => schema_of::<ExplainOutput>(),
        Some(OutputName::Fit) => schema_of::<Fit>(),
        Some(OutputName::Headers) => schemars::schema_for!(HeadersFile).to_value(),
        Some(OutputName::Inspect) => schema_of::<InspectOutput>(),
        Some(OutputName::Lint) => schema_of::<LintOutput>(),
        Some(OutputName::Models) => schema_of::<ModelsOutput>(),
        Some(OutputName::Plan) => schema_of::<Summary>(),
        Some(OutputName::PlanDiff) => schema_of::<Changes>(),
        Some(OutputName::PlanLock) => lock::schema(),
        Some(OutputName::Schemes) => schema_of::<SchemesOutput>(),
        Some(OutputName::SchemesTest) => schema_of::<SchemesTestOutput>(),
        Some(OutputName::Test) => schema_of::<TestOutput>(),
        Some(OutputName::Validate) => schema_of::<ValidateOutput>(),
        Some(OutputName::Verify) => schema_of::<VerifyOutput<'_>>(),
    };
    screen.document(&schema)
}

/// Puts the schema of recipes where editors find it, and prints what a recipe says to name it.
fn install(screen: &Screen) -> Result<(), CommandError> {
    let path = editor_schema::install(EditorSchema::Recipe).map_err(|error| CommandError::run(&error))?;
    screen.say(&format!("wrote {}; a recipe names it in its first line, in YAML or in TOML:", shown_path(&path)));
    let address = editor_schema::address(&path);
    screen.data(&format!("# yaml-language-server: $schema={address}\n#:schema {address}\n"))
}
