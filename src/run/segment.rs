//! Segments of the work: runs of bytes with one source, one destination and one treatment, cut into tasks.

use std::ops::Range;

use qwen_fp8_schemes::{AmaxScope, Dtype, Matrix, TensorRole};

use crate::checkpoint::Tensor;
use crate::plan::{CarriedScales, InputData, Job, Plan, Slot, SourcePart};
use crate::run::buffer::ALIGN;
use crate::run::error::RunError;
use crate::run::merge::MergeCapacity;
use crate::run::planned::{carried, matrix, offset_of, row_bytes, rows, scheme};
use crate::run::row_reader;

/// A run of bytes that is treated alike, cut into tasks of equal size.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) kind: SegmentKind,
    /// The inputs that are read, in the order of their bytes; more than one, or none, only in a copy.
    pub(super) inputs: Vec<usize>,
    pub(super) source: SegmentSource,
    /// Offset in the first input of the first byte; 0 unless another part has what is before.
    pub(super) from: u64,
    /// Bytes that are read, or put together from what is read.
    pub(super) len: u64,
    /// Bytes per task; the last one may have fewer.
    pub(super) task_bytes: u64,
    /// Bytes that the first task of a copy is shorter by, so that the others begin at aligned offsets of the output.
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

/// Treatment of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentKind {
    /// Tensors that are neighbours in the source and in the output, copied as one.
    Copy { to_shard: usize, to: u64 },
    /// Scales of a weight that passes through, which are written in another form.
    Scales { dtype: Dtype, scales: CarriedScales, to_shard: usize, to: u64 },
    /// Values that are decoded from a quantized source, or that adapters are merged into.
    Values { matrix: Matrix, to_shard: usize, to: u64 },
    /// The first pass over a weight whose scheme needs its absolute maximum.
    Amax { matrix: Matrix },
    /// Quantization of a weight, after its first pass where it has one.
    Quantize { matrix: Matrix, scope: AmaxScope },
}

impl Segment {
    /// Returns the source shards that are read, each once.
    pub(super) fn shards(&self, plan: &Plan) -> impl Iterator<Item = usize> + use<> {
        let mut shards = vec![self.shard(plan)];
        if let SegmentSource::Rows { input } = self.source {
            let others = plan.inputs[input].quantized().into_iter().flat_map(|source| source.read());
            shards.extend(others.map(|tensor| tensor.shard));
        }
        shards.sort_unstable();
        shards.dedup();
        shards.into_iter()
    }

    /// Returns the source shard that is read, scales aside.
    pub(super) fn shard(&self, plan: &Plan) -> usize {
        match self.source {
            SegmentSource::Bytes { shard, .. } => shard,
            SegmentSource::Rows { input } => plan.inputs[input].shard(),
        }
    }

    /// Returns the file offset whose alignment the input buffer should have at the segment's first byte.
    pub(super) fn alignment(&self) -> u64 {
        match self.source {
            SegmentSource::Bytes { offset, .. } => offset,
            // Rows are put together in memory: no file offset asks for an alignment.
            SegmentSource::Rows { .. } => 0,
        }
    }

    /// Joins `next` to this copy if it follows in the source and in the output. Returns whether it did.
    //
    // Norms and biases have a few KiB each. Joined, they are read and written in blocks of a size that direct I/O pays
    // for.
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
        let end = self.from + self.len;
        let follows = (shard, offset + end) == (next_shard, next_offset + next.from)
            && (to_shard, to + end) == (next_to_shard, next_to + next.from);
        if follows {
            self.len += next.len;
            self.inputs.extend(&next.inputs);
            self.tasks = self.count();
        }
        follows
    }

    /// Returns the segment of these bytes of its input alone.
    pub(super) fn within(self, bytes: &Range<u64>) -> Self {
        let (from, len) = (bytes.start, bytes.end - bytes.start);
        if (from, len) == (self.from, self.len) {
            return self;
        }
        let skew = match self.kind {
            SegmentKind::Copy { to, .. } if matches!(self.source, SegmentSource::Bytes { .. }) => skew(to + from),
            _ => 0,
        };
        Self { from, len, skew, ..self }.counted()
    }

    /// Returns the segment with its number of tasks.
    fn counted(mut self) -> Self {
        self.tasks = self.count();
        self
    }

    /// Returns the number of tasks.
    fn count(&self) -> u64 {
        if self.len == 0 { 0 } else { (self.len + self.skew).div_ceil(self.task_bytes) }
    }

    /// Returns the offset within the input and the length of its `index`-th task.
    pub(super) fn part(&self, index: u64) -> (u64, u64) {
        let start = (index * self.task_bytes).saturating_sub(self.skew);
        let end = ((index + 1) * self.task_bytes - self.skew).min(self.len);
        (self.from + start, end - start)
    }

    /// Returns the bytes of scratch memory that a worker needs to put the rows of a task together.
    pub(super) fn scratch(&self, plan: &Plan) -> usize {
        let SegmentSource::Rows { input } = self.source else { return 0 };
        let input = &plan.inputs[input];
        match row_bytes(input) {
            0 => 0,
            row => row_reader::scratch(input, (self.task_bytes.min(self.len) / row) as usize),
        }
    }

    /// Returns the memory that a worker needs to merge adapters into a task.
    pub(super) fn merge_capacity(&self, plan: &Plan) -> MergeCapacity {
        let &[input] = self.inputs.as_slice() else { return MergeCapacity::default() };
        let input = &plan.inputs[input];
        match row_bytes(input) {
            0 => MergeCapacity::default(),
            row => MergeCapacity::of(input, (self.task_bytes.min(self.len) / row) as usize),
        }
    }

    /// Returns the bytes that a worker's buffers for the output of a task must hold, one per output of the scheme.
    pub(super) fn output_capacities(&self, plan: &Plan) -> Vec<usize> {
        if let SegmentKind::Scales { dtype, scales, .. } = self.kind {
            return vec![scales_len(dtype, scales, self.task_bytes.min(self.len)) as usize];
        }
        let SegmentKind::Quantize { matrix, .. } = self.kind else { return Vec::new() };
        let Job::Quantize { outputs, .. } = &plan.jobs[self.inputs[0]] else { return Vec::new() };
        let rows = rows(matrix, 0, self.task_bytes).1.min(matrix.rows);
        outputs.iter().map(|(spec, _)| spec.band_range(0, rows).len()).collect()
    }
}

