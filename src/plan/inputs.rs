//! Prepares the inputs of a plan: the tensors of a checkpoint as the rules ask for them, each stack of experts as
//! matrices, each quantized weight with its scales as one weight.

use std::sync::Arc;

use crate::checkpoint::experts::{ExpertMatrix, ExpertStacks, ExpertsError};
use crate::checkpoint::models::catalogue::NotLoaded;
use crate::checkpoint::models::{LayerKind, Model};
use crate::checkpoint::text::sentence;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{ExpertsPolicy, Recipe};

use super::misfits::Misfit;
use super::planned_input::{InputData, PlannedInput};
use super::quantized_source::{QuantizedTensors, take_apart};

/// The inputs of a plan.
pub(super) struct Prepared {
    /// In the order of the checkpoint.
    pub(super) inputs: Vec<PlannedInput>,
    /// Why the stacks of experts stay as they are, where the recipe would have had them split.
    pub(super) stacked: Option<WhyStacked>,
}

/// The reason for which the stacks of experts of a checkpoint stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WhyStacked {
    /// A server loads none of what they would become.
    NotLoaded { server: String, because: String },
    /// They cannot be taken apart.
    Unknown(ExpertsError),
    /// No rule quantizes any of what they would become, since this rule's scheme does not fit it, or none is after it.
    NotTaken(Option<(usize, Misfit)>),
}

/// Prepares the inputs that the recipe's policies make of a checkpoint.
///
/// # Errors
/// The obstacle: a quantized checkpoint that cannot be decoded, stacks that cannot be taken apart.
pub(super) fn prepare(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<Prepared, Diagnostic> {
    // Codes and scales are paired before stacks are looked at, so that a quantized checkpoint that cannot be read is
    // told as such.
    let quantized = quantized(checkpoint)?;
    let has_stacks = checkpoint.has_stacked_experts() || !quantized.stacks.is_empty();
    let (stacks, stacked) = match recipe.experts {
        ExpertsPolicy::Split if has_stacks => {
            let found = checkpoint.expert_stacks_with(&quantized.stacks);
            (Some(found.map_err(|error| cannot_split(&error))?), None)
        }
        ExpertsPolicy::SplitOrKeep if has_stacks => match stacks_to_split(checkpoint, &quantized.stacks) {
            Ok(stacks) => (Some(stacks), None),
            Err(why) => (None, Some(why)),
        },
        _ => (None, None),
    };
    Ok(Prepared { inputs: inputs(checkpoint, quantized, stacks.as_ref()), stacked })
}

/// Prepares the inputs of a checkpoint of which no stack is taken apart, since no rule quantizes what would come of it.
///
/// # Errors
/// A quantized checkpoint that cannot be decoded.
pub(super) fn prepare_stacked(
    checkpoint: &Checkpoint,
    misfit: Option<(usize, Misfit)>,
) -> Result<Prepared, Diagnostic> {
    Ok(Prepared {
        inputs: inputs(checkpoint, quantized(checkpoint)?, None),
        stacked: Some(WhyStacked::NotTaken(misfit)),
    })
}

/// Pairs codes and scales of a quantized checkpoint.
fn quantized(checkpoint: &Checkpoint) -> Result<QuantizedTensors, Diagnostic> {
    match &checkpoint.quantized {
        Some(how) => QuantizedTensors::find(checkpoint).map_err(|why| cannot_decode(how, &why)),
        None => Ok(QuantizedTensors::default()),
    }
}

/// Prepares the inputs of a checkpoint that is not quantized, its stacks taken apart where their layout is known and a
/// server loads what they become.
pub(crate) fn split_where_known(checkpoint: &Checkpoint) -> Vec<PlannedInput> {
    let stacks = stacks_to_split(checkpoint, &[]).ok();
    inputs(checkpoint, QuantizedTensors::default(), stacks.as_ref())
}

/// Returns the server that loads none of what this stack of experts would become.
pub(crate) fn never_loaded_apart<'m>(model: &'m Model, stack: &str) -> Option<&'m NotLoaded> {
    let (known, names) = model.stack(stack)?;
    // The stack is of one layer, and what it becomes is told by any expert of it.
    known.holds.iter().find_map(|projection| model.never_loaded(&names.matrix(0, projection)))
}

/// Returns the stacks of a checkpoint, if all of them can be taken apart into what servers load; `decoded` are those that it
/// has in blocks.
//
// All or none: nobody has seen a server load some experts of a model apart and others stacked.
fn stacks_to_split(checkpoint: &Checkpoint, decoded: &[Tensor]) -> Result<ExpertStacks, WhyStacked> {
    let stacks = checkpoint.expert_stacks_with(decoded).map_err(WhyStacked::Unknown)?;
    let all = checkpoint.tensors.iter().chain(decoded).filter(|tensor| tensor.kind() == LayerKind::Experts);
    match all.filter_map(|stack| never_loaded_apart(&checkpoint.model, &stack.name)).next() {
        Some(not) => Err(WhyStacked::NotLoaded { server: not.server.clone(), because: not.because.clone() }),
        None => Ok(stacks),
    }
}

fn inputs(
    checkpoint: &Checkpoint,
    mut quantized: QuantizedTensors,
    stacks: Option<&ExpertStacks>,
) -> Vec<PlannedInput> {
    let mut inputs = Vec::with_capacity(checkpoint.tensors.len());
    for (index, tensor) in checkpoint.tensors.iter().enumerate() {
        if quantized.is_beside(index) {
            continue;
        }
        if let Some(weight) = quantized.weights.remove(&index) {
            let decoded = quantized.stacks.iter().find(|stack| stack.name == weight.name);
            match decoded.zip(stacks).and_then(|(decoded, stacks)| stacks.matrices(decoded)) {
                Some(matrices) => inputs.extend(take_apart(checkpoint, &weight, matrices)),
                None => inputs.push(weight),
            }
        } else if let Some(matrices) = stacks.and_then(|stacks| stacks.matrices(tensor)) {
            let stack: Arc<str> = tensor.name.as_str().into();
            inputs
                .extend(matrices.into_iter().map(|matrix| matrix_of(&checkpoint.model, tensor, stack.clone(), matrix)));
        } else {
            inputs.push(PlannedInput::stored(tensor));
        }
    }
    inputs
}

fn matrix_of(model: &Model, stack: &Tensor, part_of: Arc<str>, matrix: ExpertMatrix) -> PlannedInput {
    let ExpertMatrix { name, shape, offset, len, steps } = matrix;
    let data = match steps {
        Some(steps) => InputData::Strided { shard: stack.shard, offset, steps },
        None => InputData::Stored { shard: stack.shard, offset },
    };
    let layer = model.layer(&name, shape.len());
    PlannedInput { layer, name, dtype: stack.dtype, shape, len, data, part_of: Some(part_of), merged: Vec::new() }
}

fn cannot_decode(how: &str, why: &str) -> Diagnostic {
    Diagnostic::error(format!("the checkpoint is quantized already: {how}"))
        .help(format!("it cannot be decoded: {}", sentence(why)))
        .help("start from an original that is not quantized, where there is one")
}

fn cannot_split(error: &ExpertsError) -> Diagnostic {
    let why = error.to_string();
    Diagnostic::error(format!("`experts: split` cannot take the stacks apart: {}", sentence(&why)))
        .help("`experts: keep` keeps stacked experts as they are")
}
