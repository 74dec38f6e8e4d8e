//! The outcome of a run in numbers: what it did, what it met, what it cost.

use schemars::JsonSchema;
use serde::Serialize;

use crate::checkpoint::manifest::NonFiniteRecord;
use crate::run::stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};
use crate::run::timings::{Bound, Shares, TensorTime};

/// The outcome of a run that succeeded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunReport {
    pub wall_seconds: f64,
    /// User and system time of the whole process.
    pub cpu_seconds: f64,
    /// Largest resident size of the process in bytes; `None` where the system does not tell.
    pub peak_memory: Option<u64>,
    /// Bytes of tensor data that were read; data that is read in two passes counts twice.
    pub bytes_read: u64,
    /// Bytes that this run wrote into the output directory: all of it but the shards that it resumed.
    pub bytes_written: u64,
    /// Bytes of the output directory.
    pub output_bytes: u64,
    /// Number of shards that an earlier run had finished.
    pub shards_resumed: usize,
    /// Number of all shards.
    pub shards: usize,
    /// Bytes read per second of wall time.
    pub bytes_per_second: f64,
    pub workers: usize,
    pub simd: &'static str,
    /// Number of tensors of the whole output, as are the next two.
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
