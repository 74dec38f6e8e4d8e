//! A plan: for every tensor one action and the rule that decided it, and every byte offset of the output.
//!
//! Only headers are read to make one, and everything about the output is known when it is made.

mod adapters;
mod alternatives;
mod build;
pub mod card;
mod carried_scales;
pub mod changes;
pub mod expected;
pub mod explain;
mod fixes;
pub mod format;
mod fused;
mod inputs;
mod job;
mod kept_config;
mod kernels;
mod known;
mod kv_cache;
pub mod lock;
mod marlin;
mod misfits;
mod modules;
pub mod name_ranges;
mod non_finite;
mod output;
mod own_families;
mod planned_input;
mod quantized_source;
mod requantized;
pub mod resolve;
mod served;
mod served_form;
mod served_weights;
mod servers;
mod serving;
mod stays;
pub mod summary;
pub mod tensor_parallel;
mod transformers_list;
mod unmatched;
mod unproven;

pub use build::{Plan, Refused};
pub use carried_scales::CarriedScales;
pub use job::{Decision, Job, Slot};
pub use marlin::PaddedLayers;
pub use planned_input::{
    CarriedForm, CodeRows, GlobalScale, InputData, Merge, PlannedInput, QuantizedSource, SourcePart, Transposed,
    ZeroPointTensor,
};
pub use served_form::ServedForm;
pub use served_weights::ServedWeights;
pub use stays::Stays;

pub(crate) use fixes::{patterns, quoted};
pub(crate) use fused::{sets as fused_sets, shared_amax, with_fused};
pub(crate) use inputs::{never_loaded_apart, split_where_known};
pub(crate) use known::{is_loaded_by, unserved_checkpoint};
pub(crate) use misfits::{AllModules, is_cut};
pub(crate) use servers::{SERVERS, not_serving, serving};
pub(crate) use summary::numbers_starred;
pub(crate) use tensor_parallel::is_shared;

use crate::checkpoint::Checkpoint;
use crate::recipe::Recipe;

impl Plan {
    /// Plans what `recipe` does to `checkpoint`.
    ///
    /// # Errors
    /// All that is wrong: patterns that match nothing, tensors that cannot take their scheme, serving rules broken.
    pub fn build(recipe: Recipe, checkpoint: Checkpoint) -> Result<Self, Box<Refused>> {
        let mut plan = Self::of_weights(recipe, checkpoint)?;
        card::add(&mut plan);
        Ok(plan)
    }
}
