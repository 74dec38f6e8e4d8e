//! Questions of a run to its plan: the rows and columns of an input, its codes and scales, the scheme of a rule.
//!
//! A plan that cannot answer contradicts itself, which is an error of the run and not a panic: plans are public, and a
//! scheme of somebody else may have had its part in one.

use qwen_fp8_schemes::{Matrix, Scheme, SourceDtype};

use crate::plan::{CarriedForm, Plan, PlannedInput, Slot};
use crate::run::error::RunError;

/// Returns the scheme of a rule that quantizes.
pub(super) fn scheme<'a>(plan: &'a Plan, rule: usize, input: &PlannedInput) -> Result<&'a dyn Scheme, RunError> {
    plan.scheme(rule).ok_or_else(|| RunError::inconsistent(&input.name, "its rule has no scheme"))
}

/// Returns the tensors of an input that passes through.
pub(super) fn carried(input: &PlannedInput) -> Result<&CarriedForm, RunError> {
    let carried = input.quantized().and_then(|source| source.carried.as_ref().ok());
    carried.ok_or_else(|| RunError::inconsistent(&input.name, "it passes through, and is not quantized"))
}

/// The number of columns of an input.
pub(super) fn columns(input: &PlannedInput) -> usize {
    input.shape.last().copied().unwrap_or_default()
}

/// Returns the bytes of a value.
pub(super) fn width(input: &PlannedInput) -> usize {
    input.dtype.bitsize() / 8
}

/// Returns the bytes of a row of values.
pub(super) fn row_bytes(input: &PlannedInput) -> u64 {
    (columns(input) * width(input)) as u64
}

/// Returns the rows and columns of a weight. All dimensions but the last one count as rows.
pub(super) fn matrix(input: &PlannedInput) -> Result<Matrix, RunError> {
    let dtype = SourceDtype::try_from(input.dtype)
        .map_err(|_| RunError::inconsistent(&input.name, "its dtype is none that can be quantized"))?;
    let [rows @ .., columns] = input.shape.as_slice() else {
        return Err(RunError::inconsistent(&input.name, "it has no rows"));
    };
    let matrix = Matrix { dtype, rows: rows.iter().product(), columns: *columns };
    if (matrix.rows * matrix.row_bytes()) as u64 != input.len {
        return Err(RunError::inconsistent(&input.name, "its shape and its bytes disagree"));
    }
    Ok(matrix)
}

/// Returns the first row and the number of rows of a part of a matrix, given in bytes.
pub(super) fn rows(matrix: Matrix, start: u64, len: u64) -> (usize, usize) {
    match matrix.row_bytes() as u64 {
        // A matrix without columns has rows all the same, for which whole-tensor outputs are written.
        0 => (0, matrix.rows),
        row => ((start / row) as usize, (len / row) as usize),
    }
}

/// Returns the offset of a tensor in its output shard.
pub(super) fn offset_of(plan: &Plan, slot: Slot) -> u64 {
    plan.shards[slot.shard].tensors[slot.tensor].offset
}
