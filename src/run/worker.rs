//! A worker: a thread that reads the bytes of a task, quantizes or decodes them, and writes the result.

use std::io;
use std::sync::mpsc::Sender;
use std::thread::{self, Scope, ScopedJoinHandle};

use qwen_fp8_schemes::{
    AmaxScope, Band, Dtype, Extent, LossyGranules, MAX_OUTPUTS, Matrix, NonFinite, OnLossy, Scheme, TensorRole,
    TensorSpec, amax, lossy_granules, non_finite, scale_values,
};

use crate::plan::{CarriedScales, Job};
use crate::run::buffer::Buffer;
use crate::run::error::{ExactGranules, RunError};
use crate::run::merge::Merger;
use crate::run::planned::{self, offset_of, row_bytes};
use crate::run::row_reader::RowReader;
use crate::run::scales::first_infinite;
use crate::run::segment::{Segment, SegmentKind, SegmentSource, scales_len};
use crate::run::state::{RunState, StopOnPanic};
use crate::run::timings::{Stages, timed};
use crate::run::work::Task;

/// A worker and its buffers.
//
// The buffers are allocated once, for the largest task, so that `--max-memory` is known to suffice before the first
// byte is read.
pub(super) struct Worker<'a> {
    shared: &'a RunState<'a>,
    complete: Sender<usize>,
    input: Buffer,
    /// Reader of inputs that are not stored row after row.
    rows: RowReader,
    merger: Merger,
    outputs: Vec<Buffer>,
    stages: Stages,
}

