//! A stretch of work: where its bytes come from, where they go, and the tasks that it is cut into.

use qwen_fp8_schemes::{AmaxScope, Matrix, SourceDtype};

use crate::checkpoint::Tensor;
use crate::plan::{Job, Plan, Slot};
use crate::run::RunError;
use crate::run::buffer::ALIGN;
use crate::run::view;
use crate::run::work::{inconsistent, scheme};

/// A stretch of work that is cut into equal tasks.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) kind: SegmentKind,
    /// The source tensors that are read, in the order of their bytes; more than one, or none, only in a copy.
    pub(super) tensors: Vec<usize>,
    /// The source shard that is read.
    pub(super) from_shard: usize,
    /// Offset in the source shard of the first byte that is read.
    pub(super) from: u64,
    /// Whether what is read are the bytes of the shard from `from` on; else they are rows of the only tensor, which its
    /// view puts together.
    pub(super) is_stored: bool,
    /// Another source shard that is read, for scales.
    pub(super) scale_shard: Option<usize>,
    pub(super) len: u64,
    /// Bytes of source per task; the last one may have fewer.
    pub(super) task_bytes: u64,
    /// By how much a copy's first task is shorter, so that the others begin at aligned offsets of the output.
    skew: u64,
    pub(super) tasks: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentKind {
    /// Neighbours in the source that are neighbours in the output.
    Copy {
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
    /// The source shards that are read.
    pub(super) fn shards(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.from_shard).chain(self.scale_shard)
    }

    /// Joins `next` to this copy where both its ends follow on; says whether it did.
    pub(super) fn take_in(&mut self, next: &Self) -> bool {
        let (SegmentKind::Copy { to_shard, to }, SegmentKind::Copy { to_shard: next_shard, to: next_to }) =
            (self.kind, next.kind)
        else {
            return false;
        };
        let follows = self.is_stored
            && next.is_stored
            && (self.from_shard, self.from + self.len) == (next.from_shard, next.from)
            && (to_shard, to + self.len) == (next_shard, next_to);
        if follows {
            self.len += next.len;
            self.tensors.extend(&next.tensors);
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
    pub(super) fn staging(&self, plan: &Plan) -> usize {
        if self.is_stored {
            return 0;
        }
        let tensor = &plan.checkpoint.tensors[self.tensors[0]];
        match row_bytes(tensor) {
            0 => 0,
            row => view::staging(tensor, (self.task_bytes.min(self.len) / row) as usize),
        }
    }

    /// Bytes that a worker's buffers for the output of a task must hold.
    pub(super) fn output_capacities(&self, plan: &Plan) -> Vec<usize> {
        let SegmentKind::Quantize { matrix, .. } = self.kind else { return Vec::new() };
        let Job::Quantize { outputs, .. } = &plan.jobs[self.tensors[0]] else { return Vec::new() };
        let rows = rows(matrix, 0, self.task_bytes).1.min(matrix.rows);
        outputs.iter().map(|(spec, _)| spec.band_range(0, rows).len()).collect()
    }
}

/// The pass over a weight that is to be quantized which gathers its maximum.
pub(super) fn first_pass(quantize: Segment) -> Option<Segment> {
    let SegmentKind::Quantize { matrix, .. } = quantize.kind else { return None };
    Some(Segment { kind: SegmentKind::Amax { matrix }, ..quantize }.counted())
}

/// The work for one tensor, in the order of the source.
pub(super) fn segments_of(plan: &Plan, index: usize, task_bytes: u64) -> Result<Vec<Segment>, RunError> {
    let tensor = &plan.checkpoint.tensors[index];
    let (Job::Carry { weight, scale }, Some(float8)) = (&plan.jobs[index], tensor.view.float8()) else {
        return Ok(vec![segment(plan, index, task_bytes)?]);
    };
    let stored = &float8.scale;
    Ok(vec![
        copy(plan, vec![index], (tensor.shard, tensor.offset, tensor.stored_len()), *weight, task_bytes),
        copy(plan, Vec::new(), (stored.shard, stored.offset, stored.len), *scale, task_bytes),
    ])
}

/// The work for a tensor that is copied or quantized.
pub(super) fn segment(plan: &Plan, index: usize, task_bytes: u64) -> Result<Segment, RunError> {
    let tensor = &plan.checkpoint.tensors[index];
    let segment = Segment {
        kind: SegmentKind::Copy { to_shard: 0, to: 0 },
        tensors: vec![index],
        from_shard: tensor.shard,
        from: tensor.offset,
        is_stored: tensor.view.is_stored(),
        scale_shard: tensor.view.float8().map(|float8| float8.scale.shard).filter(|&shard| shard != tensor.shard),
        len: tensor.len,
        task_bytes,
        skew: 0,
        tasks: 0,
    };
    match &plan.jobs[index] {
        Job::Copy { to } if segment.is_stored => {
            Ok(copy(plan, vec![index], (tensor.shard, tensor.offset, tensor.len), *to, task_bytes))
        }
        Job::Copy { to } => {
            let kind = SegmentKind::Copy { to_shard: to.shard, to: offset(plan, *to) };
            Ok(Segment { kind, task_bytes: whole_rows(task_bytes, row_bytes(tensor)), ..segment }.counted())
        }
        Job::Carry { .. } => Err(inconsistent(&tensor.name, "it is carried over, and is not FP8")),
        Job::Quantize { rule, outputs } => {
            let matrix = matrix(tensor)?;
            let scheme = scheme(plan, *rule, tensor)?;
            let task_bytes = whole_rows(task_bytes, (scheme.band_rows() * matrix.row_bytes()) as u64);
            let kind = SegmentKind::Quantize { matrix, scope: scheme.amax_scope() };
            let segment = Segment { kind, task_bytes, ..segment }.counted();
            // An empty weight still has its whole-tensor outputs written, by a band without rows.
            let writes = outputs.iter().any(|(spec, _)| spec.bytes() > 0);
            Ok(Segment { tasks: segment.tasks.max(writes.into()), ..segment })
        }
    }
}

/// A copy of stored bytes: a shard, an offset in it, and how many.
fn copy(
    plan: &Plan,
    tensors: Vec<usize>,
    (from_shard, from, len): (usize, u64, u64),
    to: Slot,
    task_bytes: u64,
) -> Segment {
    let (to_shard, to) = (to.shard, offset(plan, to));
    let segment = Segment {
        kind: SegmentKind::Copy { to_shard, to },
        tensors,
        from_shard,
        from,
        is_stored: true,
        scale_shard: None,
        len,
        task_bytes: task_bytes.next_multiple_of(ALIGN as u64),
        skew: to % ALIGN as u64,
        tasks: 0,
    };
    segment.counted()
}

fn offset(plan: &Plan, slot: Slot) -> u64 {
    plan.shards[slot.shard].tensors[slot.tensor].offset
}

/// So many bytes, but a multiple of `unit` bytes and at least that.
fn whole_rows(bytes: u64, unit: u64) -> u64 {
    (bytes / unit.max(1) * unit).max(unit).max(1)
}

/// Bytes of a row as it is seen.
pub(super) fn row_bytes(tensor: &Tensor) -> u64 {
    (tensor.shape.last().copied().unwrap_or_default() * tensor.dtype.bitsize() / 8) as u64
}

/// A weight as rows and columns; dimensions before the last are rows, one after the other.
pub(super) fn matrix(tensor: &Tensor) -> Result<Matrix, RunError> {
    let dtype = SourceDtype::try_from(tensor.dtype)
        .map_err(|_| inconsistent(&tensor.name, "its dtype is none that can be quantized"))?;
    let [rows @ .., columns] = tensor.shape.as_slice() else {
        return Err(inconsistent(&tensor.name, "it has no rows"));
    };
    let matrix = Matrix { dtype, rows: rows.iter().product(), columns: *columns };
    if (matrix.rows * matrix.row_bytes()) as u64 != tensor.len {
        return Err(inconsistent(&tensor.name, "its shape and its bytes disagree"));
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
