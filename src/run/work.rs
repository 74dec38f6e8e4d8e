//! The work of a run: the plan cut into tasks of bounded size, in the order in which workers take them.

use std::collections::BTreeMap;
use std::ops::Range;

use qwen_fp8_schemes::AmaxScope;

use crate::plan::{Job, Plan};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::merge::MergeCapacity;
use crate::run::planned::{matrix, scheme};
use crate::run::row_reader;
use crate::run::segment::{Segment, SegmentKind, first_pass, segment, segments_of};
use crate::run::share::Share;

/// Bytes of source per task; fewer under a small `--max-memory`, more where a single band of the scheme is larger.
//
// Bands of about 2 MiB stay in the cache of a core between reading and writing; larger ones leave it and double the
// time of the kernels (docs/performance.md).
const TASK_BYTES: u64 = 2 << 20;

/// All tasks of a run, in order.
//
// A task is computed from its number. A list of them would grow with the model, and memory must not.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) segments: Vec<Segment>,
    /// Number of the first segment of each output shard, in order.
    shard_starts: Vec<usize>,
    /// Number of the first task of each segment.
    first_task: Vec<u64>,
    pub(super) tasks: u64,
    /// The input under which the absolute maximum of each input is gathered.
    pub(super) amax_leaders: Vec<usize>,
    /// Bytes that the tasks read; data that is read in two passes counts twice.
    pub(super) bytes: u64,
    pub(super) workers: usize,
    /// Bytes that a worker's buffer for source data must hold.
    pub(super) input_capacity: usize,
    /// Bytes of scratch memory that a worker needs to put rows together.
    pub(super) scratch_capacity: usize,
    /// Memory that a worker needs to merge adapters.
    pub(super) merge_capacity: MergeCapacity,
    /// Bytes that a worker's buffers for output must hold, in the order of a scheme's outputs.
    pub(super) output_capacities: Vec<usize>,
}

