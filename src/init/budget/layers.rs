//! The layers of a checkpoint that a recipe by budget decides about.

use std::collections::BTreeMap;

use qwen_fp8_schemes::Scheme;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::Model;
use crate::init::error::InitError;
use crate::init::layers::Layers;
use crate::init::request::DraftGranularity;
use crate::plan::{PlannedInput, shared_amax, split_where_known};

use super::candidates::{self, SchemeCandidate};
use super::request::BudgetRequest;
use super::sets::{self, LayerSet};

/// The layers that a recipe by budget decides about, and the schemes that each may have.
#[derive(Debug)]
pub struct BudgetLayers {
    pub(super) inputs: Vec<PlannedInput>,
    pub(super) candidates: Vec<SchemeCandidate>,
    pub(super) sets: Vec<LayerSet>,
}

impl BudgetLayers {
    /// Finds the layers of a checkpoint, and the schemes that the request's server and GPUs have kernels for.
    ///
    /// # Errors
    /// The checkpoint is quantized already, or holds nothing to quantize.
    pub fn of(checkpoint: &Checkpoint, request: &BudgetRequest) -> Result<Self, InitError> {
        if let Some(how) = &checkpoint.quantized {
            return Err(InitError::Quantized { how: how.clone() });
        }
        let inputs = split_where_known(checkpoint);
        let candidates = candidates::of_server(request.server, request.generation);
        let sets = sets::of(checkpoint, &inputs, &candidates, request);
        if sets.is_empty() {
            let stay = Layers::of(&checkpoint.model, &inputs, Some(DraftGranularity::Channel)).by_part();
            return Err(InitError::Nothing { model: request.draft.model.clone(), stay });
        }
        Ok(Self { inputs, candidates, sets })
    }

    /// The weights that the choice depends on, in the order of the checkpoint: each with the schemes that it may have, and the
    /// number, among these, of the first weight with which it shares an absolute maximum (its own where it shares none).
    pub fn measured<'a>(&'a self, model: &'a Model) -> Vec<(&'a PlannedInput, Vec<&'a dyn Scheme>, usize)> {
        let schemes = |set: &LayerSet| set.candidates().map(|candidate| &*self.candidates[candidate].scheme).collect();
        let mut leaders = BTreeMap::new();
        let measured = self.members().enumerate().map(|(number, (input, set))| {
            let input = &self.inputs[input];
            let leader = shared_amax(model, input.module()).map(|shared| *leaders.entry(shared).or_insert(number));
            (input, schemes(&self.sets[set]), leader.unwrap_or(number))
        });
        measured.collect()
    }

    /// The weights of all sets by number of input, each with the number of its set.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let mut members: Vec<(usize, usize)> = Vec::new();
        for (number, set) in self.sets.iter().enumerate() {
            members.extend(set.inputs.iter().map(|&input| (input, number)));
        }
        members.sort_unstable();
        members.into_iter()
    }
}
