//! A run: carries a plan out, from source shards to a published directory.
//!
//! Data goes through in bands of rows, each read, quantized and written by one worker at offsets that the plan has
//! fixed: memory is workers times band whatever the model's size, and the output is the same for any number of workers.
//! Everything is written to a staging directory beside the output, `config.json` last, made durable, and renamed. A
//! journal there holds the finished shards, from which the same command goes on after whatever stopped it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use qwen_fp8_schemes::Simd;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::MANIFEST_FILE;
use crate::plan::{Job, Plan};
use crate::run::checksums::Checksums;
use crate::run::destination::Destination;
use crate::run::identity::Identity;
use crate::run::met::{Gathered, Record};
use crate::run::outputs::Outputs;
use crate::run::pipeline::{Outcome, Pipeline};
use crate::run::staging::{Lock, Staging};
use crate::run::work::Work;

pub use error::RunError;
pub use manifest::Sha256Of;
pub use met::{Met, OddScales};
pub use timings::{Bound, Report, Shares, TensorTime};

mod amax;
mod buffer;
mod checksums;
mod destination;
mod error;
mod files;
mod identity;
mod journal;
mod manifest;
mod met;
mod open_files;
mod outputs;
mod pipeline;
mod resume;
mod row_reader;
mod segment;
mod self_check;
mod sources;
mod staging;
mod threads;
mod timings;
mod work;
mod worker;

/// How a run is carried out; nothing here changes a byte of the output, the manifest aside.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Workers; `None` is one per processor.
    pub threads: Option<NonZeroUsize>,
    /// Bytes that the buffers of all workers may take together.
    pub max_memory: u64,
    pub simd: Simd,
    /// Ends the run soon after it becomes true.
    pub cancel: &'a AtomicBool,
    /// Reads and writes past the page cache, where the file system can and the data is not there already.
    pub direct: bool,
    /// Throws away what an interrupted run has left behind, instead of going on from it.
    pub restart: bool,
    /// Writes `qwen-fp8-manifest.json`.
    pub manifest: bool,
    /// What else the manifest holds.
    pub sha256: Sha256Of,
}

impl<'a> Options<'a> {
    /// The defaults: all processors, the fastest kernels, buffers that keep the process well under 256 MiB.
    pub fn new(cancel: &'a AtomicBool) -> Self {
        Self {
            threads: None,
            max_memory: 160 << 20,
            simd: Simd::detect(),
            cancel,
            direct: true,
            restart: false,
            manifest: true,
            sha256: Sha256Of::default(),
        }
    }

    fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Checks of the destination; space for the output is reserved.
    Preparing,
    /// Tensor data goes through.
    Converting,
    /// Side files, index and config are written and the output gets its name.
    Publishing,
}

/// Is told how a run goes, from any of its threads.
pub trait Observer: Sync {
    /// The run goes on from an earlier one, which has finished `kept` of the output's `shards`.
    fn resumed(&self, _kept: usize, _shards: usize) {}

    /// The run enters a phase.
    fn phase(&self, _phase: Phase) {}

    /// Tensor data is about to go through: `bytes` of it, a second pass counted twice.
    fn started(&self, _bytes: u64) {}

    /// So many bytes more have gone through.
    fn advanced(&self, _bytes: u64) {}

    /// A source tensor is done.
    fn tensor_finished(&self, _tensor: &TensorTime) {}

    /// An output shard is complete and durable: a later run need not write it again.
    fn shard_finished(&self, _file_name: &str) {}

    /// The run ends without an output, and the same command can go on from here.
    fn left_behind(&self, _left: &LeftBehind) {}
}

/// What a run that failed has kept for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The staging directory.
    pub staging: PathBuf,
    /// How many shards it holds.
    pub shards: usize,
}

/// Watches nothing.
impl Observer for () {}

