//! The sets of layers that share a scheme: the parts of a fused layer, the experts of a layer, or a layer that stands alone.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Matrix, SourceDtype};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::{LayerKind, Part};
use crate::plan::{PlannedInput, fused_sets, is_loaded_by, is_shared};

use super::candidates::SchemeCandidate;
use super::request::BudgetRequest;
use super::steps::Cost;

/// Layers that share a scheme.
#[derive(Debug)]
pub(super) struct LayerSet {
    /// Numbers of their weights among the inputs.
    pub(super) inputs: Vec<usize>,
    /// Elements of all of them.
    pub(super) elements: f64,
    pub(super) choices: Vec<SetChoice>,
}

/// What a set may have.
#[derive(Debug)]
pub(super) struct SetChoice {
    /// The number of the scheme; `None` leaves the set unquantized.
    pub(super) candidate: Option<usize>,
    /// What each weight costs, in the order of the set's.
    pub(super) parts: Vec<Cost>,
}

impl SetChoice {
    /// What all of it costs.
    pub(super) fn cost(&self) -> Cost {
        let nothing = Cost { bytes: 0, error: 0.0 };
        self.parts
            .iter()
            .fold(nothing, |all, part| Cost { bytes: all.bytes + part.bytes, error: all.error + part.error })
    }
}

impl LayerSet {
    /// The numbers of the schemes that it may have, in order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = usize> {
        self.choices.iter().filter_map(|choice| choice.candidate)
    }

    /// Sets what each scheme, in order, loses of the weight with this number among the inputs.
    pub(super) fn set_noise(&mut self, input: usize, noise: impl Iterator<Item = f64>) {
        let Some(part) = self.inputs.iter().position(|&member| member == input) else { return };
        let quantized = self.choices.iter_mut().filter(|choice| choice.candidate.is_some());
        quantized.zip(noise).for_each(|(choice, noise)| choice.parts[part].error = noise);
    }

    /// The number of the choice of this scheme, or of none.
    pub(super) fn choice_of(&self, candidate: Option<usize>) -> Option<usize> {
        self.choices.iter().position(|choice| choice.candidate == candidate)
    }
}

/// Returns the sets of a checkpoint that may be quantized, in the order of their first weights; nothing is measured yet.
pub(super) fn of(
    checkpoint: &Checkpoint,
    inputs: &[PlannedInput],
    candidates: &[SchemeCandidate],
    request: &BudgetRequest,
) -> Vec<LayerSet> {
    let model = &checkpoint.model;
    let places: BTreeMap<&str, usize> =
        inputs.iter().enumerate().map(|(at, input)| (input.name.as_str(), at)).collect();
    let is_free = |input: &PlannedInput| {
        input.kind() == LayerKind::Linear && input.layer.part == Part::Decoder && input.shape.len() == 2
    };
    let fused = fused_sets(model, inputs);
    let in_fused: BTreeSet<&str> = fused.values().flatten().map(|part| part.name.as_str()).collect();
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for parts in fused.values().filter(|parts| parts.iter().all(|part| is_free(part))) {
        sets.push(parts.iter().map(|part| places[part.name.as_str()]).collect());
    }
    let alone = |input: &PlannedInput| is_free(input) && !in_fused.contains(input.name.as_str());
    sets.extend(inputs.iter().enumerate().filter(|(_, input)| alone(input)).map(|(number, _)| vec![number]));
    sets.sort_unstable();
    let sets = sets.into_iter().map(|numbers| {
        let members: Vec<&PlannedInput> = numbers.iter().map(|&number| &inputs[number]).collect();
        let choices = choices(checkpoint, &members, candidates, request);
        let elements = members.iter().map(|input| input.shape.iter().product::<usize>() as f64).sum();
        LayerSet { inputs: numbers, elements, choices }
    });
    sets.filter(|set| set.candidates().next().is_some()).collect()
}

/// Returns what a set may have: to stay as it is, where no server quantizes it all the same, and the schemes that take the
/// shapes of all its weights and that the server loads for this model.
fn choices(
    checkpoint: &Checkpoint,
    members: &[&PlannedInput],
    candidates: &[SchemeCandidate],
    request: &BudgetRequest,
) -> Vec<SetChoice> {
    let model = &checkpoint.model;
    let stays = members.iter().all(|input| !model.is_always_quantized(input.module()));
    let lossless = |bytes| Cost { bytes, error: 0.0 };
    let as_it_is = || SetChoice { candidate: None, parts: members.iter().map(|input| lossless(input.len)).collect() };
    let mut choices: Vec<SetChoice> = stays.then(as_it_is).into_iter().collect();
    let mut has_proper_one = false;
    for (number, candidate) in candidates.iter().enumerate() {
        let strategy = candidate.scheme.weights().strategy;
        let gpus = usize::try_from(request.fit.gpus).unwrap_or(usize::MAX);
        let parts = members.iter().map(|input| {
            let served = is_loaded_by(request.server, model, input.module(), strategy)
                && is_shared(input, strategy, checkpoint, gpus);
            bytes(input, candidate).filter(|_| served).map(lossless)
        });
        let Some(parts) = parts.collect::<Option<Vec<_>>>() else { continue };
        if candidate.is_substitute && has_proper_one {
            continue;
        }
        has_proper_one = true;
        choices.push(SetChoice { candidate: Some(number), parts });
    }
    choices
}

/// Returns the bytes that a weight takes under a scheme; `None` where the scheme does not take its shape.
fn bytes(input: &PlannedInput, candidate: &SchemeCandidate) -> Option<u64> {
    let &[rows, columns] = input.shape.as_slice() else { return None };
    let matrix = Matrix { dtype: SourceDtype::try_from(input.dtype).ok()?, rows, columns };
    let outputs = candidate.scheme.outputs(matrix).ok()?;
    Some(outputs.iter().map(|spec| spec.bytes() as u64).sum())
}
