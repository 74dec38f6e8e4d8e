//! A run: carries out a plan, from source shards to a published directory.
//!
//! The unit of work is a band of rows. One worker reads, quantizes and writes it, at offsets that the plan has fixed.
//! Memory is therefore workers times band, whatever the model's size, and the output is the same for any number of
//! workers. All files go into a staging directory beside the output, `config.json` last; they are made durable, and the
//! directory is renamed. A journal there lists the finished shards, from which the same command resumes after any end.

use std::path::Path;

use crate::plan::Plan;
use crate::run::completion::{Completion, output_bytes};
use crate::run::crew::Outcome;
use crate::run::destination::Destination;
use crate::run::identity::Identity;
use crate::run::lock::Lock;
use crate::run::outputs::Outputs;
use crate::run::recorder::Recorder;
use crate::run::report::{Clocks, RunFigures};
use crate::run::self_check::ShardsInDirectory;
use crate::run::share::{Share, ToWrite};
use crate::run::staging::Staging;
use crate::run::state::RunState;
use crate::run::work::Work;

pub use deal::bytes_of_parts;
pub use deltas::{PutOn, apply_delta, make_delta};
pub use error::{ExactGranules, RunError};
pub use manifest::Sha256Of;
pub use manifest_size::manifest_size;
pub use measure::{MeasuredWeight, measure};
pub use observer::{LeftBehind, Observer, Phase};
pub use options::{MEMORY_OF_A_RUN, RunOptions};
pub use parts::{Joined, MadePart, PartNumber, join, make_part, parts_made};
pub use proof::{Proof, Unpublished};
pub use report::RunReport;
pub use staging::bytes_left_by;
pub use stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};
pub use store::run_to_store;
pub use timings::{Bound, Shares, TensorTime};

mod amax;
mod block_order;
mod buffer;
mod cancellable_read;
mod checksums;
mod completion;
mod crew;
mod deal;
mod deltas;
mod destination;
mod error;
mod files;
mod identity;
mod journal;
mod kept_blocks;
mod lanes;
mod lock;
mod manifest;
mod manifest_size;
mod measure;
mod merge;
mod observer;
mod open_files;
mod options;
mod outputs;
mod parts;
mod plan_check;
mod planned;
mod proof;
mod publishing;
mod read_ahead;
mod recorder;
mod report;
mod resume;
mod row_reader;
mod scales;
mod schedule;
mod segment;
mod self_check;
mod share;
mod sources;
mod stack_rows;
mod staging;
mod state;
mod stats;
mod store;
mod threads;
mod timings;
mod transpose;
mod transposed_rows;
mod work;
mod worker;

