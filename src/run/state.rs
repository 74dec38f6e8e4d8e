//! The state that the workers of a run share: the tasks still to be taken, the open files, and the progress so far.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Plan, Slot};
use crate::run::amax::AmaxTable;
use crate::run::error::RunError;
use crate::run::observer::Observer;
use crate::run::options::RunOptions;
use crate::run::outputs::Outputs;
use crate::run::recorder::Recorder;
use crate::run::segment::{Segment, SegmentKind, SegmentSource};
use crate::run::sources::Sources;
use crate::run::timings::{Slowest, TensorTime};
use crate::run::work::{Task, Work};

/// State that all workers share.
pub(super) struct RunState<'a> {
    pub(super) plan: &'a Plan,
    pub(super) work: &'a Work,
    pub(super) sources: Sources<'a>,
    pub(super) outputs: &'a Outputs<'a>,
    pub(super) recorder: Recorder<'a>,
    pub(super) options: &'a RunOptions<'a>,
    pub(super) observer: &'a dyn Observer,
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
    pub(super) amax: AmaxTable,
    slowest: Mutex<Slowest>,
}

struct Progress {
    remaining: AtomicU64,
    started: OnceLock<Instant>,
}

impl<'a> RunState<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        work: &'a Work,
        outputs: &'a Outputs<'a>,
        recorder: Recorder<'a>,
        options: &'a RunOptions<'a>,
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
            recorder,
            options,
            observer,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            failure: Mutex::new(None),
            progress: work.segments.iter().map(progress).collect(),
            unread,
            amax: AmaxTable::new(work),
            slowest: Mutex::default(),
        }
    }

    /// The next task, unless the run stops. Tasks are handed out in order: when one fails, every earlier one has been
    /// begun and will end, so that the earliest failure is the same for any number of workers.
    pub(super) fn take(&self) -> Option<Task> {
        if self.is_stopped() {
            return None;
        }
        self.work.task(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns whether no further task is to begin, since a task failed or the run was cancelled.
    pub(super) fn is_stopped(&self) -> bool {
        if self.options.cancel.load(Ordering::Relaxed) {
            self.stop();
        }
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.amax.wake();
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

    /// Reports the tensors without bytes, for which there is no task.
    pub(super) fn report_empty(&self) {
        for segment in self.work.segments.iter().filter(|segment| segment.tasks == 0) {
            self.report(segment, Duration::ZERO);
        }
    }

    /// Returns the slowest tensors, after all workers have ended.
    ///
    /// # Errors
    /// The failure of the earliest task that failed.
    pub(super) fn into_slowest(self) -> Result<Vec<TensorTime>, RunError> {
        match self.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(self.slowest.into_inner().unwrap_or_else(PoisonError::into_inner).into_inner()),
        }
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
pub(super) struct StopOnPanic<'a>(pub(super) &'a RunState<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}
