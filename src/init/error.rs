//! The reasons why there is no draft.

use crate::checkpoint::text::shown;
use crate::plan::Refused;
use crate::recipe::RecipeError;

/// The reason why there is no draft for a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the checkpoint is quantized already: {how}")]
    Quantized { how: String },
    #[error("no layer of {} is one that a first recipe would quantize", shown(model))]
    Nothing { model: String },
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
            Self::Nothing { .. } => {
                "`qwen-fp8 inspect` shows what it holds; a recipe may name its layers by patterns, and `qwen-fp8 models --draft` \
                 drafts a file that says what they are"
            }
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
