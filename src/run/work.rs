//! The work of a run: the plan cut into tasks of bounded size, in the order in which workers take them.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{AmaxScope, MAX_OUTPUTS, Scheme};

use crate::plan::{Job, Plan, PlannedInput, Slot};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::row_reader;
use crate::run::segment::{Segment, SegmentKind, first_pass, fp8, matrix, segment, segments_of};

/// Bytes of source that a task takes by default; smaller under `--max-memory`, larger where a band must be.
const TASK_BYTES: u64 = 2 << 20;

/// Everything there is to do, in order; a task is found by its number without a list of all of them.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) segments: Vec<Segment>,
    /// Per segment, the number of its first task.
    first_task: Vec<u64>,
    pub(super) tasks: u64,
    /// For each tensor the one under which its absolute maximum is gathered.
    pub(super) amax_leaders: Vec<usize>,
    /// Bytes of source that the tasks read, a second pass counted twice.
    pub(super) bytes: u64,
    pub(super) workers: usize,
    /// Bytes that a worker's buffer for source data must hold.
    pub(super) input_capacity: usize,
    /// Bytes that a worker needs beside the rows that it puts together.
    pub(super) scratch_capacity: usize,
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
    /// Cuts the plan, which [`check_slots`] has passed, for `threads` workers whose buffers take at most `max_memory`
    /// bytes together. What only goes to `finished` shards is left out.
    pub(super) fn new(plan: &Plan, finished: &[bool], threads: usize, max_memory: u64) -> Result<Self, RunError> {
        let workers = workers(plan, threads, max_memory)?;
        let task_bytes = TASK_BYTES.min(max_memory / workers as u64 / 2);
        let amax_leaders = plan.amax_leaders();
        let mut work = Self {
            segments: segments(plan, finished, &amax_leaders, task_bytes)?,
            amax_leaders,
            first_task: Vec::new(),
            tasks: 0,
            bytes: 0,
            workers,
            input_capacity: 0,
            scratch_capacity: 0,
            output_capacities: Vec::new(),
        };
        for segment in &work.segments {
            work.first_task.push(work.tasks);
            work.tasks += segment.tasks;
            work.bytes += segment.len;
            work.input_capacity = work.input_capacity.max(segment.task_bytes as usize);
            work.scratch_capacity = work.scratch_capacity.max(segment.scratch(plan));
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

    /// The task of this number, `None` past the last.
    pub(super) fn task(&self, number: u64) -> Option<Task> {
        if number >= self.tasks {
            return None;
        }
        // Segments without tasks share their first number with the next one: the last of them is meant.
        let segment = self.first_task.partition_point(|&first| first <= number) - 1;
        let (start, len) = self.segments[segment].part(number - self.first_task[segment]);
        Some(Task { number, segment, start, len })
    }
}

/// The scheme of a rule that quantizes.
pub(super) fn scheme<'a>(plan: &'a Plan, rule: usize, input: &PlannedInput) -> Result<&'a dyn Scheme, RunError> {
    plan.scheme(rule).ok_or_else(|| inconsistent(&input.name, "its rule has no scheme"))
}