/// Carries out `plan` and publishes the result as the directory `output`, which must not exist or be empty.
///
/// Shards that an interrupted run of the same job has finished are resumed once their checksums have been verified. The
/// output is the same, byte for byte.
///
/// # Errors
/// The first thing that went wrong, with its file and tensor. The output's name is then as it was before.
pub fn run(
    plan: &Plan,
    output: &Path,
    options: &RunOptions<'_>,
    observer: &dyn Observer,
) -> Result<RunReport, RunError> {
    let clocks = Clocks::start();
    observer.phase(Phase::Preparing);
    plan_check::check_slots(plan)?;
    let destination = Destination::of_plan(output, plan)?;
    // Asked before the lock, so that a run which is refused leaves no trace, and again under it.
    destination.check_free().inspect_err(|_| staging::remove_published(&destination))?;
    let _lock = Lock::acquire(&destination)?;
    destination.check_free()?;
    let identity = Identity::of(plan)?;
    let recorder = Recorder::new(plan);
    let past = if options.restart { None } else { Staging::past(&destination, &identity)? };
    let lines = past.as_ref().map_or(&[][..], |past| &past.finished);
    let shards = Staging::shards_of(&destination);
    let resumed = resume::verified(
        lines,
        &shards,
        &plan.shards,
        &recorder.checksums,
        options.threads(),
        options.cancel,
        observer,
    )
    .inspect_err(|_| {
        // Untouched so far: the next run finds what this one found.
        if let Some(left) = Staging::untouched(&destination, lines.len()) {
            observer.left_behind(&left);
        }
    })?;
    let finished: Vec<bool> = resumed.iter().map(Option::is_some).collect();
    for shard in resumed.iter().flatten() {
        recorder.resume(plan, shard, &finished);
    }
    let memory = block_order::memory_for_work(plan, options);
    let work = Work::new(plan, &Share::of_run(plan, &finished), options.threads(), memory)?;
    let mut staging = match past {
        Some(_) => Staging::resume(&destination, &identity, resumed.into_iter().flatten().collect())?,
        None => Staging::create(&destination, &identity)?,
    };
    let shards_resumed = finished.iter().filter(|&&finished| finished).count();
    if shards_resumed > 0 {
        observer.resumed(shards_resumed, plan.shards.len());
    }
    let job = StagedRun {
        plan,
        identity: &identity,
        recorder: &recorder,
        work: &work,
        finished: &finished,
        options,
        observer,
    };
    let done = job.carry_out(&staging, &destination).and_then(|done| {
        staging.publish(&destination)?;
        Ok(done)
    });
    let (outcome, output_bytes) = match done {
        Ok(done) => done,
        Err(error) => {
            if let Some(left) = staging.left_behind(&error) {
                observer.left_behind(&left);
            }
            return Err(error);
        }
    };
    // Removed before the clock stops: deleting the directory is part of the run.
    drop(staging);

    let figures = RunFigures {
        workers: work.workers,
        bytes_read: outcome.stages.bytes_read,
        bytes_written: output_bytes - bytes_of(plan, &finished),
        output_bytes,
        shards_resumed,
        shards: plan.shards.len(),
        outcome,
    };
    Ok(clocks.report(plan, 0..plan.jobs.len(), job.recorder, options, figures))
}

/// A run that has made or taken over its staging directory.
struct StagedRun<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    recorder: &'a Recorder<'a>,
    work: &'a Work,
    /// One per shard: true if an earlier run has finished it.
    finished: &'a [bool],
    options: &'a RunOptions<'a>,
    observer: &'a dyn Observer,
}

impl StagedRun<'_> {
    /// Writes all files, `config.json` last. Returns the times of the workers and the size of the output in bytes.
    fn carry_out(&self, staging: &Staging, destination: &Destination) -> Result<(Outcome, u64), RunError> {
        let Self { plan, work, options, observer, recorder, identity, .. } = *self;
        let needed = output_bytes(plan) - bytes_of(plan, self.finished);
        let manifest = options.manifest.then(|| manifest_size::size(plan, identity, options.sha256).bytes);
        destination.check_room(plan, needed, manifest)?;
        let to_write = |&finished: &bool| if finished { ToWrite::Nothing } else { ToWrite::Whole };
        let to_write = self.finished.iter().map(to_write).collect();
        let outputs = Outputs::create(&staging.dir, &plan.shards, to_write, options.direct, work.workers)?;

        observer.phase(Phase::Converting);
        observer.started(work.bytes);
        let read_ahead = block_order::read_ahead(plan, work, options)?;
        let state = RunState::new(plan, work, &outputs, recorder, read_ahead, options, observer);
        let outcome = crew::carry_out(state, &|shard| {
            staging.enter(recorder.finished_shard(plan, shard))?;
            observer.shard_finished(&plan.shards[shard].file_name);
            Ok(())
        })?;
        let workers = work.workers;
        let completion = Completion { plan, identity, recorder, options, observer, workers, threads_of_check: 1 };
        let shards = ShardsInDirectory { dir: &staging.dir, layouts: &plan.shards };
        Ok((outcome, completion.carry_out(&shards, &staging.dir, &destination.path)?))
    }
}

/// Returns the bytes of the shards that are finished.
fn bytes_of(plan: &Plan, finished: &[bool]) -> u64 {
    plan.shards.iter().zip(finished).filter(|(_, finished)| **finished).map(|(shard, _)| shard.size).sum()
}
