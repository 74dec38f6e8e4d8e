//! Every command on a checkpoint whose names would act on a terminal.

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse};
use crate::support::scene::{Scene, second, tensor};

/// Sets a colour, turns the line around, and in a C1 control clears the screen.
const NAME: &str = "model.\u{1b}[31m\u{202e}\u{9b}2J\u{2066}\n\r\u{7}";

/// A command line over a checkpoint of such names.
fn on_terminal(scene: &mut Scene, command: &[&str]) {
    let weight = tensor(&format!("{NAME}.up_proj.weight"), "BF16", &[16, 16], &[0; 512]);
    scene.tensors(&[second(), vec![weight, tensor(NAME, "BF16", &[1], &[0; 2])]].concat());
    scene.write(format!("model/{}.txt", NAME.replace('\n', "")), "");
    scene.command = Some(command.iter().map(Into::into).collect());
}

pub(crate) const CASES: &[Case] = &[
    Case("inspect", |s| on_terminal(s, &["inspect", "./model"]), Accept),
    Case("inspect as JSON", |s| on_terminal(s, &["inspect", "./model", "--json"]), Accept),
    Case("plan", |s| on_terminal(s, &["plan", "recipe.yaml", "-m", "./model"]), Accept),
    Case("plan, verbose", |s| on_terminal(s, &["plan", "recipe.yaml", "-m", "./model", "--verbose"]), Accept),
    Case("plan as JSON", |s| on_terminal(s, &["plan", "recipe.yaml", "-m", "./model", "--json"]), Accept),
    Case("explain", |s| on_terminal(s, &["explain", "recipe.yaml", "-m", "./model", NAME]), Accept),
    Case("explain as JSON", |s| on_terminal(s, &["explain", "recipe.yaml", "-m", "./model", NAME, "--json"]), Accept),
    Case(
        "explain what is not there",
        |s| on_terminal(s, &["explain", "recipe.yaml", "-m", "./model", "model.\u{1b}[3"]),
        Refuse(&["model.\\u{1b}[3"]),
    ),
    Case("a model that is not there", |s| on_terminal(s, &["inspect", "./\u{1b}[31m"]), Refuse(&["\\u{1b}[31m"])),
    Case(
        "a recipe that is fine",
        |s| {
            on_terminal(s, &["validate", "\u{1b}[31m.yaml"]);
            s.write("\u{1b}[31m.yaml", crate::support::scene::RECIPE)
        },
        Accept,
    ),
    Case(
        "a scheme that is not there",
        |s| on_terminal(s, &["schemes", "\u{1b}[31m\u{202e}"]),
        Refuse(&["\\u{1b}[31m\\u{202e}"]),
    ),
    Case(
        "an instruction set that is not there",
        |s| on_terminal(s, &["apply", "recipe.yaml", "-m", "./model", "-o", "out", "--simd", "\u{1b}[31m"]),
        Refuse(&["\\u{1b}[31m"]),
    ),
];
