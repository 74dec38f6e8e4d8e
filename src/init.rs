//! A first recipe for a checkpoint, with what it holds as comments.
//!
//! The draft is planned before it is handed out, so that `plan` accepts it and its sizes are exact.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::shown;
use crate::plan::summary::Summary;
use crate::plan::{Plan, Refused, split_where_known};
use crate::recipe::{Recipe, RecipeError, RecipeText};

mod layers;
mod text;

use layers::Layers;

/// What a recipe is wanted for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The checkpoint as it was named: a directory or a model id.
    pub model: String,
    /// `None` takes blocks where they fit most of the weights.
    pub scales: Option<Scales>,
}

/// How many weights share a scale, and with it the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// 128 × 128 of them, in the layout of the official Qwen checkpoints.
    Blocks,
    /// A row, in llm-compressor's layout.
    Rows,
}

/// Why there is no recipe for a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the checkpoint is quantized already: {how}")]
    Quantized { how: String },
    #[error("no layer of {} is one that a first recipe would quantize", shown(model))]
    Nothing { model: String },
    #[error("the recipe for {} is none", shown(.model))]
    Recipe { model: String, source: RecipeError },
    #[error("a first recipe does not fit this checkpoint")]
    Refused(Box<Refused>),
}

impl InitError {
    /// What to do about it.
    pub fn help(&self) -> Vec<String> {
        let help = match self {
            Self::Quantized { .. } => {
                "start from its BF16 original; docs/recipes.md says how a recipe decodes or carries over FP8 layers"
            }
            Self::Nothing { .. } => "`qwen-fp8 inspect` shows what it holds; a recipe may name its layers exactly",
            Self::Recipe { .. } => "name the checkpoint by another path",
            Self::Refused(_) => "write a recipe that keeps these layers, see docs/recipes.md",
        };
        vec![help.to_owned()]
    }
}

/// A recipe for the checkpoint, in YAML; the same one whenever it is asked for.
///
/// # Errors
/// The checkpoint is quantized already, holds nothing to quantize, or is one that no plan accepts.
pub fn draft(checkpoint: Checkpoint, request: &Request) -> Result<String, InitError> {
    if let Some(how) = &checkpoint.quantized {
        return Err(InitError::Quantized { how: how.clone() });
    }
    // Stacks that can be taken apart are drafted as what they become.
    let inputs = split_where_known(&checkpoint);
    let layers = Layers::of(&checkpoint.config, &inputs, request.scales);
    if layers.taken == 0 {
        return Err(InitError::Nothing { model: request.model.clone() });
    }
    let holds = text::what_it_holds(&checkpoint.config, &inputs, &layers);
    let body = text::body(&checkpoint.dir, &inputs, &layers, request);
    drop(layers);
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), body.as_str()))
        .map_err(|source| InitError::Recipe { model: request.model.clone(), source })?;
    let plan = Plan::build(recipe, checkpoint).map_err(InitError::Refused)?;
    Ok(text::head(&holds, &Summary::of(&plan)) + &body)
}
