//! `qwen-fp8 schema`: the JSON Schemas of recipes, for editors, and of every output, for programs.

use super::apply::ApplyOutput;
use super::args::{OutputName, SchemaArgs};
use super::error::CommandError;
use super::explain::ExplainOutput;
use super::failure::FailureOutput;
use super::inspect::InspectOutput;
use super::json::schema_of;
use super::lint::LintOutput;
use super::schemes::{SchemesOutput, SchemesTestOutput};
use super::screen::Screen;
use super::validate::ValidateOutput;
use super::verify::VerifyOutput;
use crate::check::Difference;
use crate::plan::summary::Summary;
use crate::recipe::recipe_schema;

pub(super) fn schema(args: &SchemaArgs, screen: &Screen) -> Result<(), CommandError> {
    let schema = match args.output {
        None => recipe_schema(),
        Some(OutputName::Apply) => schema_of::<ApplyOutput<'_>>(),
        Some(OutputName::Diff) => schema_of::<Difference>(),
        Some(OutputName::Error) => schema_of::<FailureOutput>(),
        Some(OutputName::Explain) => schema_of::<ExplainOutput>(),
        Some(OutputName::Inspect) => schema_of::<InspectOutput>(),
        Some(OutputName::Lint) => schema_of::<LintOutput>(),
        Some(OutputName::Plan) => schema_of::<Summary>(),
        Some(OutputName::Schemes) => schema_of::<SchemesOutput>(),
        Some(OutputName::SchemesTest) => schema_of::<SchemesTestOutput>(),
        Some(OutputName::Validate) => schema_of::<ValidateOutput>(),
        Some(OutputName::Verify) => schema_of::<VerifyOutput<'_>>(),
    };
    screen.document(&schema)
}
