//! The settings of a run.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::thread;

use qwen_fp8_schemes::Simd;

use crate::run::manifest::Sha256Of;
use crate::run::proof::Proof;

/// Settings of a run. None of them changes a byte of the output, except for its manifest and its model card.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions<'a> {
    /// Number of workers; `None` starts one per processor.
    pub threads: Option<NonZeroUsize>,
    /// Bytes that the buffers of all workers may take together.
    pub max_memory: u64,
    /// Instruction set of the kernels.
    pub simd: Simd,
    /// Ends the run soon after it becomes true.
    pub cancel: &'a AtomicBool,
    /// Bypasses the page cache where the file system can, for writes and for reads of data that is not cached.
    pub direct: bool,
    /// Discards what an interrupted run left behind instead of resuming it.
    pub restart: bool,
    /// Writes `qwen-fp8-manifest.json`.
    pub manifest: bool,
    /// Files whose SHA-256 goes into the manifest.
    pub sha256: Sha256Of,
    /// Judges the output before it is published; it needs the manifest.
    pub proof: Option<&'a dyn Proof>,
}

/// Bytes that the whole process of a run with the default options stays below, the promise of docs/performance.md.
pub const MEMORY_OF_A_RUN: u64 = 256 << 20;

impl<'a> RunOptions<'a> {
    /// Returns the defaults: all processors, the fastest kernels, and direct I/O.
    pub fn new(cancel: &'a AtomicBool) -> Self {
        Self {
            threads: None,
            // Keeps the whole process well under `MEMORY_OF_A_RUN`.
            max_memory: 160 << 20,
            simd: Simd::detect(),
            cancel,
            direct: true,
            restart: false,
            manifest: true,
            sha256: Sha256Of::default(),
            proof: None,
        }
    }

    /// Returns the number of workers that are wanted, at least 1.
    pub(super) fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}
