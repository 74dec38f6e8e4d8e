//! Recipes by budget: for each set of layers that servers fuse the scheme that loses least, so that all of it fits.
//!
//! What each scheme loses is measured by whoever calls this, on the weights that [`BudgetLayers::measured`] names.

use qwen_fp8_schemes::Noise;

use crate::checkpoint::Checkpoint;

use super::error::InitError;

mod candidates;
mod draft;
mod layers;
mod request;
mod rules;
mod search;
mod sets;
mod steps;

pub use draft::{BudgetDraft, StepDown, UniformRecipe};
pub use layers::BudgetLayers;
pub use request::BudgetRequest;

use search::Search;

impl BudgetLayers {
    /// Drafts the recipe, given the noise of each weight by scheme, in the order of [`BudgetLayers::measured`]. Where none
    /// fits, the draft is of the smallest.
    ///
    /// # Errors
    /// The checkpoint is one that no plan accepts.
    pub fn draft(
        mut self,
        checkpoint: &Checkpoint,
        noise: &[Vec<Noise>],
        request: &BudgetRequest,
    ) -> Result<BudgetDraft, InitError> {
        let members: Vec<(usize, usize)> = self.members().collect();
        for ((input, set), noise) in members.into_iter().zip(noise) {
            let elements = self.inputs[input].shape.iter().product::<usize>() as f64;
            self.sets[set].set_noise(input, noise.iter().map(|noise| noise.ratio() * elements));
        }
        Search::new(checkpoint, &self, request).draft()
    }
}
