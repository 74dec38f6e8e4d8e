//! `quant_method: mxfp4`: gpt-oss's stacks of experts, as blocks of MXFP4 and their scales.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qwen_fp8_schemes::{CodeFormat, Dynamic, SourceDtype, TensorRole};

use crate::checkpoint::experts::{BlockStack, ExpertMatrix};
use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::plan::planned_input::{CarriedForm, CodeRows, InputData, PlannedInput, QuantizedSource, SourcePart};
use crate::plan::served_form::ServedForm;

use super::group::microscaled;

/// Columns that share a scale.
const GROUP: [usize; 2] = [1, 32];

/// The stacks of a checkpoint, and what belongs to them, by number of the stored tensor.
#[derive(Default)]
pub(super) struct FoundStacks {
    /// The input that each tensor of blocks is to become.
    pub(super) weights: BTreeMap<usize, PlannedInput>,
    /// The tensors of scales.
    pub(super) beside: BTreeSet<usize>,
    /// The stacks as they are unquantized.
    pub(super) decoded: Vec<Tensor>,
}

/// Pairs the blocks of every stack with their scales.
///
/// # Errors
/// The reason for which a stack cannot be read.
pub(super) fn find(checkpoint: &Checkpoint, dtype: SourceDtype) -> Result<FoundStacks, String> {
    let mut found = FoundStacks::default();
    for stack in checkpoint.block_stacks() {
        let stack = stack.map_err(|error| error.to_string())?;
        let decoded = stack.decoded(&checkpoint.model, dtype.into());
        let decoded = decoded.ok_or_else(|| format!("{} is too large", shown(&stack.blocks.name)))?;
        let index = |of: &Tensor| checkpoint.tensors.iter().position(|tensor| tensor.name == of.name);
        let (Some(blocks), Some(scales)) = (index(stack.blocks), index(stack.scales)) else { continue };
        found.weights.insert(blocks, whole(&stack, &decoded));
        found.beside.insert(scales);
        found.decoded.push(decoded);
    }
    if found.weights.is_empty() {
        return Err("it declares `mxfp4`, and no stack of experts is stored as `_blocks` and `_scales`".to_owned());
    }
    Ok(found)
}

/// The whole stack as one input, whose values are stored columns first.
fn whole(stack: &BlockStack<'_>, decoded: &Tensor) -> PlannedInput {
    let part = |tensor: &Tensor, role, suffix| SourcePart { tensor: tensor.clone(), role, suffix, dtype: tensor.dtype };
    let form = ServedForm {
        weights: microscaled(4, Dynamic::Static),
        inputs: None,
        storage_format: "mxfp4",
        powers_of_two: false,
        exponents: false,
    };
    let parts = vec![
        part(stack.blocks, TensorRole::Codes, "weight_packed"),
        part(stack.scales, TensorRole::Scale, "weight_scale"),
    ];
    let carried = CarriedForm { form, parts, at_home: None, keeps_config: true };
    let rows = CodeRows::Columns { of_matrix: stack.outputs };
    let source = source(stack.blocks, stack.scales, rows, Ok(carried));
    let mut input = PlannedInput::stored(decoded);
    input.data = InputData::Quantized(Box::new(source));
    input
}

fn source(
    blocks: &Tensor,
    scales: &Tensor,
    rows: CodeRows,
    carried: Result<CarriedForm, &'static str>,
) -> QuantizedSource {
    QuantizedSource {
        name: "MXFP4",
        codes: blocks.clone(),
        scales: scales.clone(),
        global: None,
        zeros: None,
        format: CodeFormat::E2m1,
        granule: GROUP,
        rows,
        transposed: None,
        carried,
    }
}

/// Takes a stack apart: one input for each matrix, with its rows of codes.
pub(in crate::plan) fn take_apart(
    checkpoint: &Checkpoint,
    stack: &PlannedInput,
    matrices: Vec<ExpertMatrix>,
) -> Vec<PlannedInput> {
    let (Some(stored), &[_, inputs, outputs]) = (stack.quantized(), stack.shape.as_slice()) else { return Vec::new() };
    let width = (stack.dtype.bitsize() / 8) as u64;
    let part_of: Arc<str> = stack.name.as_str().into();
    let of_matrix = |matrix: ExpertMatrix| {
        let ExpertMatrix { name, shape, offset, len, steps } = matrix;
        // Where the matrix would lie in the unquantized stack tells its rows of codes, which are columns there.
        let (expert, first) = (offset / width / (inputs * outputs) as u64, offset / width % outputs as u64);
        let rows = CodeRows::Some {
            first: expert as usize * outputs + first as usize,
            count: shape[0],
            step: steps.map_or(1, |steps| (steps.row / width) as usize),
        };
        let reason = "`experts: split` takes its rows apart; `experts: keep` passes stacks through as they are";
        PlannedInput {
            layer: checkpoint.model.layer(&name, shape.len()),
            name,
            dtype: stack.dtype,
            shape,
            len,
            data: InputData::Quantized(Box::new(source(&stored.codes, &stored.scales, rows, Err(reason)))),
            part_of: Some(part_of.clone()),
            merged: Vec::new(),
        }
    };
    matrices.into_iter().map(of_matrix).collect()
}
