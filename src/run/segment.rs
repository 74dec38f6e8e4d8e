//! A stretch of work: where its bytes come from, where they go, and the tasks that it is cut into.

use qwen_fp8_schemes::{AmaxScope, Matrix, SourceDtype};

use crate::checkpoint::Tensor;
use crate::plan::{Fp8Source, InputData, Job, Plan, PlannedInput, Slot};
use crate::run::buffer::ALIGN;
use crate::run::error::RunError;
use crate::run::row_reader;
use crate::run::work::{inconsistent, scheme};

/// A stretch of work that is cut into equal tasks.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) kind: SegmentKind,
    /// The inputs that are read, in the order of their bytes; more than one, or none, only in a copy.
    pub(super) inputs: Vec<usize>,
    pub(super) source: SegmentSource,
    /// Bytes that are read, or put together from what is read.
    pub(super) len: u64,
    /// Bytes per task; the last one may have fewer.
    pub(super) task_bytes: u64,
    /// By how much a copy's first task is shorter, so that the others begin at aligned offsets of the output.
    skew: u64,
    pub(super) tasks: u64,
}

/// The place that the bytes of a segment come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentSource {
    /// A source shard, from this offset on.
    Bytes { shard: usize, offset: u64 },
    /// The rows of this input, which are put together from columns, or from codes and scales.
    Rows { input: usize },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentKind {
    /// Neighbours in the source that are neighbours in the output.
    Copy {
        to_shard: usize,
        to: u64,
    },
    /// The values of a weight that is FP8 in the source.
    Dequantize {
        matrix: Matrix,
        to_shard: usize,
        to: u64,
    },
    /// The first pass over a weight whose scheme needs its absolute maximum.
    Amax {
        matrix: Matrix,
    },
    Quantize {
        matrix: Matrix,
        scope: AmaxScope,
    },
}

impl Segment {
    /// Returns the source shards that are read, each once.
    pub(super) fn shards(&self, plan: &Plan) -> impl Iterator<Item = usize> + use<> {
        let shard = self.shard(plan);
        let scales = match self.source {
            SegmentSource::Bytes { .. } => None,
            SegmentSource::Rows { input } => plan.inputs[input].fp8().map(|source| source.scales.shard),
        };
        std::iter::once(shard).chain(scales.filter(|&scales| scales != shard))
    }

    /// The source shard that is read, scales aside.
    pub(super) fn shard(&self, plan: &Plan) -> usize {
        match self.source {
            SegmentSource::Bytes { shard, .. } => shard,
            SegmentSource::Rows { input } => plan.inputs[input].shard(),
        }
    }

    /// The file offset whose alignment the input buffer of the segment's first byte should have.
    pub(super) fn alignment(&self) -> u64 {
        match self.source {
            SegmentSource::Bytes { offset, .. } => offset,
            // Nothing is read straight into the buffer.
            SegmentSource::Rows { .. } => 0,
        }
    }

    /// Joins `next` to this copy where both its ends follow on; says whether it did.
    pub(super) fn take_in(&mut self, next: &Self) -> bool {
        let (SegmentKind::Copy { to_shard, to }, SegmentKind::Copy { to_shard: next_to_shard, to: next_to }) =
            (self.kind, next.kind)
        else {
            return false;
        };
        let (SegmentSource::Bytes { shard, offset }, SegmentSource::Bytes { shard: next_shard, offset: next_offset }) =
            (self.source, next.source)
        else {
            return false;
        };
        let follows = (shard, offset + self.len) == (next_shard, next_offset)
            && (to_shard, to + self.len) == (next_to_shard, next_to);
        if follows {
            self.len += next.len;
            self.inputs.extend(&next.inputs);
            self.tasks = self.count();
        }
        follows
    }

    fn counted(mut self) -> Self {
        self.tasks = self.count();
        self
    }

    fn count(&self) -> u64 {
        if self.len == 0 { 0 } else { (self.len + self.skew).div_ceil(self.task_bytes) }
    }

    /// Offset within the segment and length of its `index`-th task.
    pub(super) fn part(&self, index: u64) -> (u64, u64) {
        let start = (index * self.task_bytes).saturating_sub(self.skew);
        let end = ((index + 1) * self.task_bytes - self.skew).min(self.len);
        (start, end - start)
    }

    /// Bytes that a worker needs to put the rows of a task together.
    pub(super) fn scratch(&self, plan: &Plan) -> usize {
        let SegmentSource::Rows { input } = self.source else { return 0 };
        let input = &plan.inputs[input];
        match row_bytes(input) {
            0 => 0,
            row => row_reader::scratch(input, (self.task_bytes.min(self.len) / row) as usize),
        }
    }

    /// Bytes that a worker's buffers for the output of a task must hold.
    pub(super) fn output_capacities(&self, plan: &Plan) -> Vec<usize> {
        let SegmentKind::Quantize { matrix, .. } = self.kind else { return Vec::new() };
        let Job::Quantize { outputs, .. } = &plan.jobs[self.inputs[0]] else { return Vec::new() };
        let rows = rows(matrix, 0, self.task_bytes).1.min(matrix.rows);
        outputs.iter().map(|(spec, _)| spec.band_range(0, rows).len()).collect()
    }
}

/// The pass over a weight that is to be quantized which gathers its maximum.
pub(super) fn first_pass(quantize: Segment) -> Option<Segment> {
    let SegmentKind::Quantize { matrix, .. } = quantize.kind else { return None };
    Some(Segment { kind: SegmentKind::Amax { matrix }, ..quantize }.counted())
}