/// One task: a part of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) segment: usize,
    /// The part of the segment's bytes.
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Work {
    /// Cuts a share of the plan, which `plan_check` has passed, for `threads` workers whose buffers take at most `max_memory`
    /// bytes together. What is not in `share` is left out.
    ///
    /// # Errors
    /// The memory does not suffice for one worker, or the plan contradicts itself.
    pub(super) fn new(plan: &Plan, share: &Share, threads: usize, max_memory: u64) -> Result<Self, RunError> {
        let workers = workers(plan, threads, max_memory)?;
        // What merging holds of an adapter is there beside the band, whatever its size.
        let merging = plan.inputs.iter().map(|input| MergeCapacity::of(input, 1).bytes()).max().unwrap_or(0);
        let task_bytes = TASK_BYTES.min((max_memory / workers as u64).saturating_sub(merging as u64) / 2);
        let amax_leaders = plan.amax_leaders();
        let (segments, shard_starts) = segments(plan, share, &amax_leaders, task_bytes)?;
        let mut work = Self {
            segments,
            shard_starts,
            amax_leaders,
            first_task: Vec::new(),
            tasks: 0,
            bytes: 0,
            workers,
            input_capacity: 0,
            scratch_capacity: 0,
            merge_capacity: MergeCapacity::default(),
            output_capacities: Vec::new(),
        };
        for segment in &work.segments {
            work.first_task.push(work.tasks);
            work.tasks += segment.tasks;
            work.bytes += segment.len;
            work.input_capacity = work.input_capacity.max(segment.task_bytes as usize);
            work.scratch_capacity = work.scratch_capacity.max(segment.scratch(plan));
            work.merge_capacity = work.merge_capacity.or(segment.merge_capacity(plan));
            let outputs = segment.output_capacities(plan);
            for (index, capacity) in outputs.into_iter().enumerate() {
                match work.output_capacities.get_mut(index) {
                    Some(largest) => *largest = capacity.max(*largest),
                    None => work.output_capacities.push(capacity),
                }
            }
        }
        Ok(work)
    }

    /// Returns the lanes that workers take the tasks from: one for each output shard or, unless `apart`, one for all.
    pub(super) fn lanes(&self, apart: bool) -> Vec<Range<u64>> {
        if !apart {
            return Vec::from([Range { start: 0, end: self.tasks }]);
        }
        let first_task = |&segment: &usize| self.first_task.get(segment).copied().unwrap_or(self.tasks);
        let starts = self.shard_starts.iter().map(first_task);
        let ends = starts.clone().skip(1).chain([self.tasks]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }

    /// Returns the task of this number; `None` past the last one.
    pub(super) fn task(&self, number: u64) -> Option<Task> {
        if number >= self.tasks {
            return None;
        }
        // Segments without tasks share their first number with the next segment: the last of them has the task.
        let segment = self.first_task.partition_point(|&first| first <= number) - 1;
        let (start, len) = self.segments[segment].part(number - self.first_task[segment]);
        Some(Task { number, segment, start, len })
    }
}

/// Returns the number of workers that the memory allows, each with buffers for the smallest possible band of the most
/// demanding tensor.
//
// Fewer workers rather than an error: a small `--max-memory` makes a run slower, and fails only where not even one band
// fits.
fn workers(plan: &Plan, threads: usize, max_memory: u64) -> Result<usize, RunError> {
    let mut most = (0, "");
    for (input, job) in plan.inputs.iter().zip(&plan.jobs) {
        let (rows, outputs) = match job {
            Job::Quantize { rule, outputs } => (scheme(plan, *rule, input)?.band_rows(), outputs.as_slice()),
            Job::Copy { .. } | Job::Dequantize { .. } if !input.merged.is_empty() => (1, [].as_slice()),
            Job::Copy { .. } | Job::Dequantize { .. } | Job::PassThrough { .. } => continue,
        };
        let matrix = matrix(input)?;
        let rows = rows.min(matrix.rows);
        let output_bytes = outputs.iter().map(|(spec, _)| Buffer::footprint(spec.band_range(0, rows).len()));
        let input_bytes = Buffer::footprint(rows * matrix.row_bytes()) + row_reader::scratch(input, rows);
        let needed = input_bytes + MergeCapacity::of(input, rows).bytes() + output_bytes.sum::<usize>();
        if needed > most.0 {
            most = (needed, &input.name);
        }
    }
    let (needed, tensor) = most;
    let affordable = usize::try_from(max_memory).unwrap_or(usize::MAX).checked_div(needed).unwrap_or(threads);
    if affordable == 0 {
        return Err(RunError::Memory { tensor: tensor.to_owned(), needed: needed as u64, max: max_memory });
    }
    Ok(threads.clamp(1, affordable))
}

/// Returns the segments in the order of the output's shards and, within one, of the source; and the number of each
/// shard's first segment.
//
// Shard by shard, so that shards are finished, and entered into the journal, all along the run: an interruption then
// costs one shard or so, or as many as there are lanes under way. In the order of the source within a shard, so that reads are sequential.
fn segments(
    plan: &Plan,
    share: &Share,
    amax_leaders: &[usize],
    task_bytes: u64,
) -> Result<(Vec<Segment>, Vec<usize>), RunError> {
    let shard_of = |tensor: usize| plan.jobs[tensor].slots().first().map(|slot| slot.shard);
    let mut order: Vec<(usize, &Range<u64>)> = share.inputs.iter().map(|(&tensor, bytes)| (tensor, bytes)).collect();
    order.sort_by_cached_key(|&(tensor, _)| shard_of(tensor));
    let (mut segments, mut starts): (Vec<Segment>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut shard = None;
    // A weight that needs its maximum comes one segment later than it could. Right behind its first pass, the workers
    // would wait there for the one that has the last task of that pass.
    let mut delayed: Option<Segment> = None;
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (tensor, &leader) in amax_leaders.iter().enumerate() {
        members.entry(leader).or_default().push(tensor);
    }
    for (tensor, bytes) in order {
        if starts.is_empty() || shard_of(tensor) != shard {
            segments.extend(delayed.take());
            starts.push(segments.len());
            shard = shard_of(tensor);
        }
        let waiting = delayed.take();
        for next in segments_of(plan, tensor, bytes, task_bytes)? {
            match next.kind {
                SegmentKind::Quantize { scope: AmaxScope::Tensor | AmaxScope::Fused, .. } => {
                    // The first of those that share a maximum brings the first pass over all of them, whole, whoever
                    // quantizes them.
                    for member in members.remove(&amax_leaders[tensor]).unwrap_or_default() {
                        segments.extend(first_pass(segment(plan, member, task_bytes)?));
                    }
                    delayed = Some(next);
                }
                _ => {
                    if !segments.last_mut().is_some_and(|last| last.take_in(&next)) {
                        segments.push(next);
                    }
                }
            }
        }
        segments.extend(waiting);
    }
    segments.extend(delayed);
    Ok((segments, starts))
}
