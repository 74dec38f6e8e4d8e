//! `qwen-fp8 explain`: which rule decided a tensor, and why the others did not.

use super::args;
use super::screen::{Failure, Screen};
use crate::plan::explain::{Explanation, explain as explain_tensor};

pub(super) fn explain(args: &args::Explain, screen: &Screen) -> Result<(), Failure> {
    let plan = super::source::plan(&args.source, screen)?;
    let found = explain_tensor(&plan, &args.name).map_err(|near| {
        let near: Vec<String> = near.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
        Failure::Input(format!(
            "the checkpoint holds no tensor or module called `{}`; the nearest are {}",
            args.name.escape_debug(),
            near.join(", ")
        ))
    })?;
    if args.json {
        return screen.json(&found);
    }
    let texts: Vec<String> = found.iter().map(|explanation| render(explanation, &args.source.recipe)).collect();
    screen.data(&texts.join("\n"))
}

fn render(explanation: &Explanation, recipe: &std::path::Path) -> String {
    let mut text = format!(
        "{}  {} {:?}, a {}\n  {}\n",
        explanation.tensor.escape_debug(),
        explanation.dtype,
        explanation.shape,
        explanation.kind,
        explanation.outcome
    );
    for said in &explanation.rules {
        let mark = if said.decides { "→" } else { " " };
        text.push_str(&format!("  {mark} {} ({}:{}) {}\n", said.rule, recipe.display(), said.line, said.says));
    }
    text
}