/// Returns the work for one input, in the order of the source.
pub(super) fn segments_of(plan: &Plan, index: usize, task_bytes: u64) -> Result<Vec<Segment>, RunError> {
    let Job::PassThrough { codes, scales } = &plan.jobs[index] else {
        return Ok(vec![segment(plan, index, task_bytes)?]);
    };
    let source = fp8(&plan.inputs[index])?;
    let passed = |inputs, stored: &Tensor, to: &Slot| {
        copy(plan, inputs, (stored.shard, stored.offset, stored.len), *to, task_bytes)
    };
    Ok(vec![passed(vec![index], &source.codes, codes), passed(Vec::new(), &source.scales, scales)])
}

/// Returns the work for an input that is copied, dequantized or quantized.
pub(super) fn segment(plan: &Plan, index: usize, task_bytes: u64) -> Result<Segment, RunError> {
    let input = &plan.inputs[index];
    let source = match &input.data {
        InputData::Stored { shard, offset } => SegmentSource::Bytes { shard: *shard, offset: *offset },
        InputData::Transposed { .. } | InputData::Fp8(_) => SegmentSource::Rows { input: index },
    };
    let segment = |kind, task_bytes| {
        Segment { kind, inputs: vec![index], source, len: input.len, task_bytes, skew: 0, tasks: 0 }.counted()
    };
    match (&plan.jobs[index], source) {
        (Job::Copy { to }, SegmentSource::Bytes { shard, offset }) => {
            Ok(copy(plan, vec![index], (shard, offset, input.len), *to, task_bytes))
        }
        (Job::Copy { to }, SegmentSource::Rows { .. }) => {
            let kind = SegmentKind::Copy { to_shard: to.shard, to: offset_of(plan, *to) };
            Ok(segment(kind, whole_rows(task_bytes, row_bytes(input))))
        }
        (Job::Dequantize { to }, _) => {
            let matrix = matrix(input)?;
            let kind = SegmentKind::Dequantize { matrix, to_shard: to.shard, to: offset_of(plan, *to) };
            Ok(segment(kind, whole_rows(task_bytes, row_bytes(input))))
        }
        (Job::PassThrough { .. }, _) => Err(inconsistent(&input.name, "it passes through in two parts")),
        (Job::Quantize { rule, outputs }, _) => {
            let matrix = matrix(input)?;
            let scheme = scheme(plan, *rule, input)?;
            let task_bytes = whole_rows(task_bytes, (scheme.band_rows() * matrix.row_bytes()) as u64);
            let segment = segment(SegmentKind::Quantize { matrix, scope: scheme.amax_scope() }, task_bytes);
            // An empty weight still has its whole-tensor outputs written, by a band without rows.
            let writes = outputs.iter().any(|(spec, _)| spec.bytes() > 0);
            Ok(Segment { tasks: segment.tasks.max(writes.into()), ..segment })
        }
    }
}

/// Returns the codes and scales of an input that passes through.
pub(super) fn fp8(input: &PlannedInput) -> Result<&Fp8Source, RunError> {
    input.fp8().ok_or_else(|| inconsistent(&input.name, "it passes through, and is not FP8"))
}

/// A copy of stored bytes: a shard, an offset in it, and their number.
fn copy(
    plan: &Plan,
    inputs: Vec<usize>,
    (shard, offset, len): (usize, u64, u64),
    to: Slot,
    task_bytes: u64,
) -> Segment {
    let (to_shard, to) = (to.shard, offset_of(plan, to));
    let segment = Segment {
        kind: SegmentKind::Copy { to_shard, to },
        inputs,
        source: SegmentSource::Bytes { shard, offset },
        len,
        task_bytes: task_bytes.next_multiple_of(ALIGN as u64),
        skew: to % ALIGN as u64,
        tasks: 0,
    };
    segment.counted()
}

fn offset_of(plan: &Plan, slot: Slot) -> u64 {
    plan.shards[slot.shard].tensors[slot.tensor].offset
}

/// So many bytes, but a multiple of `unit` bytes and at least that.
fn whole_rows(bytes: u64, unit: u64) -> u64 {
    (bytes / unit.max(1) * unit).max(unit).max(1)
}

/// Bytes of a row of values.
pub(super) fn row_bytes(input: &PlannedInput) -> u64 {
    (input.shape.last().copied().unwrap_or_default() * input.dtype.bitsize() / 8) as u64
}

/// A weight as rows and columns; dimensions before the last are rows, one after the other.
pub(super) fn matrix(input: &PlannedInput) -> Result<Matrix, RunError> {
    let dtype = SourceDtype::try_from(input.dtype)
        .map_err(|_| inconsistent(&input.name, "its dtype is none that can be quantized"))?;
    let [rows @ .., columns] = input.shape.as_slice() else {
        return Err(inconsistent(&input.name, "it has no rows"));
    };
    let matrix = Matrix { dtype, rows: rows.iter().product(), columns: *columns };
    if (matrix.rows * matrix.row_bytes()) as u64 != input.len {
        return Err(inconsistent(&input.name, "its shape and its bytes disagree"));
    }
    Ok(matrix)
}

/// The first row of a part of a matrix and how many rows it has. A part without bytes is all of a matrix without any.
pub(super) fn rows(matrix: Matrix, start: u64, len: u64) -> (usize, usize) {
    match matrix.row_bytes() as u64 {
        0 => (0, matrix.rows),
        row => ((start / row) as usize, (len / row) as usize),
    }
}
