//! The order in which the work of a run reads the blocks of a source elsewhere.

use crate::checkpoint::Tensor;
use crate::plan::{CodeRows, InputData, Plan, PlannedInput, QuantizedSource};
use crate::run::error::RunError;
use crate::run::kept_blocks::BLOCKS;
use crate::run::options::RunOptions;
use crate::run::read_ahead::{self, ReadAhead};
use crate::run::schedule::{ByteExtent, Schedule};
use crate::run::segment::{Segment, SegmentSource};
use crate::run::work::{Task, Work};

/// Returns what is left for buffers of the memory that a run may take: blocks of a source elsewhere are kept in the rest.
pub(super) fn memory_for_work(plan: &Plan, options: &RunOptions<'_>) -> u64 {
    let blocks = if plan.checkpoint.repository.is_some() { read_ahead::memory(options.max_memory) } else { 0 };
    options.max_memory - blocks
}

/// Begins to fetch what the work reads; `None` where the source lies on this machine.
///
/// # Errors
/// As of [`schedule`], or the system has no thread for it.
pub(super) fn read_ahead(plan: &Plan, work: &Work, options: &RunOptions<'_>) -> Result<Option<ReadAhead>, RunError> {
    if plan.checkpoint.repository.is_none() {
        return Ok(None);
    }
    let schedule = schedule(plan, work, read_ahead::block_bytes(options.max_memory), BLOCKS)?;
    let started = ReadAhead::start(&plan.checkpoint.shards, schedule);
    started.map(Some).map_err(|source| RunError::NoThread { workers: work.workers, source })
}

/// Lists the blocks of so many bytes of all tasks, of which fewer than `most` are kept at a time.
///
/// # Errors
/// A weight is stored so that all of it is read for every few rows, and takes more blocks than that.
fn schedule(plan: &Plan, work: &Work, block: u64, most: u64) -> Result<Schedule, RunError> {
    let mut schedule = Schedule::new(block);
    for segment in &work.segments {
        let blocks = schedule.add(extents(plan, segment));
        if let SegmentSource::Rows { input } = segment.source
            && blocks >= most
            && !is_in_order(&plan.inputs[input])
        {
            let tensor = plan.inputs[input].name.clone();
            return Err(RunError::Unstreamable { tensor, needed: blocks * block, max: (most - 1) * block });
        }
    }
    Ok(schedule)
}

/// Returns the place of the first block that a task may read. A task that needs all of its segment's blocks has the first
/// of these.
pub(super) fn place(schedule: &Schedule, plan: &Plan, work: &Work, task: &Task) -> u64 {
    let segment = &work.segments[task.segment];
    let (done, len) = match segment.source {
        SegmentSource::Bytes { .. } => (task.start, segment.len),
        SegmentSource::Rows { input } if !is_in_order(&plan.inputs[input]) => (0, segment.len),
        // The blocks are those of the whole input, of which the segment may be a part.
        SegmentSource::Rows { input } => (segment.from + task.start, plan.inputs[input].len),
    };
    schedule.place(task.segment, done, len)
}

/// Returns whether the rows of an input lie one behind the other.
fn is_in_order(input: &PlannedInput) -> bool {
    match &input.data {
        InputData::Stored { .. } => true,
        InputData::Strided { steps, .. } => steps.row >= steps.column,
        InputData::Quantized(source) => source.transposed.is_none() && !matches!(source.rows, CodeRows::Columns { .. }),
    }
}

/// Returns the shards and the bytes of each, from and to, that a segment reads; the largest last.
fn extents(plan: &Plan, segment: &Segment) -> Vec<ByteExtent> {
    let input = match segment.source {
        SegmentSource::Bytes { shard, offset } => {
            return vec![ByteExtent { shard, from: offset, to: offset + segment.len }];
        }
        SegmentSource::Rows { input } => &plan.inputs[input],
    };
    let mut extents = match &input.data {
        InputData::Stored { shard, offset } => {
            vec![ByteExtent { shard: *shard, from: *offset, to: offset + input.len }]
        }
        InputData::Strided { shard, offset, steps } => {
            let columns = input.shape.last().copied().unwrap_or_default() as u64;
            let rows = input.shape.iter().product::<usize>() as u64 / columns.max(1);
            if rows * columns == 0 {
                return Vec::new();
            }
            let last = offset + (rows - 1) * steps.row + (columns - 1) * steps.column;
            vec![ByteExtent { shard: *shard, from: *offset, to: last + input.dtype.bitsize() as u64 / 8 }]
        }
        InputData::Quantized(source) => of_codes(source),
    };
    extents.sort_by_key(|extent| extent.to - extent.from);
    extents
}

/// Returns what is read of the tensors of a quantized weight.
fn of_codes(source: &QuantizedSource) -> Vec<ByteExtent> {
    let extent = |tensor: &Tensor| {
        let (shard, offset) = (tensor.shard, tensor.offset);
        let CodeRows::Some { first, count, step } = source.rows else {
            return ByteExtent { shard, from: offset, to: offset + tensor.len };
        };
        let rows: usize = tensor.shape.iter().take(2).product();
        let row = tensor.len / rows.max(1) as u64;
        let to = (first + count.saturating_sub(1) * step + 1).min(rows);
        ByteExtent { shard, from: offset + first as u64 * row, to: offset + to as u64 * row }
    };
    source.read().map(extent).collect()
}