/// Returns the bytes that so many bytes of stored scales become.
pub(super) fn scales_len(dtype: Dtype, scales: CarriedScales, stored: u64) -> u64 {
    let width = (dtype.bitsize() as u64 / 8).max(1);
    stored / width * if scales.floats { 4 } else { width } * scales.repeated.unwrap_or(1) as u64
}

/// Returns the pass that finds the absolute maximum of a weight, before the segment that quantizes it.
pub(super) fn first_pass(quantize: Segment) -> Option<Segment> {
    let SegmentKind::Quantize { matrix, .. } = quantize.kind else { return None };
    Some(Segment { kind: SegmentKind::Amax { matrix }, ..quantize }.counted())
}

/// Returns the work for these bytes of one input, in the order of the source. One that passes through is never cut.
pub(super) fn segments_of(
    plan: &Plan,
    index: usize,
    bytes: &Range<u64>,
    task_bytes: u64,
) -> Result<Vec<Segment>, RunError> {
    let Job::PassThrough { to, scales } = &plan.jobs[index] else {
        return Ok(vec![segment(plan, index, task_bytes)?.within(bytes)]);
    };
    let passed = |(at, (part, to)): (usize, (&SourcePart, &Slot))| {
        let Tensor { shard, offset, len, .. } = part.tensor;
        // The input is counted once, with its codes.
        let inputs = if at == 0 { vec![index] } else { Vec::new() };
        if part.role == TensorRole::Scale && !scales.are_copied() {
            return self::scales(plan, &part.tensor, *scales, *to);
        }
        copy(plan, inputs, (shard, offset, len), *to, task_bytes)
    };
    Ok(carried(&plan.inputs[index])?.parts.iter().zip(to).enumerate().map(passed).collect())
}

/// Returns the work for an input that is copied, dequantized or quantized.
pub(super) fn segment(plan: &Plan, index: usize, task_bytes: u64) -> Result<Segment, RunError> {
    let input = &plan.inputs[index];
    let source = match &input.data {
        InputData::Stored { shard, offset } => SegmentSource::Bytes { shard: *shard, offset: *offset },
        InputData::Strided { .. } | InputData::Quantized(_) => SegmentSource::Rows { input: index },
    };
    let segment = |kind, task_bytes| {
        Segment { kind, inputs: vec![index], source, from: 0, len: input.len, task_bytes, skew: 0, tasks: 0 }.counted()
    };
    let values = |to: Slot| {
        let kind = SegmentKind::Values { matrix: matrix(input)?, to_shard: to.shard, to: offset_of(plan, to) };
        Ok(segment(kind, whole_rows(task_bytes, row_bytes(input))))
    };
    match (&plan.jobs[index], source) {
        (Job::Copy { to }, _) if !input.merged.is_empty() => values(*to),
        (Job::Copy { to }, SegmentSource::Bytes { shard, offset }) => {
            Ok(copy(plan, vec![index], (shard, offset, input.len), *to, task_bytes))
        }
        (Job::Copy { to }, SegmentSource::Rows { .. }) => {
            let kind = SegmentKind::Copy { to_shard: to.shard, to: offset_of(plan, *to) };
            Ok(segment(kind, whole_rows(task_bytes, row_bytes(input))))
        }
        (Job::Dequantize { to }, _) => values(*to),
        (Job::PassThrough { .. }, _) => Err(RunError::inconsistent(&input.name, "it passes through in parts")),
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

/// Bytes of stored scales in a task: a whole number of scales in every dtype.
const SCALES: u64 = 64 << 10;

/// Returns the writing of scales in another form.
fn scales(plan: &Plan, tensor: &Tensor, scales: CarriedScales, to: Slot) -> Segment {
    let kind = SegmentKind::Scales { dtype: tensor.dtype, scales, to_shard: to.shard, to: offset_of(plan, to) };
    let source = SegmentSource::Bytes { shard: tensor.shard, offset: tensor.offset };
    Segment { kind, inputs: Vec::new(), source, from: 0, len: tensor.len, task_bytes: SCALES, skew: 0, tasks: 0 }
        .counted()
}

/// Returns a copy of stored bytes, given by shard, offset and length.
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
        from: 0,
        len,
        task_bytes: task_bytes.next_multiple_of(ALIGN as u64),
        skew: skew(to),
        tasks: 0,
    };
    segment.counted()
}

/// Returns the bytes by which the first task of a copy to this offset is shorter.
fn skew(to: u64) -> u64 {
    to % ALIGN as u64
}

/// Rounds `bytes` down to a multiple of `unit` bytes, but not below one unit.
fn whole_rows(bytes: u64, unit: u64) -> u64 {
    (bytes / unit.max(1) * unit).max(unit).max(1)
}
