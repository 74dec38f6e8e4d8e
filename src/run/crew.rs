//! The threads of a run: the workers, and the one that makes finished shards durable behind them.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::error::RunError;
use crate::run::state::{RunState, StopOnPanic};
use crate::run::timings::{Stages, TensorTime};
use crate::run::worker::Worker;

/// The workers' times, once all tasks are done.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) stages: Stages,
    pub(super) slowest: Vec<TensorTime>,
    pub(super) span: Duration,
}

/// Notes that a shard, or what is to be written of it, is durable.
pub(super) type Enter<'a> = &'a dyn Fn(usize) -> Result<(), RunError>;

/// Carries out all tasks. Every shard is complete and durable when this returns without an error.
///
/// # Errors
/// The failure of the earliest task, or [`RunError::Cancelled`].
pub(super) fn carry_out(state: RunState<'_>, enter: Enter<'_>) -> Result<Outcome, RunError> {
    let began = Instant::now();
    state.report_empty();
    let stages = thread::scope(|scope| {
        let (complete, completed) = mpsc::channel::<usize>();
        for shard in state.outputs.empty() {
            // The receiver lives until all senders are gone.
            let _ = complete.send(shard);
        }
        let _stop = StopOnPanic(&state);
        let mut workers = Vec::with_capacity(state.work.workers);
        while workers.len() < state.work.workers && !state.is_stopped() {
            match Worker::start(&state, complete.clone(), scope) {
                Ok(worker) => workers.push(worker),
                Err(error) => state.fail(None, error),
            }
        }
        // Without this sender the channel closes with the last worker.
        drop(complete);
        finish_shards(&state, enter, &completed);
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
    let is_cancelled = state.options.cancel.load(Ordering::Relaxed);
    let slowest = state.into_slowest()?;
    if is_cancelled {
        return Err(RunError::Cancelled);
    }
    Ok(Outcome { stages, slowest, span: began.elapsed() })
}

/// Finishes shards as the workers complete them, until the last worker has ended.
///
/// The thread that started the workers does this, so that they go on computing while the disk syncs, and so that a run
/// with one worker does as well.
fn finish_shards(state: &RunState<'_>, enter: Enter<'_>, completed: &Receiver<usize>) {
    for shard in completed {
        if !state.is_stopped()
            && let Err(error) = state.outputs.finish(shard).and_then(|()| enter(shard))
        {
            state.fail(None, error);
        }
    }
}
