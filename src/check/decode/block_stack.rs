//! Stacks of experts in blocks of MXFP4, decoded by tables as every other weight is.

use std::ops::Range;

use super::shards::Shards;
use super::storage::{OfficialForm, official};
use qwen_fp8_checkpoint::experts::BlockStack;
use qwen_fp8_checkpoint::source::SourceError;

/// Columns of a block.
const COLUMNS: usize = 32;

/// Describes the form of such stacks as that of other weights.
pub(crate) const BLOCK_STACK: &str = "MXFP4 groups of 32 in a stack of experts";

/// Buffers for the codes and scales of a run.
#[derive(Debug, Default)]
pub(crate) struct BlockBuffers {
    codes: Vec<u8>,
    scales: Vec<u8>,
    factors: Vec<f32>,
}

/// Appends the values of these columns of one stored row; rows are counted through all experts.
pub(crate) fn decode_row(
    stack: &BlockStack<'_>,
    shards: &Shards,
    row: usize,
    columns: &Range<usize>,
    buffers: &mut BlockBuffers,
    out: &mut Vec<f32>,
) -> Result<(), SourceError> {
    let BlockBuffers { codes, scales, factors } = buffers;
    let (across, groups) = (stack.inputs / COLUMNS, columns.start / COLUMNS..columns.end.div_ceil(COLUMNS));
    let from = (row * across + groups.start) as u64;
    shards.read(stack.blocks, from * COLUMNS as u64 / 2, groups.len() * COLUMNS / 2, codes)?;
    shards.read(stack.scales, from, groups.len(), scales)?;
    let storage = official(OfficialForm::Mxfp4);
    factors.clear();
    storage.scales(stack.scales.dtype, scales, 1.0, factors);
    let book = storage.codebook();
    out.extend(columns.clone().map(|column| {
        let at = column - groups.start * COLUMNS;
        // The first of two columns is the lower half of their byte.
        let code = codes[at / 2] >> (at % 2 * 4) & 0xF;
        book.value[usize::from(code)] * factors[at / COLUMNS]
    }));
    Ok(())
}

/// Returns the positions of scales that are NaN: how many, and the first.
pub(crate) fn bad_scales(stack: &BlockStack<'_>, shards: &Shards) -> Result<Option<(usize, u64)>, SourceError> {
    let (mut number, mut first, mut bytes) = (0, None, Vec::new());
    for range in super::ranges(stack.scales.len) {
        shards.read(stack.scales, range.start, (range.end - range.start) as usize, &mut bytes)?;
        // E8M0 has one code without a value.
        number += bytes.iter().filter(|&&byte| byte == 255).count();
        first = first.or_else(|| Some(range.start + bytes.iter().position(|&byte| byte == 255)? as u64));
    }
    Ok(first.map(|first| (number, first)))
}