/// How many workers the memory allows, each with buffers for the smallest possible band of the most demanding tensor.
fn workers(plan: &Plan, threads: usize, max_memory: u64) -> Result<usize, RunError> {
    let mut most = (0, "");
    for (input, job) in plan.inputs.iter().zip(&plan.jobs) {
        let Job::Quantize { rule, outputs } = job else { continue };
        let matrix = matrix(input)?;
        let rows = scheme(plan, *rule, input)?.band_rows().min(matrix.rows);
        let output_bytes = outputs.iter().map(|(spec, _)| Buffer::footprint(spec.band_range(0, rows).len()));
        let input_bytes = Buffer::footprint(rows * matrix.row_bytes()) + row_reader::scratch(input, rows);
        let needed = input_bytes + output_bytes.sum::<usize>();
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

/// The segments in the order of the output's shards and, within one, of the source.
fn segments(plan: &Plan, finished: &[bool], amax_leaders: &[usize], task_bytes: u64) -> Result<Vec<Segment>, RunError> {
    let mut order: Vec<usize> =
        (0..plan.jobs.len()).filter(|&tensor| is_wanted(&plan.jobs[tensor], finished)).collect();
    order.sort_by_cached_key(|&tensor| plan.jobs[tensor].slots().first().map(|slot| slot.shard));
    let mut segments: Vec<Segment> = Vec::new();
    // A weight that waits for its maximum comes one segment later than it could: by then, no worker has to wait for
    // another one's part of the first pass.
    let mut delayed: Option<Segment> = None;
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (tensor, &leader) in amax_leaders.iter().enumerate() {
        members.entry(leader).or_default().push(tensor);
    }
    for tensor in order {
        let waiting = delayed.take();
        for next in segments_of(plan, tensor, task_bytes)? {
            match next.kind {
                SegmentKind::Quantize { scope: AmaxScope::Tensor | AmaxScope::Fused, .. } => {
                    // The first of those that share a maximum brings the first pass over all of them.
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
    Ok(segments)
}

/// Whether the job writes to a shard that is not finished.
pub(super) fn is_wanted(job: &Job, finished: &[bool]) -> bool {
    job.slots().iter().any(|slot| !finished[slot.shard])
}

/// Every byte of the output is written by exactly one job, or lies in a header.
pub(super) fn check_slots(plan: &Plan) -> Result<(), RunError> {
    let mut taken: Vec<Vec<bool>> = plan.shards.iter().map(|shard| vec![false; shard.tensors.len()]).collect();
    if plan.inputs.len() != plan.jobs.len() {
        return Err(inconsistent("*", "it has not one job per input"));
    }
    for (input, job) in plan.inputs.iter().zip(&plan.jobs) {
        let mut take = |slot: &Slot, len: u64| {
            let placed = plan.shards.get(slot.shard).and_then(|shard| shard.tensors.get(slot.tensor));
            if placed.is_none_or(|placed| placed.len != len) {
                return Err(inconsistent(&input.name, "an output has another size than its place in the layout"));
            }
            if std::mem::replace(&mut taken[slot.shard][slot.tensor], true) {
                return Err(inconsistent(&input.name, "an output's place is taken twice"));
            }
            Ok(())
        };
        match job {
            Job::Copy { to } | Job::Dequantize { to } => take(to, input.len)?,
            Job::PassThrough { codes, scales } => {
                let source = fp8(input)?;
                take(codes, source.codes.len)?;
                take(scales, source.scales.len)?;
            }
            Job::Quantize { outputs, .. } if outputs.is_empty() || outputs.len() > MAX_OUTPUTS => {
                return Err(inconsistent(&input.name, "its scheme writes no tensor, or more than eight"));
            }
            Job::Quantize { outputs, .. } => {
                outputs.iter().try_for_each(|(spec, slot)| take(slot, spec.bytes() as u64))?;
            }
        }
    }
    for (shard, taken) in plan.shards.iter().zip(&taken) {
        let mut end = shard.header.len() as u64;
        for (placed, taken) in shard.tensors.iter().zip(taken) {
            if !taken {
                return Err(inconsistent(&placed.entry.name, "no job writes it"));
            }
            if placed.offset != end {
                return Err(inconsistent(&placed.entry.name, "it does not begin where the tensor before it ends"));
            }
            end += placed.len;
        }
        if end != shard.size {
            return Err(inconsistent(&shard.file_name, "the file's size is not that of its tensors"));
        }
    }
    Ok(())
}

pub(super) fn inconsistent(tensor: &str, reason: &'static str) -> RunError {
    RunError::Inconsistent { tensor: tensor.to_owned(), reason }
}
