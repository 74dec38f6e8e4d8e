//! A first recipe for a checkpoint, with comments on its layers.
//!
//! The draft is planned before it is handed out, so that `plan` accepts it and its sizes are exact.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::shown;
use crate::plan::summary::Summary;
use crate::plan::{Plan, Refused, split_where_known};
use crate::recipe::{Recipe, RecipeError, RecipeText};

mod layers;
mod request;
mod text;

pub use request::{DraftGranularity, Request};

use layers::Layers;

/// The reason why there is no recipe for a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the checkpoint is quantized already: {how}")]
    Quantized { how: String },
    #[error("no layer of {} is one that a first recipe would quantize", shown(model))]
    Nothing { model: String },
    #[error("the drafted recipe for {} cannot be read", shown(.model))]
    Recipe { model: String, source: RecipeError },
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
            Self::Nothing { .. } => "`qwen-fp8 inspect` shows what it holds; a recipe may name its layers exactly",
            Self::Recipe { .. } => "name the checkpoint by another path",
            Self::Refused(_) => {
                "where blocks do not fit, `--scheme channel` may; or write a recipe of your own, see docs/recipes.md"
            }
        };
        vec![help.to_owned()]
    }
}

/// Drafts a recipe for the checkpoint, in YAML; the same checkpoint always gets the same recipe.
///
/// # Errors
/// The checkpoint is quantized already, holds nothing to quantize, or is one that no plan accepts.
pub fn draft(checkpoint: Checkpoint, request: &Request) -> Result<String, InitError> {
    if let Some(how) = &checkpoint.quantized {
        return Err(InitError::Quantized { how: how.clone() });
    }
    // Stacks that can be taken apart are drafted as what they become.
    let inputs = split_where_known(&checkpoint);
    let layers = Layers::of(&checkpoint.model, &inputs, request.granularity);
    if layers.taken == 0 {
        return Err(InitError::Nothing { model: request.model.clone() });
    }
    let holds = text::what_it_holds(&checkpoint.config, &inputs, &layers);
    let body = text::body(&checkpoint.dir, &checkpoint.model, &inputs, &layers, request);
    drop(layers);
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), body.as_str()))
        .map_err(|source| InitError::Recipe { model: request.model.clone(), source })?;
    let plan = Plan::build(recipe, checkpoint).map_err(InitError::Refused)?;
    Ok(text::head(&holds, &Summary::of(&plan), request.schema.as_deref()) + &body)
}
