//! A run: carries out a plan, from source shards to a published directory.
//!
//! The unit of work is a band of rows. One worker reads, quantizes and writes it, at offsets that the plan has fixed.
//! Memory is therefore workers times band, whatever the model's size, and the output is the same for any number of
//! workers. All files go into a staging directory beside the output, `config.json` last; they are made durable, and the
//! directory is renamed. A journal there lists the finished shards, from which the same command resumes after any end.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::{MANIFEST_FILE, Manifest};
use crate::checkpoint::model_card::MODEL_CARD;
use crate::plan::{Job, Plan};
use crate::run::checksums::Checksums;
use crate::run::crew::Outcome;
use crate::run::destination::Destination;
use crate::run::identity::Identity;
use crate::run::lock::Lock;
use crate::run::outputs::Outputs;
use crate::run::recorder::Recorder;
use crate::run::staging::Staging;
use crate::run::state::RunState;
use crate::run::stats::StatsByTensor;
use crate::run::work::Work;

pub use error::RunError;
pub use manifest::Sha256Of;
pub use manifest_size::manifest_size;
pub use measure::{MeasuredWeight, measure};
pub use observer::{LeftBehind, Observer, Phase};
pub use options::{MEMORY_OF_A_RUN, RunOptions};
pub use proof::{Proof, Unpublished};
pub use report::RunReport;
pub use staging::bytes_left_by;
pub use stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};
pub use timings::{Bound, Shares, TensorTime};

mod amax;
mod buffer;
mod checksums;
mod crew;
mod destination;
mod error;
mod files;
mod identity;
mod journal;
mod lanes;
mod lock;
mod manifest;
mod manifest_size;
mod measure;
mod observer;
mod open_files;
mod options;
mod outputs;
mod plan_check;
mod planned;
mod proof;
mod recorder;
mod report;
mod resume;
mod row_reader;
mod scales;
mod segment;
mod self_check;
mod sources;
mod stack_rows;
mod staging;
mod state;
mod stats;
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
    let began = Instant::now();
    let cpu_before = timings::cpu_seconds();
    observer.phase(Phase::Preparing);
    plan_check::check_slots(plan)?;
    let destination = Destination::new(output, &plan.checkpoint.dir)?;
    // Asked before the lock, so that a run which is refused leaves no trace, and again under it.
    destination.check_free().inspect_err(|_| staging::remove_published(&destination))?;
    let _lock = Lock::acquire(&destination)?;
    destination.check_free()?;
    let identity = Identity::of(plan)?;
    let checksums = Checksums::new(&plan.shards);
    let past = if options.restart { None } else { Staging::past(&destination, &identity)? };
    let lines = past.as_ref().map_or(&[][..], |past| &past.finished);
    let shards = Staging::shards_of(&destination);
    let resumed =
        resume::verified(lines, &shards, &plan.shards, &checksums, options.threads(), options.cancel, observer)
            .inspect_err(|_| {
                // Untouched so far: the next run finds what this one found.
                if let Some(left) = Staging::untouched(&destination, lines.len()) {
                    observer.left_behind(&left);
                }
            })?;
    let finished: Vec<bool> = resumed.iter().map(Option::is_some).collect();
    let (non_finite, degenerate_scales) = (StatsByTensor::default(), StatsByTensor::default());
    let lossy_granules = StatsByTensor::default();
    for shard in resumed.iter().flatten() {
        non_finite.set(plan, &shard.non_finite, |job| work::is_wanted(job, &finished));
        degenerate_scales.set(plan, &shard.degenerate_scales, |job| work::is_wanted(job, &finished));
        lossy_granules.set(plan, &shard.lossy_granules, |job| work::is_wanted(job, &finished));
    }
    let work = Work::new(plan, &finished, options.threads(), options.max_memory)?;
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
        recorder: Recorder {
            checksums: &checksums,
            non_finite: &non_finite,
            degenerate_scales: &degenerate_scales,
            lossy_granules: &lossy_granules,
        },
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

    let wall_seconds = began.elapsed().as_secs_f64();
    let shares = outcome.stages.shares(work.workers, outcome.span);
    let tensors_quantized = plan.jobs.iter().filter(|job| matches!(job, Job::Quantize { .. })).count();
    let tensors_dequantized = plan.jobs.iter().filter(|job| matches!(job, Job::Dequantize { .. })).count();
    Ok(RunReport {
        wall_seconds,
        cpu_seconds: timings::cpu_seconds() - cpu_before,
        peak_memory: timings::peak_memory(),
        bytes_read: outcome.stages.bytes_read,
        bytes_written: output_bytes - bytes_of(plan, &finished),
        output_bytes,
        shards_resumed,
        shards: plan.shards.len(),
        bytes_per_second: outcome.stages.bytes_read as f64 / wall_seconds.max(f64::MIN_POSITIVE),
        workers: work.workers,
        simd: options.simd.name(),
        tensors_copied: plan.jobs.len() - tensors_quantized - tensors_dequantized,
        tensors_dequantized,
        tensors_quantized,
        non_finite: non_finite.all(plan),
        degenerate_scales: degenerate_scales.all(plan),
        lossy_granules: lossy_granules.all(plan),
        shares,
        bound_by: shares.bound(),
        slowest: outcome.slowest,
    })
}

