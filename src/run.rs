//! A run: carries a plan out, from source shards to a published directory.
//!
//! Data goes through in bands of rows, each read, quantized and written by one worker at offsets that the plan has
//! fixed: memory is workers times band whatever the model's size, and the output is the same for any number of workers.
//! Everything is written to a staging directory beside the output, `config.json` last, made durable, and renamed.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use qwen_fp8_schemes::Simd;

use crate::checkpoint::side_files::SideFile;
use crate::checkpoint::source::SourceFile;
use crate::plan::{Job, Plan};
use crate::run::destination::Destination;
use crate::run::outputs::Outputs;
use crate::run::pipeline::Pipeline;
use crate::run::staging::{Lock, Staging, create_new};
use crate::run::work::Work;

pub use error::RunError;
pub use timings::{Bound, Report, Shares, TensorTime};

mod amax;
mod buffer;
mod copy;
mod destination;
mod error;
mod open_files;
mod outputs;
mod pipeline;
mod sources;
mod staging;
mod timings;
mod work;

/// How a run is carried out; nothing here changes a byte of the output.
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
}

impl<'a> Options<'a> {
    /// The defaults: all processors, the fastest kernels, buffers that keep the process well under 256 MiB.
    pub fn new(cancel: &'a AtomicBool) -> Self {
        Self { threads: None, max_memory: 160 << 20, simd: Simd::detect(), cancel, direct: true }
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
    /// The run enters a phase.
    fn phase(&self, _phase: Phase) {}

    /// Tensor data is about to go through: `bytes` of it, a second pass counted twice.
    fn started(&self, _bytes: u64) {}

    /// So many bytes more have gone through.
    fn advanced(&self, _bytes: u64) {}

    /// A source tensor is done.
    fn tensor_finished(&self, _tensor: &TensorTime) {}
}

/// Watches nothing.
impl Observer for () {}

/// Carries out `plan` and publishes the result as the directory `output`, which must not exist or be empty.
///
/// # Errors
/// Whatever went wrong, by file and tensor. The output's name is then as it was before.
pub fn run(plan: &Plan, output: &Path, options: &Options<'_>, observer: &dyn Observer) -> Result<Report, RunError> {
    let began = Instant::now();
    let cpu_before = timings::cpu_seconds();
    observer.phase(Phase::Preparing);
    let work = Work::new(plan, options.threads(), options.max_memory)?;
    let destination = Destination::new(output, &plan.checkpoint.dir)?;
    destination.check_free()?;
    let _lock = Lock::acquire(&destination)?;
    destination.check_free()?;
    let staging = Staging::create(&destination)?;
    let bytes_written = output_bytes(plan);
    destination.check_room(plan, bytes_written)?;
    let outputs = Outputs::create(&staging.dir, &plan.shards, options.direct)?;

    observer.phase(Phase::Converting);
    observer.started(work.bytes);
    let outcome = Pipeline::new(plan, &work, &outputs, options, observer).run()?;

    observer.phase(Phase::Publishing);
    for file in &plan.checkpoint.side_files {
        copy_side_file(file, &staging.dir)?;
    }
    for (name, bytes) in &plan.documents {
        write_document(&staging.dir.join(name), bytes)?;
    }
    if options.cancel.load(Ordering::Relaxed) {
        return Err(RunError::Cancelled);
    }
    staging.publish(&destination)?;

    let wall_seconds = began.elapsed().as_secs_f64();
    let shares = outcome.stages.shares(work.workers, outcome.span);
    let tensors_copied = plan.jobs.iter().filter(|job| matches!(job, Job::Copy { .. })).count();
    Ok(Report {
        wall_seconds,
        cpu_seconds: timings::cpu_seconds() - cpu_before,
        peak_memory: timings::peak_memory(),
        bytes_read: outcome.stages.bytes_read,
        bytes_written,
        bytes_per_second: outcome.stages.bytes_read as f64 / wall_seconds.max(f64::MIN_POSITIVE),
        workers: work.workers,
        simd: options.simd.name(),
        tensors_copied,
        tensors_quantized: plan.jobs.len() - tensors_copied,
        shares,
        bound_by: shares.bound(),
        slowest: outcome.slowest,
    })
}

/// Copies a side file byte for byte.
fn copy_side_file(file: &SideFile, dir: &Path) -> Result<(), RunError> {
    let source = SourceFile::open(&file.path)?;
    source.check_unchanged(file.stamp)?;
    let path = dir.join(&file.name);
    // Never wider than the source: who may not read the one may not read the other.
    let mut copy = create_new(&path, file.mode & 0o666).map_err(RunError::file("create", &path))?;
    io::copy(&mut source.file(), &mut copy).map_err(RunError::file("write", &path))?;
    source.check_unchanged(file.stamp)?;
    copy.sync_all().map_err(RunError::file("sync", &path))
}

/// Bytes of the output directory, side files included.
fn output_bytes(plan: &Plan) -> u64 {
    plan.output_bytes() + plan.checkpoint.side_files.iter().map(|file| file.stamp.size).sum::<u64>()
}

fn write_document(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut file = create_new(path, 0o666).map_err(RunError::file("create", path))?;
    file.write_all(bytes).map_err(RunError::file("write", path))?;
    file.sync_all().map_err(RunError::file("sync", path))
}
