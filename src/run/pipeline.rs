//! The workers: each takes the next task, reads, quantizes and writes it, and asks nothing of the others.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use qwen_fp8_schemes::{AmaxScope, Band, Matrix, NonFinite, absmax, non_finite};

use crate::checkpoint::source::SourceError;
use crate::plan::{Job, Plan, Slot};
use crate::recipe::NonFinitePolicy;
use crate::run::amax::Maxima;
use crate::run::buffer::Buffer;
use crate::run::journal::Finished;
use crate::run::met::Record;
use crate::run::outputs::Outputs;
use crate::run::sources::Sources;
use crate::run::staging::Staging;
use crate::run::timings::{Slowest, Stages, TensorTime, timed};
use crate::run::work::{self, MAX_OUTPUTS, Segment, SegmentKind, Task, Work};
use crate::run::{Observer, Options, RunError};

/// What all workers share.
pub(super) struct Pipeline<'a> {
    plan: &'a Plan,
    work: &'a Work,
    sources: Sources<'a>,
    outputs: &'a Outputs<'a>,
    record: Record<'a>,
    staging: &'a Staging,
    options: &'a Options<'a>,
    observer: &'a dyn Observer,
    /// The number of the next task.
    next: AtomicU64,
    /// No further task is begun.
    stopped: AtomicBool,
    /// The failure of the earliest task, whatever the order in which they failed.
    failure: Mutex<Option<(u64, RunError)>>,
    /// Per segment of the work.
    progress: Vec<Progress>,
    /// Per source shard, the tasks that still read it.
    unread: Vec<AtomicU64>,
    maxima: Maxima,
    slowest: Mutex<Slowest>,
}

struct Progress {
    remaining: AtomicU64,
    started: OnceLock<Instant>,
}

