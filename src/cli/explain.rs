//! `qwen-fp8 explain`: which rule decided a tensor, and why the others did not.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::ExplainArgs;
use super::error::CommandError;
use super::json::JsonOutput;
use super::screen::Screen;
use crate::checkpoint::text::{agree, shown, unquoted};
use crate::plan::explain::{Explanation, Unexplained, explain as explain_tensor};

/// The tensor, or the tensors of the module.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ExplainOutput {
    tensors: Vec<Explanation>,
}

impl JsonOutput for ExplainOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 explain --json`";
}

pub(super) fn explain(args: &ExplainArgs, screen: &Screen) -> Result<(), CommandError> {
    let plan = super::source::plan(&args.source, screen)?;
    let found = explain_tensor(&plan, &args.name).map_err(|not_found| refusal(&args.name, &not_found))?;
    if args.json {
        return screen.json(&ExplainOutput { tensors: found });
    }
    let texts: Vec<String> = found.iter().map(|explanation| render(explanation, &plan.recipe.text.path)).collect();
    screen.report(&texts.join("\n"))
}

/// The error of a name that explains nothing.
fn refusal(name: &str, not_found: &Unexplained) -> CommandError {
    let listed = |names: &[String]| names.iter().map(|name| shown(name).to_string()).collect::<Vec<_>>();
    let (message, help) = match not_found {
        Unexplained::Near(near) => {
            let help = match &listed(near)[..] {
                [] => "`qwen-fp8 plan` with the same recipe and checkpoint lists the names".to_owned(),
                [only] => format!("did you mean {only}?"),
                several => format!("the nearest are {}", several.join(", ")),
            };
            (format!("the checkpoint holds no tensor or module called {}", shown(name)), help)
        }
        Unexplained::Apart(matrices, first) => {
            let matrices = format!("{matrices} {}", agree(*matrices, "matrix", "matrices"));
            let message = format!("{} is a stack of experts, which the recipe splits into {matrices}", shown(name));
            (message, format!("those of the first expert are {}: ask for one of them", listed(first).join(", ")))
        }
    };
    CommandError::Input(message).with_help(&[help])
}

fn render(explanation: &Explanation, recipe: &Path) -> String {
    let mut text = format!(
        "{}\n  {} {:?} ({}), {}\n",
        unquoted(&explanation.tensor),
        explanation.dtype,
        explanation.shape,
        explanation.kind,
        explanation.outcome
    );
    let recipe = recipe.to_string_lossy();
    for said in &explanation.rules {
        let mark = if said.decides { "→" } else { " " };
        text.push_str(&format!("  {mark} {}:{}: {} {}\n", unquoted(&recipe), said.line, said.rule, said.says));
    }
    text
}
