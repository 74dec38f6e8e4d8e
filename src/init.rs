//! A first recipe for a checkpoint, with comments on its layers.
//!
//! The draft is planned before it is handed out, so that `plan` accepts it and its sizes are exact.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::plan::summary::Summary;
use crate::plan::{Plan, split_where_known};
use crate::recipe::{Recipe, RecipeText};

mod budget;
mod error;
mod family;
mod layers;
mod request;
mod text;

pub use budget::{BudgetDraft, BudgetLayers, BudgetRequest, StepDown, UniformRecipe};
pub use error::InitError;
pub use family::draft_family;
pub use request::{DraftGranularity, Request};

use layers::Layers;

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
        return Err(InitError::Nothing { model: request.model.clone(), stay: layers.by_part() });
    }
    let holds = text::what_it_holds(&checkpoint.config, &inputs, &layers);
    let body = text::body(&checkpoint.dir, &checkpoint.model, &inputs, &layers, request);
    drop(layers);
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), body.as_str()))
        .map_err(|source| InitError::Recipe { model: request.model.clone(), source })?;
    let plan = Plan::build(recipe, checkpoint).map_err(InitError::Refused)?;
    Ok(text::head(&holds, &Summary::of(&plan), request.schema.as_deref()) + &body)
}
