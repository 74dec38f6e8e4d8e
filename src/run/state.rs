//! The state that the workers of a run share: the tasks still to be taken, the open files, and the progress so far.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::run::amax::AmaxTable;
use crate::run::block_order;
use crate::run::error::RunError;
use crate::run::lanes::TaskLanes;
use crate::run::merge::AdapterFiles;
use crate::run::observer::Observer;
use crate::run::open_files::shards_at_once;
use crate::run::options::RunOptions;
use crate::run::outputs::Outputs;
use crate::run::read_ahead::ReadAhead;
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
    pub(super) adapters: AdapterFiles<'a>,
    pub(super) outputs: &'a Outputs<'a>,
    pub(super) recorder: &'a Recorder<'a>,
    pub(super) options: &'a RunOptions<'a>,
    pub(super) observer: &'a dyn Observer,
    lanes: TaskLanes,
    /// Number from which on no further task is to begin; [`NO_LIMIT`] while all of them are.
    limit: AtomicU64,
    /// The failure with the smallest task number, whatever the order in which tasks failed.
    failure: Mutex<Option<(u64, RunError)>>,
    /// Progress of each segment.
    progress: Vec<Progress>,
    /// Number of tasks that still have to read each source shard.
    unread: Vec<AtomicU64>,
    pub(super) amax: AmaxTable,
    slowest: Mutex<Slowest>,
}

/// The limit of a run that takes all tasks.
const NO_LIMIT: u64 = u64::MAX;

/// Progress of one segment.
struct Progress {
    remaining: AtomicU64,
    started: OnceLock<Instant>,
}

impl<'a> RunState<'a> {
    /// Sets up the state before the first task.
    pub(super) fn new(
        plan: &'a Plan,
        work: &'a Work,
        outputs: &'a Outputs<'a>,
        recorder: &'a Recorder<'a>,
        read_ahead: Option<ReadAhead>,
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
        // Read ahead in one order, by which all workers go; or taken away in that order.
        let is_apart = outputs.takes_turns() && read_ahead.is_none() && !outputs.in_order();
        let sources = Sources::new(&plan.checkpoint.shards, options.direct);
        let sources = match read_ahead {
            Some(read_ahead) => sources.read_ahead(read_ahead, options.cancel),
            None => sources,
        };
        Self {
            plan,
            work,
            sources,
            adapters: AdapterFiles::new(&plan.checkpoint.adapters),
            outputs,
            recorder,
            options,
            observer,
            lanes: TaskLanes::new(work.lanes(is_apart), shards_at_once()),
            limit: AtomicU64::new(NO_LIMIT),
            failure: Mutex::new(None),
            progress: work.segments.iter().map(progress).collect(),
            unread,
            amax: AmaxTable::new(work),
            slowest: Mutex::default(),
        }
    }

    /// Returns the next task for a worker in this lane; `None` when all are taken or the run stops.
    //
    // When a task fails, every earlier one is still carried out, whatever lane it is in, so that the earliest failure,
    // which is the one that is reported, is the same for any number of workers.
    pub(super) fn take(&self, lane: &mut Option<usize>) -> Option<Task> {
        let number = self.lanes.take(lane)?;
        if self.is_stopped() && self.is_over(number) {
            return None;
        }
        self.work.task(number)
    }

    /// Returns whether the run ends early, since a task failed or the run was cancelled.
    pub(super) fn is_stopped(&self) -> bool {
        if self.options.cancel.load(Ordering::Relaxed) {
            self.stop(0);
        }
        self.limit.load(Ordering::Acquire) != NO_LIMIT
    }

    /// Returns whether the run ends without this task.
    pub(super) fn is_over(&self, task: u64) -> bool {
        task >= self.limit.load(Ordering::Acquire)
    }

    /// Lets no task begin from this one on.
    fn stop(&self, task: u64) {
        self.limit.fetch_min(task, Ordering::AcqRel);
        self.amax.wake();
    }

    /// Records a failure and stops the run: at once where it belongs to no task, else from that task on.
    pub(super) fn fail(&self, task: Option<u64>, error: RunError) {
        let number = task.unwrap_or(u64::MAX);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(earliest, _)| number < *earliest) {
            *failure = Some((number, error));
        }
        drop(failure);
        self.stop(task.unwrap_or(0));
    }

    /// Starts the clock of the task's segment.
    pub(super) fn begin(&self, task: &Task) {
        if let Some(read_ahead) = self.sources.remote() {
            let place = block_order::place(read_ahead.schedule(), self.plan, self.work, task);
            read_ahead.begin(task.number, place);
        }
        self.progress[task.segment].started.get_or_init(|| {
            if let Some(&first) = self.work.segments[task.segment].inputs.first() {
                self.observer.tensor_begun(&self.plan.inputs[first].name);
            }
            Instant::now()
        });
    }

    /// Records that a task has succeeded.
    ///
    /// # Errors
    /// The source shard that it was the last to read has changed.
    pub(super) fn end(&self, task: &Task) -> Result<(), RunError> {
        let segment = &self.work.segments[task.segment];
        let progress = &self.progress[task.segment];
        self.observer.advanced(task.len);
        if let Some(read_ahead) = self.sources.remote() {
            read_ahead.end(task.number);
        }
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

    /// Returns the name of the tensor that the segment's byte at `start` belongs to.
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

    /// Reports the tensors of a finished segment to the observer. Tensors that were copied as one share the time by
    /// size.
    fn report(&self, segment: &Segment, took: Duration) {
        if let SegmentKind::Amax { .. } = segment.kind {
            return;
        }
        for &index in &segment.inputs {
            let input = &self.plan.inputs[index];
            let share = match segment.source {
                // A part may have less than the whole of an input.
                SegmentSource::Bytes { .. } if segment.len > 0 => {
                    (input.stored_len() as f64 / segment.len as f64).min(1.0)
                }
                _ => 1.0,
            };
            let (name, seconds) = (input.name.clone(), took.as_secs_f64() * share);
            let time = TensorTime { name, seconds, bytes_read: input.stored_len() };
            self.observer.tensor_finished(&time);
            self.slowest.lock().unwrap_or_else(PoisonError::into_inner).add(time);
        }
    }
}

/// Stops the run when its thread panics, so that no other thread waits for it for ever.
pub(super) struct StopOnPanic<'a>(pub(super) &'a RunState<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop(0);
        }
    }
}