/// Carries out `plan` and publishes the result as the directory `output`, which must not exist or be empty.
///
/// What an interrupted run of the same job has finished is taken over, once it has been read again and found to be what
/// it was; the output is the same, byte for byte.
///
/// # Errors
/// Whatever went wrong, by file and tensor. The output's name is then as it was before.
pub fn run(plan: &Plan, output: &Path, options: &Options<'_>, observer: &dyn Observer) -> Result<Report, RunError> {
    let began = Instant::now();
    let cpu_before = timings::cpu_seconds();
    observer.phase(Phase::Preparing);
    work::check_slots(plan)?;
    let destination = Destination::new(output, &plan.checkpoint.dir)?;
    destination.check_free().inspect_err(|_| staging::remove_published(&destination))?;
    let _lock = Lock::acquire(&destination)?;
    destination.check_free()?;
    let identity = Identity::of(plan)?;
    let checksums = Checksums::new(&plan.shards);
    let past = if options.restart { None } else { Staging::past(&destination, &identity)? };
    let lines = past.as_ref().map_or(&[][..], |past| &past.finished);
    let shards = Staging::shards_of(&destination);
    let kept = resume::believed(lines, &shards, &plan.shards, &checksums, options.threads(), options.cancel)?;
    let finished: Vec<bool> = kept.iter().map(Option::is_some).collect();
    let (non_finite, odd_scales) = (Gathered::default(), Gathered::default());
    for shard in kept.iter().flatten() {
        non_finite.set(plan, &shard.kept, |job| work::is_wanted(job, &finished));
        odd_scales.set(plan, &shard.scales, |job| work::is_wanted(job, &finished));
    }
    let work = Work::new(plan, &finished, options.threads(), options.max_memory)?;
    let mut staging = match past {
        Some(_) => Staging::resume(&destination, &identity, kept.into_iter().flatten().collect())?,
        None => Staging::create(&destination, &identity)?,
    };
    match finished.iter().filter(|&&finished| finished).count() {
        0 => {}
        kept => observer.resumed(kept, plan.shards.len()),
    }
    let job = Run {
        plan,
        identity: &identity,
        record: Record { checksums: &checksums, kept: &non_finite, scales: &odd_scales },
        work: &work,
        finished: &finished,
        options,
        observer,
    };
    let done = job.carry_out(&staging, &destination).and_then(|done| {
        staging.publish(&destination)?;
        Ok(done)
    });
    let (outcome, bytes_written) = match done {
        Ok(done) => done,
        Err(error) => {
            if let Some(left) = staging.left_behind(&error) {
                observer.left_behind(&left);
            }
            return Err(error);
        }
    };
    drop(staging);

    let wall_seconds = began.elapsed().as_secs_f64();
    let shares = outcome.stages.shares(work.workers, outcome.span);
    let tensors_quantized = plan.jobs.iter().filter(|job| matches!(job, Job::Quantize { .. })).count();
    let tensors_dequantized = plan.jobs.iter().filter(|job| matches!(job, Job::Dequantize { .. })).count();
    Ok(Report {
        wall_seconds,
        cpu_seconds: timings::cpu_seconds() - cpu_before,
        peak_memory: timings::peak_memory(),
        bytes_read: outcome.stages.bytes_read,
        bytes_written,
        bytes_per_second: outcome.stages.bytes_read as f64 / wall_seconds.max(f64::MIN_POSITIVE),
        workers: work.workers,
        simd: options.simd.name(),
        tensors_copied: plan.jobs.len() - tensors_quantized - tensors_dequantized,
        tensors_dequantized,
        tensors_quantized,
        non_finite: non_finite.all(plan),
        odd_scales: odd_scales.all(plan),
        shares,
        bound_by: shares.bound(),
        slowest: outcome.slowest,
    })
}

/// A run that has its staging directory.
struct Run<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    record: Record<'a>,
    work: &'a Work,
    /// Per shard, whether an earlier run has finished it.
    finished: &'a [bool],
    options: &'a Options<'a>,
    observer: &'a dyn Observer,
}

impl Run<'_> {
    /// Writes everything, `config.json` last; also how many bytes the output has.
    fn carry_out(&self, staging: &Staging, destination: &Destination) -> Result<(Outcome, u64), RunError> {
        let Self { plan, work, options, observer, .. } = *self;
        let there = plan.shards.iter().zip(self.finished).filter(|(_, finished)| **finished);
        let there: u64 = there.map(|(shard, _)| shard.size).sum();
        let mut bytes = output_bytes(plan);
        destination.check_room(plan, bytes - there)?;
        let outputs = Outputs::create(&staging.dir, &plan.shards, self.finished, options.direct)?;

        observer.phase(Phase::Converting);
        observer.started(work.bytes);
        let outcome = Pipeline::new(plan, work, &outputs, self.record, staging, options, observer).run()?;

        observer.phase(Phase::Publishing);
        let kept = self.record.kept.all(plan);
        self_check::check(plan, &staging.dir, &kept)?;
        let side_files = plan.checkpoint.side_files.iter();
        let side_files: Vec<Crc64> =
            side_files.map(|file| files::copy_side_file(file, &staging.dir)).collect::<Result<_, _>>()?;
        if options.manifest {
            let mut manifest = manifest::manifest(plan, self.identity, self.record.checksums, &side_files, &kept);
            manifest::add_sha256(&mut manifest, options.sha256, plan, &staging.dir, work.workers, options.cancel)?;
            let text = manifest.text();
            bytes += text.len() as u64;
            files::write_document(&staging.dir.join(MANIFEST_FILE), text.as_bytes())?;
        }
        for (name, bytes) in &plan.documents {
            files::write_document(&staging.dir.join(name), bytes)?;
        }
        if options.cancel.load(Ordering::Relaxed) { Err(RunError::Cancelled) } else { Ok((outcome, bytes)) }
    }
}

/// Bytes of the output directory, side files included, the manifest not.
fn output_bytes(plan: &Plan) -> u64 {
    plan.output_bytes() + plan.checkpoint.side_files.iter().map(|file| file.stamp.size).sum::<u64>()
}