/// What the workers leave behind when all went well.
pub(super) struct Outcome {
    pub(super) stages: Stages,
    pub(super) slowest: Vec<TensorTime>,
    pub(super) span: Duration,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        work: &'a Work,
        outputs: &'a Outputs<'a>,
        record: Record<'a>,
        staging: &'a Staging,
        options: &'a Options<'a>,
        observer: &'a dyn Observer,
    ) -> Self {
        let unread: Vec<AtomicU64> = plan.checkpoint.shards.iter().map(|_| AtomicU64::new(0)).collect();
        for segment in &work.segments {
            unread[segment.from_shard].fetch_add(segment.tasks, Ordering::Relaxed);
        }
        let progress =
            |segment: &Segment| Progress { remaining: AtomicU64::new(segment.tasks), started: OnceLock::new() };
        Self {
            plan,
            work,
            sources: Sources::new(&plan.checkpoint.shards, options.direct),
            outputs,
            record,
            staging,
            options,
            observer,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
            progress: work.segments.iter().map(progress).collect(),
            unread,
            maxima: Maxima::new(work),
            slowest: Mutex::default(),
        }
    }

    /// Carries out all tasks; every shard is complete and durable when this returns without an error.
    pub(super) fn run(self) -> Result<Outcome, RunError> {
        let began = Instant::now();
        for segment in self.work.segments.iter().filter(|segment| segment.tasks == 0) {
            self.report(segment, Duration::ZERO);
        }
        let stages = thread::scope(|scope| {
            let (complete, completed) = mpsc::channel::<usize>();
            for shard in self.outputs.empty() {
                // The receiver lives until all senders are gone.
                let _ = complete.send(shard);
            }
            let _stop = StopOnPanic(&self);
            let mut workers = Vec::with_capacity(self.work.workers);
            while workers.len() < self.work.workers && !self.is_stopped() {
                match Worker::start(&self, complete.clone(), scope) {
                    Ok(worker) => workers.push(worker),
                    Err(error) => self.fail(u64::MAX, error),
                }
            }
            drop(complete);
            // Syncing blocks for as long as the disk takes; this thread leaves the workers at work.
            for shard in completed {
                if !self.is_stopped()
                    && let Err(error) = self.finish(shard)
                {
                    self.fail(u64::MAX, error);
                }
            }
            let mut stages = Stages::default();
            for worker in workers {
                match worker.join() {
                    Ok(own) => stages.add(&own),
                    // Only a scheme's own mistake can get here; the staging directory goes as the panic passes.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            stages
        });
        if let Some((_, error)) = self.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        if self.options.cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        let slowest = self.slowest.into_inner().unwrap_or_else(PoisonError::into_inner).into_inner();
        Ok(Outcome { stages, slowest, span: began.elapsed() })
    }

    /// Makes a complete shard durable, then says so in the journal.
    fn finish(&self, shard: usize) -> Result<(), RunError> {
        self.outputs.finish(shard)?;
        let layout = &self.plan.shards[shard];
        let finished = Finished {
            shard: layout.file_name.clone(),
            size: layout.size,
            crc64: self.record.checksums.shard(shard),
            kept: self.record.kept.of_shard(self.plan, shard),
            scales: self.record.scales.of_shard(self.plan, shard),
        };
        self.staging.journal.add(finished).map_err(RunError::file("write the journal of", &self.staging.dir))?;
        self.observer.shard_finished(&layout.file_name);
        Ok(())
    }

    /// The next task, unless the run stops. Tasks are handed out in order: when one fails, every earlier one has been
    /// begun and will end, so that the earliest failure is the same for any number of workers.
    fn take(&self) -> Option<Task> {
        if self.is_stopped() {
            return None;
        }
        self.work.task(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn is_stopped(&self) -> bool {
        if self.options.cancel.load(Ordering::Relaxed) {
            self.stop();
        }
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.maxima.wake();
    }

    fn fail(&self, task: u64, error: RunError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(earliest, _)| task < *earliest) {
            *failure = Some((task, error));
        }
        drop(failure);
        self.stop();
    }

    fn begin(&self, task: &Task) {
        self.progress[task.segment].started.get_or_init(Instant::now);
    }

    /// Notes that a task has ended well.
    fn end(&self, task: &Task) -> Result<(), RunError> {
        let segment = &self.work.segments[task.segment];
        let progress = &self.progress[task.segment];
        self.observer.advanced(task.len);
        if progress.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            let took = progress.started.get().map_or(Duration::ZERO, Instant::elapsed);
            self.report(segment, took);
        }
        if self.unread[segment.from_shard].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.sources.finish(segment.from_shard)?;
        }
        Ok(())
    }

    /// Whether NaN and infinity go into the output.
    fn keeps(&self) -> bool {
        self.plan.recipe.on_nonfinite == NonFinitePolicy::Keep
    }

    fn offset(&self, slot: Slot) -> u64 {
        self.plan.shards[slot.shard].tensors[slot.tensor].offset
    }

    /// The name of the tensor that the segment's byte at `start` belongs to.
    fn tensor_at(&self, segment: &Segment, start: u64) -> String {
        let tensors = &self.plan.checkpoint.tensors;
        let found = segment.tensors.iter().map(|&tensor| &tensors[tensor]);
        let mut found = found.filter(|tensor| tensor.offset + tensor.len > segment.from + start);
        found.next().map_or_else(String::new, |tensor| tensor.name.clone())
    }

    /// Tells the observer of the tensors of a finished segment; those of one copy share its time by their sizes.
    fn report(&self, segment: &Segment, took: Duration) {
        if let SegmentKind::Amax { .. } = segment.kind {
            return;
        }
        for &tensor in &segment.tensors {
            let tensor = &self.plan.checkpoint.tensors[tensor];
            let share = if segment.len == 0 { 0.0 } else { tensor.len as f64 / segment.len as f64 };
            let time =
                TensorTime { name: tensor.name.clone(), seconds: took.as_secs_f64() * share, bytes_read: tensor.len };
            self.observer.tensor_finished(&time);
            self.slowest.lock().unwrap_or_else(PoisonError::into_inner).add(time);
        }
    }
}

/// Stops the run when its thread panics, so that nobody waits for what will never come.
struct StopOnPanic<'a>(&'a Pipeline<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// One worker and its buffers, which are allocated once.
struct Worker<'a> {
    shared: &'a Pipeline<'a>,
    complete: Sender<usize>,
    input: Buffer,
    outputs: Vec<Buffer>,
    stages: Stages,
}

