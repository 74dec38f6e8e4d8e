//! Plans: which tensor goes where, what servers make of it, and how large it gets.

mod advice;
mod budget;
mod card;
mod conservation;
mod expected;
mod families;
mod init;
mod kernels;
mod known;
mod lock;
mod published;
mod ready;
mod real_shapes;
mod resolve;
mod serving;
mod shards;
mod tensor_parallel;
mod unproven;

use std::collections::BTreeSet;
use std::path::Path;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::diagnostic::{Diagnostic, Level};
use qwen_fp8::recipe::{Recipe, RecipeText};
use serde_json::Value;

use crate::support::shapes::Shapes;

/// The main recipe: blocks in the official layout.
const BLOCKS: &str = "
format: fp8
rules:
  - scheme: PASSTHROUGH
    targets: ['re:.*visual.*']
    optional: true
  - scheme: FP8_DYNAMIC
    block_size: 128
    targets: Linear
";

fn recipe(text: &str) -> Recipe {
    Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), text)).unwrap_or_else(|error| panic!("{error}"))
}

/// What planning `recipe` on a checkpoint of these shapes says: the plan, or all diagnostics.
fn try_plan(text: &str, shapes: &Shapes) -> Result<Plan, Vec<Diagnostic>> {
    try_plan_in(text, shapes.write_single().path())
}

fn try_plan_in(text: &str, dir: &Path) -> Result<Plan, Vec<Diagnostic>> {
    let checkpoint = Checkpoint::open(dir).unwrap_or_else(|error| panic!("{error}"));
    Plan::build(recipe(text), checkpoint).map_err(|refused| refused.diagnostics)
}

fn plan(text: &str, shapes: &Shapes) -> Plan {
    try_plan(text, shapes).unwrap_or_else(|diagnostics| panic!("{}", shown(&diagnostics)))
}

/// The errors of a plan that must not be.
fn errors(text: &str, shapes: &Shapes) -> Vec<Diagnostic> {
    let diagnostics = try_plan(text, shapes).expect_err("the plan must be refused");
    let errors: Vec<Diagnostic> =
        diagnostics.into_iter().filter(|diagnostic| diagnostic.level == Level::Error).collect();
    assert!(!errors.is_empty());
    errors
}

/// The one error of a plan that must not be.
fn error(text: &str, shapes: &Shapes) -> Diagnostic {
    let mut errors = errors(text, shapes);
    assert_eq!(errors.len(), 1, "{}", shown(&errors));
    errors.remove(0)
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic:#?}\n")).collect()
}

/// The list of unquantized layers in the output's config.json, whatever its order.
fn listed(plan: &Plan) -> BTreeSet<String> {
    let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
    let config: Value = serde_json::from_slice(config).unwrap();
    let quantization = &config["quantization_config"];
    let list = quantization.get("ignore").or(quantization.get("ignored_layers")).unwrap();
    list.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}
