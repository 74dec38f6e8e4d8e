//! The reasons why there is no draft.

use std::collections::BTreeMap;

use crate::checkpoint::models::Part;
use crate::checkpoint::text::{count, shown};
use crate::plan::Refused;
use crate::recipe::RecipeError;

/// The reason why there is no draft for a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the checkpoint is quantized already: {how}")]
    Quantized { how: String },
    /// No linear layer is left to quantize; `stay` has the number of those of each part that stay, but for those that fit no
    /// block.
    #[error("no layer of {} is one that a first recipe would quantize", shown(model))]
    Nothing { model: String, stay: BTreeMap<Part, usize> },
    #[error("the drafted recipe for {} cannot be read", shown(.model))]
    Recipe { model: String, source: RecipeError },
    #[error(
        "config.json names no class in `architectures` and no `model_type`, so that no file can be about the model"
    )]
    Nameless,
    #[error("the drafted file of the family cannot be read: {reason}")]
    Family { reason: String },
    #[error("a first recipe does not fit this checkpoint")]
    Refused(Box<Refused>),
}

impl InitError {
    /// Hints for the user, one line each.
    pub fn help(&self) -> Vec<String> {
        let help = match self {
            Self::Quantized { .. } => {
                "docs/recipes.md says how a recipe decodes quantized layers, or passes them through"
            }
            Self::Nothing { stay, .. } => return why_nothing(stay),
            Self::Recipe { .. } => "name the checkpoint by another path",
            Self::Nameless => "write the class into `architectures`, as the model's own config.json has it",
            Self::Family { .. } => "`docs/models.md` says how to write one by hand",
            Self::Refused(_) => {
                "where blocks do not fit, `--scheme channel` may; or write a recipe of your own, see docs/recipes.md"
            }
        };
        vec![help.to_owned()]
    }
}

/// Says of each part why its layers stay, and what would lead to a recipe where something would.
fn why_nothing(stay: &BTreeMap<Part, usize>) -> Vec<String> {
    let mut help: Vec<String> = stay
        .iter()
        .map(|(part, &layers)| format!("{} {}: {}", count(layers, "linear layer"), part.place(), part.why()))
        .collect();
    if stay.contains_key(&Part::Outside) || stay.contains_key(&Part::Unrecognized) {
        help.push(
            "a recipe may name them by patterns, and `qwen-fp8 models --draft` drafts a file that says what they are"
                .to_owned(),
        );
    }
    if stay.is_empty() {
        help.push(
            "`qwen-fp8 inspect` shows what it holds; `--scheme channel` takes layers that fit no block".to_owned(),
        );
    }
    help
}