/// A run that has made or taken over its staging directory.
struct StagedRun<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    recorder: Recorder<'a>,
    work: &'a Work,
    /// One per shard: true if an earlier run has finished it.
    finished: &'a [bool],
    options: &'a RunOptions<'a>,
    observer: &'a dyn Observer,
}

impl StagedRun<'_> {
    /// Writes all files, `config.json` last. Returns the times of the workers and the size of the output in bytes.
    //
    // The order is what makes a crash harmless: the index is written after the shards that it names, and `config.json`,
    // without which no server loads a directory, after everything else.
    fn carry_out(&self, staging: &Staging, destination: &Destination) -> Result<(Outcome, u64), RunError> {
        let Self { plan, work, options, observer, .. } = *self;
        let mut bytes = output_bytes(plan);
        let manifest = options.manifest.then(|| manifest_size::size(plan, self.identity, options.sha256).bytes);
        destination.check_room(plan, bytes - bytes_of(plan, self.finished), manifest)?;
        let outputs = Outputs::create(&staging.dir, &plan.shards, self.finished, options.direct, work.workers)?;

        observer.phase(Phase::Converting);
        observer.started(work.bytes);
        let state = RunState::new(plan, work, &outputs, self.recorder, options, observer);
        let outcome = crew::carry_out(state, staging)?;

        observer.phase(Phase::Publishing);
        let non_finite = self.recorder.non_finite.all(plan);
        self_check::check(plan, &staging.dir, &non_finite)?;
        let side_files = plan.checkpoint.side_files.iter();
        let side_files: Vec<Crc64> = side_files
            .map(|file| files::copy_side_file(file, &staging.dir, options.cancel))
            .collect::<Result<_, _>>()?;
        let mut manifest = None;
        if options.manifest {
            let mut made = manifest::manifest(plan, self.identity, self.recorder.checksums, &side_files, &non_finite);
            manifest::add_sha256(
                &mut made,
                options.sha256,
                plan,
                &staging.dir,
                work.workers,
                options.cancel,
                observer,
            )?;
            let text = made.text();
            bytes += text.len() as u64;
            files::write_document(&staging.dir, MANIFEST_FILE, text.as_bytes())?;
            manifest = Some(made);
        }
        for (name, bytes) in &plan.documents {
            files::write_document(&staging.dir, name, bytes)?;
        }
        if let Some(proof) = options.proof
            && let Some(card) =
                proof.judge(&staging.dir).map_err(|refusal| RunError::refused(refusal, &destination.path))?
        {
            bytes = replace_card(plan, &staging.dir, card.as_bytes(), manifest.as_mut(), bytes)?;
        }
        if options.cancel.load(Ordering::Relaxed) { Err(RunError::Cancelled) } else { Ok((outcome, bytes)) }
    }
}

/// Puts `card` in place of the model card in `dir`, and its checksums into the manifest. Returns the bytes of the output,
/// which were `bytes` before.
fn replace_card(
    plan: &Plan,
    dir: &Path,
    card: &[u8],
    manifest: Option<&mut Manifest>,
    bytes: u64,
) -> Result<u64, RunError> {
    let before = plan.documents.iter().find(|(name, _)| name == MODEL_CARD).map_or(0, |(_, card)| card.len() as u64);
    files::write_document(dir, MODEL_CARD, card)?;
    let mut bytes = bytes - before + card.len() as u64;
    if let Some(manifest) = manifest {
        bytes -= manifest.text().len() as u64;
        manifest::update(manifest, MODEL_CARD, card);
        let text = manifest.text();
        bytes += text.len() as u64;
        files::write_document(dir, MANIFEST_FILE, text.as_bytes())?;
    }
    Ok(bytes)
}

/// Returns the bytes of the shards that are finished.
fn bytes_of(plan: &Plan, finished: &[bool]) -> u64 {
    plan.shards.iter().zip(finished).filter(|(_, finished)| **finished).map(|(shard, _)| shard.size).sum()
}

/// Returns the bytes of the output directory, side files included and the manifest excluded.
fn output_bytes(plan: &Plan) -> u64 {
    plan.output_bytes() + plan.checkpoint.side_files.iter().map(|file| file.stamp.size).sum::<u64>()
}