impl<'a> Worker<'a> {
    /// Starts a thread that works until no task is left, and returns the times of its stages.
    ///
    /// # Errors
    /// The system has no memory for its buffers or no thread for it.
    pub(super) fn start<'scope>(
        shared: &'scope RunState<'a>,
        complete: Sender<usize>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<ScopedJoinHandle<'scope, Stages>, RunError> {
        let work = shared.work;
        // Reserved on the thread that starts it, which can report a lack of memory.
        let buffer = |&capacity: &usize| {
            let others = [&work.input_capacity, &work.scratch_capacity];
            let capacities = work.output_capacities.iter().chain(others);
            let each = capacities.map(|&capacity| Buffer::footprint(capacity)).sum();
            Buffer::reserve(capacity).map_err(|_| RunError::NoMemory { workers: work.workers, each })
        };
        let (input, rows) =
            (buffer(&work.input_capacity)?, RowReader::new(buffer(&work.scratch_capacity)?, shared.options.simd));
        let merger = Merger::reserve(work.merge_capacity)
            .map_err(|_| RunError::NoMemory { workers: work.workers, each: work.merge_capacity.bytes() })?;
        let outputs = work.output_capacities.iter().map(buffer).collect::<Result<_, _>>()?;
        let worker = Worker { shared, complete, input, rows, merger, outputs, stages: Stages::default() };
        let started = thread::Builder::new().spawn_scoped(scope, move || worker.run());
        started.map_err(|source| RunError::NoThread { workers: work.workers, source })
    }

    /// Carries out tasks until none is left.
    fn run(mut self) -> Stages {
        let shared = self.shared;
        let _stop = StopOnPanic(shared);
        self.input.fill();
        self.rows.fill();
        self.outputs.iter_mut().for_each(Buffer::fill);
        let mut lane = None;
        while let Some(task) = shared.take(&mut lane) {
            shared.begin(&task);
            if let Err(error) = self.carry_out(&task).and_then(|()| shared.end(&task)) {
                shared.fail(Some(task.number), error);
            }
        }
        self.stages
    }

    /// Carries out one task.
    fn carry_out(&mut self, task: &Task) -> Result<(), RunError> {
        let segment = &self.shared.work.segments[task.segment];
        match segment.kind {
            SegmentKind::Copy { to_shard, to } => self.copy(task, segment, None, to_shard, to + task.start),
            SegmentKind::Scales { dtype, scales, to_shard, to } => {
                let to = to + scales_len(dtype, scales, task.start);
                self.scales(task, segment, (dtype, scales), to_shard, to)
            }
            SegmentKind::Values { matrix, to_shard, to } => {
                self.copy(task, segment, Some(matrix), to_shard, to + task.start)
            }
            SegmentKind::Amax { matrix } => self.amax(task, segment, matrix),
            SegmentKind::Quantize { matrix, scope } => self.quantize(task, segment, matrix, scope),
        }
    }

    /// Copies the task to offset `to` of a shard. With `computed`, the bytes are values that were decoded or merged into, which
    /// are checked.
    fn copy(
        &mut self,
        task: &Task,
        segment: &Segment,
        computed: Option<Matrix>,
        to_shard: usize,
        to: u64,
    ) -> Result<(), RunError> {
        let output = self.shared.outputs.get(to_shard)?;
        self.read(segment, task, to)?;
        let bytes = self.input.filled(to, task.len as usize);
        if let Some(matrix) = computed {
            self.check_computed(segment, matrix, task, bytes)?;
        }
        timed(&mut self.stages.compute, || self.shared.recorder.checksums.add(to_shard, to, bytes));
        let _turn = timed(&mut self.stages.queue, || output.turn());
        timed(&mut self.stages.write, || self.shared.outputs.write_at(to_shard, &output, bytes, to))
            .map_err(|error| self.write_error(segment, task, to_shard, error))?;
        self.written(to_shard, task.len);
        Ok(())
    }

    /// Writes the scales of the task in another form to offset `to` of a shard.
    fn scales(
        &mut self,
        task: &Task,
        segment: &Segment,
        (dtype, scales): (Dtype, CarriedScales),
        to_shard: usize,
        to: u64,
    ) -> Result<(), RunError> {
        let output = self.shared.outputs.get(to_shard)?;
        self.read(segment, task, segment.alignment() + task.start)?;
        let stored = self.input.filled(segment.alignment() + task.start, task.len as usize);
        let len = scales_len(dtype, scales, task.len);
        let out = self.outputs[0].at_offset(to, len as usize);
        if scales.floats {
            let mut numbers = Vec::new();
            scale_values(dtype, stored, None, &mut numbers);
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = byte);
        } else {
            out[..stored.len()].copy_from_slice(stored);
        }
        if let Some(rows) = scales.repeated {
            // The single scale stands at the front.
            let width = out.len().checked_div(rows).unwrap_or(0);
            (1..rows).for_each(|row| out.copy_within(..width, row * width));
        }
        let bytes = self.outputs[0].filled(to, len as usize);
        timed(&mut self.stages.compute, || self.shared.recorder.checksums.add(to_shard, to, bytes));
        let _turn = timed(&mut self.stages.queue, || output.turn());
        timed(&mut self.stages.write, || self.shared.outputs.write_at(to_shard, &output, bytes, to))
            .map_err(|error| self.write_error(segment, task, to_shard, error))?;
        self.written(to_shard, len);
        Ok(())
    }

    /// Refuses NaN and infinity, which decoding a damaged FP8 weight, or merging a damaged adapter, can yield.
    fn check_computed(&self, segment: &Segment, matrix: Matrix, task: &Task, bytes: &[u8]) -> Result<(), RunError> {
        if self.shared.plan.keeps_non_finite() {
            return Ok(());
        }
        let (first_row, _) = planned::rows(matrix, task.start, task.len);
        let checked = amax(matrix, first_row, bytes, self.shared.options.simd);
        checked.map(|_| ()).map_err(|at| self.non_finite(segment, at))
    }

    /// Adds the task to the absolute maximum of its weight.
    fn amax(&mut self, task: &Task, segment: &Segment, matrix: Matrix) -> Result<(), RunError> {
        self.read(segment, task, segment.alignment() + task.start)?;
        let bytes = self.input.filled(segment.alignment() + task.start, task.len as usize);
        let (first_row, _) = planned::rows(matrix, task.start, task.len);
        let amax = timed(&mut self.stages.compute, || amax(matrix, first_row, bytes, self.shared.options.simd));
        let amax = match amax {
            // Non-finite values are counted later, in the quantizing pass.
            Err(_) if self.shared.plan.keeps_non_finite() => {
                non_finite(matrix, first_row, bytes).amax().unwrap_or_default()
            }
            amax => amax.map_err(|at| self.non_finite(segment, at))?,
        };
        self.shared.amax.add(segment.inputs[0], amax);
        Ok(())
    }

    /// Quantizes the task and writes all outputs of the scheme.
    fn quantize(&mut self, task: &Task, segment: &Segment, matrix: Matrix, scope: AmaxScope) -> Result<(), RunError> {
        let tensor = segment.inputs[0];
        let Job::Quantize { rule, outputs } = &self.shared.plan.jobs[tensor] else {
            unreachable!("a segment that quantizes is made from a job that quantizes");
        };
        let amax = match scope {
            AmaxScope::Band => None,
            AmaxScope::Tensor | AmaxScope::Fused => {
                let shared = self.shared;
                // Without a maximum the run has stopped; whoever stopped it has recorded the reason.
                let amax = timed(&mut self.stages.wait, || shared.amax.wait(tensor, || shared.is_over(task.number)));
                Some(amax.ok_or(RunError::Cancelled)?)
            }
        };
        self.read(segment, task, segment.alignment() + task.start)?;
        let (first_row, rows) = planned::rows(matrix, task.start, task.len);
        let scheme = planned::scheme(self.shared.plan, *rule, &self.shared.plan.inputs[tensor])?;
        let band = Band {
            source: matrix,
            first_row,
            rows,
            bytes: self.input.filled(segment.alignment() + task.start, task.len as usize),
            amax,
            simd: self.shared.options.simd,
        };
        let places: [(u64, usize); MAX_OUTPUTS] = std::array::from_fn(|index| match outputs.get(index) {
            Some((spec, slot)) => {
                let range = spec.band_range(first_row, rows);
                (offset_of(self.shared.plan, *slot) + range.start as u64, range.len())
            }
            None => (0, 0),
        });
        let mut slices: [&mut [u8]; MAX_OUTPUTS] = Default::default();
        for ((slice, buffer), &(offset, len)) in slices.iter_mut().zip(&mut self.outputs).zip(&places) {
            *slice = buffer.at_offset(offset, len);
        }
        let (keeps, slices) = (self.shared.plan.keeps_non_finite(), &mut slices[..outputs.len()]);
        let count = timed(&mut self.stages.compute, || {
            if keeps { scheme.quantize_any(&band, slices) } else { scheme.quantize(&band, slices).map(|()| None) }
        });
        let count = count.map_err(|at| self.non_finite(segment, at))?;
        let stored = outputs.iter().zip(&self.outputs).zip(&places);
        let stored = stored.map(|(((spec, _), buffer), &(offset, len))| (spec, buffer.filled(offset, len)));
        // Weights that are finite can have an infinite scale where their span overflows its dtype. It ends the run
        // here, with the row at hand; a server would read every weight of the group as zero or NaN.
        if count.is_none() {
            let mut bad = stored.clone().filter_map(|(spec, stored)| Some((spec, first_infinite(spec, stored)?)));
            if let Some((spec, at)) = bad.next() {
                let across = spec.shape[1..].iter().product::<usize>().max(1);
                let row = first_row + at / across * rows_of_a_scale(spec);
                let path = self.shared.sources.path(segment.shard(self.shared.plan)).to_path_buf();
                return Err(RunError::InfiniteScale { tensor: self.shared.tensor_at(segment, 0), path, row });
            }
        }
        let lossy = timed(&mut self.stages.compute, || lossy(scheme, &band, stored.clone()));
        self.judge_lossy(segment, tensor, scheme, lossy)?;
        // Before the bytes are counted as written: the thread that finishes the shard enters these statistics into the
        // journal.
        timed(&mut self.stages.compute, || self.shared.recorder.add(tensor, scheme, &band, count, stored));
        for (index, (_, slot)) in outputs.iter().enumerate() {
            // The outputs of a weight can lie in two shards, one of which an earlier run has finished.
            if !self.shared.outputs.is_wanted(slot.shard) {
                continue;
            }
            let (offset, len) = places[index];
            let file = self.shared.outputs.get(slot.shard)?;
            let bytes = self.outputs[index].filled(offset, len);
            timed(&mut self.stages.compute, || self.shared.recorder.checksums.add(slot.shard, offset, bytes));
            let _turn = timed(&mut self.stages.queue, || file.turn());
            timed(&mut self.stages.write, || self.shared.outputs.write_at(slot.shard, &file, bytes, offset))
                .map_err(|error| self.write_error(segment, task, slot.shard, error))?;
            self.written(slot.shard, len as u64);
        }
        Ok(())
    }

    /// Ends the run at a granule that the scheme was to hold exactly, or counts it, as the scheme says.
    fn judge_lossy(
        &self,
        segment: &Segment,
        tensor: usize,
        scheme: &dyn Scheme,
        lossy: LossyGranules,
    ) -> Result<(), RunError> {
        let Some(first) = lossy.first else { return Ok(()) };
        if scheme.on_lossy() == Some(OnLossy::Round) {
            self.shared.recorder.lossy_granules.add(tensor, lossy);
            return Ok(());
        }
        let [row, column] = first.place;
        Err(RunError::Lossy {
            tensor: self.shared.tensor_at(segment, 0),
            path: self.shared.sources.path(segment.shard(self.shared.plan)).to_path_buf(),
            granules: ExactGranules::of(scheme.weights().strategy),
            row,
            column,
            exponents: first.exponents,
            others: lossy.number - 1,
        })
    }

    /// Reads the task's bytes into the input buffer, to the place for a write to offset `to`.
    fn read(&mut self, segment: &Segment, task: &Task, to: u64) -> Result<(), RunError> {
        let shared = self.shared;
        let len = task.len as usize;
        self.stages.bytes_read += match segment.source {
            SegmentSource::Bytes { shard, offset } => {
                let source = shared.sources.get(shard)?;
                timed(&mut self.stages.read, || source.read(&mut self.input, offset + task.start, len, to))
                    .map_err(|error| shared.sources.error(shard, &shared.tensor_at(segment, task.start), error))?;
                task.len
            }
            SegmentSource::Rows { input } => {
                let input = &shared.plan.inputs[input];
                let first_row = (task.start / row_bytes(input).max(1)) as usize;
                let out = self.input.at_offset(to, len);
                timed(&mut self.stages.read, || self.rows.read(&shared.sources, input, first_row, out))?
            }
        };
        let &[number] = segment.inputs.as_slice() else { return Ok(()) };
        let input = &shared.plan.inputs[number];
        if !input.merged.is_empty() {
            let (values, simd) = (self.input.at_offset(to, len), shared.options.simd);
            let merged = timed(&mut self.stages.compute, || {
                self.merger.merge(&shared.adapters, (number, input), task.start, values, simd)
            });
            self.stages.bytes_read += merged?;
        }
        Ok(())
    }

    /// Counts bytes of a shard as written, and sends a shard that is complete to be finished.
    fn written(&self, shard: usize, bytes: u64) {
        if self.shared.outputs.written(shard, bytes) {
            // The receiver lives until all workers have ended.
            let _ = self.complete.send(shard);
        }
    }

    /// Returns the error of a failed write, by tensor and file.
    fn write_error(&self, segment: &Segment, task: &Task, shard: usize, source: io::Error) -> RunError {
        let path = self.shared.outputs.path(shard);
        RunError::Write { path, tensor: self.shared.tensor_at(segment, task.start), source }
    }

    /// Returns the error of a non-finite value, by tensor and file.
    fn non_finite(&self, segment: &Segment, at: NonFinite) -> RunError {
        let path = self.shared.sources.path(segment.shard(self.shared.plan)).to_path_buf();
        let plan = self.shared.plan;
        let last = segment.inputs.first().and_then(|&input| plan.inputs[input].merged.last());
        let merged = last.map(|merge| plan.checkpoint.adapters[merge.adapter].name.name.clone());
        RunError::NonFinite { tensor: self.shared.tensor_at(segment, 0), path, at, merged }
    }
}

/// Returns the granules of a band that a scheme was to hold exactly and did not, given what it stored; none of a scheme
/// that rounds.
fn lossy<'s>(
    scheme: &dyn Scheme,
    band: &Band<'_>,
    stored: impl Iterator<Item = (&'s TensorSpec, &'s [u8])> + Clone,
) -> LossyGranules {
    let of = |role| stored.clone().find(|(spec, _)| spec.role == role);
    match (scheme.on_lossy(), of(TensorRole::Codes), of(TensorRole::Scale)) {
        (Some(_), Some((_, codes)), Some((spec, scales))) => {
            lossy_granules(scheme.weights().strategy, spec, scales, codes, band)
        }
        _ => LossyGranules::default(),
    }
}

/// Returns the rows of the source that one row of scales belongs to.
fn rows_of_a_scale(spec: &TensorSpec) -> usize {
    match spec.extent {
        Extent::Rows(rows) => rows,
        Extent::Packed { .. } | Extent::Whole => 0,
    }
}