impl<'a> Worker<'a> {
    /// A thread that works until there is nothing more to do.
    fn start<'scope>(
        shared: &'scope Pipeline<'a>,
        complete: Sender<usize>,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<ScopedJoinHandle<'scope, Stages>, RunError> {
        let work = shared.work;
        let buffer = |&capacity: &usize| {
            let capacities = work.output_capacities.iter().chain([&work.input_capacity]);
            let each = capacities.map(|&capacity| Buffer::footprint(capacity)).sum();
            Buffer::reserve(capacity).map_err(|_| RunError::NoMemory { workers: work.workers, each })
        };
        let input = buffer(&work.input_capacity)?;
        let outputs = work.output_capacities.iter().map(buffer).collect::<Result<_, _>>()?;
        let worker = Worker { shared, complete, input, outputs, stages: Stages::default() };
        let started = thread::Builder::new().spawn_scoped(scope, move || worker.run());
        started.map_err(|source| RunError::NoThread { workers: work.workers, source })
    }

    fn run(mut self) -> Stages {
        let shared = self.shared;
        let _stop = StopOnPanic(shared);
        self.input.fill();
        self.outputs.iter_mut().for_each(Buffer::fill);
        while let Some(task) = shared.take() {
            shared.begin(&task);
            if let Err(error) = self.carry_out(&task).and_then(|()| shared.end(&task)) {
                shared.fail(task.number, error);
            }
        }
        self.stages
    }

    fn carry_out(&mut self, task: &Task) -> Result<(), RunError> {
        let segment = &self.shared.work.segments[task.segment];
        match segment.kind {
            SegmentKind::Copy { to_shard, to } => self.copy(task, segment, to_shard, to + task.start),
            SegmentKind::Amax { matrix } => self.amax(task, segment, matrix),
            SegmentKind::Quantize { matrix, scope } => self.quantize(task, segment, matrix, scope),
        }
    }

    fn copy(&mut self, task: &Task, segment: &Segment, to_shard: usize, to: u64) -> Result<(), RunError> {
        let output = self.shared.outputs.get(to_shard)?;
        self.read(segment, task, to)?;
        let bytes = self.input.filled(to, task.len as usize);
        timed(&mut self.stages.compute, || self.shared.record.checksums.add(to_shard, to, bytes));
        timed(&mut self.stages.write, || output.write_at(bytes, to))
            .map_err(|error| self.write_error(segment, task, to_shard, error))?;
        self.written(to_shard, task.len);
        Ok(())
    }

    fn amax(&mut self, task: &Task, segment: &Segment, matrix: Matrix) -> Result<(), RunError> {
        self.read(segment, task, segment.from + task.start)?;
        let bytes = self.input.filled(segment.from + task.start, task.len as usize);
        let (first_row, _) = work::rows(matrix, task.start, task.len);
        let amax = timed(&mut self.stages.compute, || absmax(matrix, first_row, bytes, self.shared.options.simd));
        let amax = match amax {
            // What is no number is counted when the weight is quantized.
            Err(_) if self.shared.keeps() => non_finite(matrix, first_row, bytes).amax().unwrap_or_default(),
            amax => amax.map_err(|at| self.non_finite(segment, at))?,
        };
        self.shared.maxima.add(segment.tensors[0], amax);
        Ok(())
    }

    fn quantize(&mut self, task: &Task, segment: &Segment, matrix: Matrix, scope: AmaxScope) -> Result<(), RunError> {
        let tensor = segment.tensors[0];
        let Job::Quantize { rule, outputs } = &self.shared.plan.jobs[tensor] else {
            unreachable!("a segment that quantizes is made from a job that quantizes");
        };
        let amax = match scope {
            AmaxScope::Band => None,
            AmaxScope::Tensor | AmaxScope::Fused => {
                let (maxima, stopped) = (&self.shared.maxima, &self.shared.stopped);
                // Without a maximum the run has stopped, for a reason that another worker has given.
                let amax = timed(&mut self.stages.wait, || maxima.wait(tensor, stopped));
                Some(amax.ok_or(RunError::Cancelled)?)
            }
        };
        self.read(segment, task, segment.from + task.start)?;
        let (first_row, rows) = work::rows(matrix, task.start, task.len);
        let scheme = work::scheme(self.shared.plan, *rule, &self.shared.plan.checkpoint.tensors[tensor])?;
        let band = Band {
            source: matrix,
            first_row,
            rows,
            bytes: self.input.filled(segment.from + task.start, task.len as usize),
            amax,
            simd: self.shared.options.simd,
        };
        let places: [(u64, usize); MAX_OUTPUTS] = std::array::from_fn(|index| match outputs.get(index) {
            Some((spec, slot)) => {
                let range = spec.band_range(first_row, rows);
                (self.shared.offset(*slot) + range.start as u64, range.len())
            }
            None => (0, 0),
        });
        let mut slices: [&mut [u8]; MAX_OUTPUTS] = Default::default();
        for ((slice, buffer), &(offset, len)) in slices.iter_mut().zip(&mut self.outputs).zip(&places) {
            *slice = buffer.at_offset(offset, len);
        }
        let (keeps, slices) = (self.shared.keeps(), &mut slices[..outputs.len()]);
        let met = timed(&mut self.stages.compute, || match keeps {
            true => scheme.quantize_any(&band, slices),
            false => scheme.quantize(&band, slices).map(|()| None),
        });
        let met = met.map_err(|at| self.non_finite(segment, at))?;
        let stored = outputs.iter().zip(&self.outputs).zip(&places);
        let stored = stored.map(|(((spec, _), buffer), &(offset, len))| (spec, buffer.filled(offset, len)));
        // Before anything is counted as written: who sees the shard complete sees this too.
        timed(&mut self.stages.compute, || self.shared.record.note(tensor, scheme, &band, met, stored));
        for (index, (_, slot)) in outputs.iter().enumerate() {
            // A weight whose outputs lie in two shards, one of which an earlier run has finished.
            if !self.shared.outputs.is_wanted(slot.shard) {
                continue;
            }
            let (offset, len) = places[index];
            let file = self.shared.outputs.get(slot.shard)?;
            let bytes = self.outputs[index].filled(offset, len);
            timed(&mut self.stages.compute, || self.shared.record.checksums.add(slot.shard, offset, bytes));
            timed(&mut self.stages.write, || file.write_at(bytes, offset))
                .map_err(|error| self.write_error(segment, task, slot.shard, error))?;
            self.written(slot.shard, len as u64);
        }
        Ok(())
    }

    /// Reads the task's bytes into the input buffer, to where a write to offset `to` wants them.
    fn read(&mut self, segment: &Segment, task: &Task, to: u64) -> Result<(), RunError> {
        let source = self.shared.sources.get(segment.from_shard)?;
        let (from, len) = (segment.from + task.start, task.len as usize);
        timed(&mut self.stages.read, || source.read(&mut self.input, from, len, to))
            .map_err(|error| self.read_error(segment, task, error))?;
        self.stages.bytes_read += task.len;
        Ok(())
    }

    /// Counts bytes of a shard that are written, and hands a complete shard on.
    fn written(&self, shard: usize, bytes: u64) {
        if self.shared.outputs.written(shard, bytes) {
            // The receiver lives until all workers have ended.
            let _ = self.complete.send(shard);
        }
    }

    fn read_error(&self, segment: &Segment, task: &Task, source: io::Error) -> RunError {
        let path = self.shared.sources.path(segment.from_shard).to_path_buf();
        // The header promised more: the file was longer when it was read.
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return SourceError::Changed { path, what: "it became shorter" }.into();
        }
        RunError::Read { path, tensor: self.shared.tensor_at(segment, task.start), source }
    }

    fn write_error(&self, segment: &Segment, task: &Task, shard: usize, source: io::Error) -> RunError {
        let path = self.shared.outputs.path(shard);
        RunError::Write { path, tensor: self.shared.tensor_at(segment, task.start), source }
    }

    fn non_finite(&self, segment: &Segment, at: NonFinite) -> RunError {
        let path = self.shared.sources.path(segment.from_shard).to_path_buf();
        RunError::NonFinite { tensor: self.shared.tensor_at(segment, 0), path, at }
    }
}
