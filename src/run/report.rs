//! The outcome of a run in numbers: what it did, what it met, what it cost.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::checkpoint::manifest::NonFiniteRecord;
use crate::plan::{Job, Plan};
use crate::run::crew::Outcome;
use crate::run::options::RunOptions;
use crate::run::recorder::Recorder;
use crate::run::stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};
use crate::run::timings::{self, Bound, Shares, TensorTime};

/// The outcome of a run that succeeded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunReport {
    pub wall_seconds: f64,
    /// User and system time of the whole process.
    pub cpu_seconds: f64,
    /// Largest resident size of the process in bytes; `None` where the system does not tell.
    pub peak_memory: Option<u64>,
    /// Bytes of tensor data that were read; data that is read in two passes counts twice. Of a join, bytes of what the
    /// parts made.
    pub bytes_read: u64,
    /// Bytes that this run wrote into the output directory: all of it but the shards that it resumed.
    pub bytes_written: u64,
    /// Bytes of the output directory; of a part, the bytes that it made.
    pub output_bytes: u64,
    /// Number of shards that an earlier run had finished.
    pub shards_resumed: usize,
    /// Number of all shards; of a part, of those that it made something of.
    pub shards: usize,
    /// Bytes read per second of wall time.
    pub bytes_per_second: f64,
    pub workers: usize,
    pub simd: &'static str,
    /// Number of tensors of the whole output, or of a part, as are the next two.
    pub tensors_copied: usize,
    pub tensors_dequantized: usize,
    pub tensors_quantized: usize,
    /// Weights whose NaN and infinity went into the output, in the order of the checkpoint.
    pub non_finite: Vec<TensorStats<NonFiniteRecord>>,
    /// Weights with degenerate scales, in the same order.
    #[serde(rename = "odd_scales")]
    pub degenerate_scales: Vec<TensorStats<DegenerateScaleCounts>>,
    /// Weights that `scale_search: lossless` was to hold exactly and that were rounded in part, in the same order.
    pub lossy_granules: Vec<TensorStats<LossyGranuleCounts>>,
    pub shares: Shares,
    pub bound_by: Bound,
    /// The slowest tensors, longest time first.
    pub slowest: Vec<TensorTime>,
}

/// The clocks at the beginning of a run.
pub(super) struct Clocks {
    began: Instant,
    cpu_before: f64,
}

/// Numbers of a run that its plan does not tell.
pub(super) struct RunFigures {
    pub(super) outcome: Outcome,
    pub(super) workers: usize,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) output_bytes: u64,
    pub(super) shards_resumed: usize,
    pub(super) shards: usize,
}

impl Clocks {
    pub(super) fn start() -> Self {
        Self { began: Instant::now(), cpu_before: timings::cpu_seconds() }
    }

    /// Returns the report of a run that dealt with these inputs.
    pub(super) fn report(
        &self,
        plan: &Plan,
        inputs: impl Iterator<Item = usize>,
        recorder: &Recorder<'_>,
        options: &RunOptions<'_>,
        figures: RunFigures,
    ) -> RunReport {
        let RunFigures { outcome, workers, bytes_read, bytes_written, output_bytes, shards_resumed, shards } = figures;
        let wall_seconds = self.began.elapsed().as_secs_f64();
        let shares = outcome.stages.shares(workers, outcome.span);
        let (mut quantized, mut dequantized, mut copied) = (0, 0, 0);
        for input in inputs {
            match plan.jobs[input] {
                Job::Quantize { .. } => quantized += 1,
                Job::Dequantize { .. } => dequantized += 1,
                Job::Copy { .. } | Job::PassThrough { .. } => copied += 1,
            }
        }
        RunReport {
            wall_seconds,
            cpu_seconds: timings::cpu_seconds() - self.cpu_before,
            peak_memory: timings::peak_memory(),
            bytes_read,
            bytes_written,
            output_bytes,
            shards_resumed,
            shards,
            bytes_per_second: bytes_read as f64 / wall_seconds.max(f64::MIN_POSITIVE),
            workers,
            simd: options.simd.name(),
            tensors_copied: copied,
            tensors_dequantized: dequantized,
            tensors_quantized: quantized,
            non_finite: recorder.non_finite.all(plan),
            degenerate_scales: recorder.degenerate_scales.all(plan),
            lossy_granules: recorder.lossy_granules.all(plan),
            shares,
            bound_by: shares.bound(),
            slowest: outcome.slowest,
        }
    }
}
