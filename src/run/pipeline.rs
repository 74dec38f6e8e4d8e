//! What the workers of a run share: the tasks, of which each takes the next one, the files, and how far it all is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Plan, Slot};
use crate::recipe::NonFinitePolicy;
use crate::run::amax::Maxima;
use crate::run::journal::Finished;
use crate::run::met::Record;
use crate::run::outputs::Outputs;
use crate::run::segment::{Segment, SegmentKind, SegmentSource};
use crate::run::sources::Sources;
use crate::run::staging::Staging;
use crate::run::timings::{Slowest, Stages, TensorTime};
use crate::run::work::{Task, Work};
use crate::run::worker::Worker;
use crate::run::{Observer, Options, RunError};

/// What all workers share.
pub(super) struct Pipeline<'a> {
    pub(super) plan: &'a Plan,
    pub(super) work: &'a Work,
    pub(super) sources: Sources<'a>,
    pub(super) outputs: &'a Outputs<'a>,
    pub(super) record: Record<'a>,
    staging: &'a Staging,
    pub(super) options: &'a Options<'a>,
    observer: &'a dyn Observer,
    /// The number of the next task.
    next: AtomicU64,
    /// No further task is begun.
    pub(super) stopped: AtomicBool,
    /// The failure of the earliest task, whatever the order in which they failed.
    failure: Mutex<Option<(u64, RunError)>>,
    /// Per segment of the work.
    progress: Vec<Progress>,
    /// Per source shard, the tasks that still read it.
    unread: Vec<AtomicU64>,
    pub(super) maxima: Maxima,
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
            for shard in segment.shards(plan) {
                unread[shard].fetch_add(segment.tasks, Ordering::Relaxed);
            }
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
    pub(super) fn take(&self) -> Option<Task> {
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

    pub(super) fn fail(&self, task: u64, error: RunError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(earliest, _)| task < *earliest) {
            *failure = Some((task, error));
        }
        drop(failure);
        self.stop();
    }

    pub(super) fn begin(&self, task: &Task) {
        self.progress[task.segment].started.get_or_init(Instant::now);
    }

    /// Notes that a task has ended well.
    pub(super) fn end(&self, task: &Task) -> Result<(), RunError> {
        let segment = &self.work.segments[task.segment];
        let progress = &self.progress[task.segment];
        self.observer.advanced(task.len);
        if progress.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            let took = progress.started.get().map_or(Duration::ZERO, Instant::elapsed);
            self.report(segment, took);
        }
        for shard in segment.shards(self.plan) {
            if self.unread[shard].fetch_sub(1, Ordering::AcqRel) == 1 {
                self.sources.finish(shard)?;
            }
        }
        Ok(())
    }

    /// Whether NaN and infinity go into the output.
    pub(super) fn keeps(&self) -> bool {
        self.plan.recipe.on_nonfinite == NonFinitePolicy::Keep
    }

    pub(super) fn offset(&self, slot: Slot) -> u64 {
        self.plan.shards[slot.shard].tensors[slot.tensor].offset
    }

    /// The name of the tensor that the segment's byte at `start` belongs to.
    pub(super) fn tensor_at(&self, segment: &Segment, start: u64) -> String {
        let inputs = &self.plan.inputs;
        let name = match segment.source {
            SegmentSource::Rows { input } => Some(inputs[input].name.as_str()),
            SegmentSource::Bytes { shard, offset } => {
                inputs.iter().find_map(|input| input.name_of_byte(shard, offset + start))
            }
        };
        name.unwrap_or_default().to_owned()
    }

    /// Tells the observer of the tensors of a finished segment; those of one copy share its time by their sizes.
    fn report(&self, segment: &Segment, took: Duration) {
        if let SegmentKind::Amax { .. } = segment.kind {
            return;
        }
        for &index in &segment.inputs {
            let input = &self.plan.inputs[index];
            let share = match segment.source {
                SegmentSource::Bytes { .. } if segment.len > 0 => input.stored_len() as f64 / segment.len as f64,
                _ => 1.0,
            };
            let (name, seconds) = (input.name.clone(), took.as_secs_f64() * share);
            let time = TensorTime { name, seconds, bytes_read: input.stored_len() };
            self.observer.tensor_finished(&time);
            self.slowest.lock().unwrap_or_else(PoisonError::into_inner).add(time);
        }
    }
}

/// Stops the run when its thread panics, so that nobody waits for what will never come.
pub(super) struct StopOnPanic<'a>(pub(super) &'a Pipeline<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}
