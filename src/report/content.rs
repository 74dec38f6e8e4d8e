//! All that a page tells.

use crate::check::{Distribution, Verification};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::manifest::{Manifest, Mismatch};
use crate::plan::summary::Summary;
use crate::run::RunReport;

/// The words by which a page of ours is known: they stand in its head.
pub const MARKER: &str = "<meta name=\"generator\" content=\"qwen-fp8 report\">";

/// The number of bytes from the start within which [`MARKER`] stands.
pub const MARKER_WITHIN: usize = 512;

/// The number of tensors whose distributions are drawn.
pub const DRAWN: usize = 6;

/// All that a page tells. What is not known is left out of it.
#[derive(Debug)]
pub struct Report<'a> {
    /// The name of the result: a model id, or that of its directory.
    pub name: String,
    /// The version of the program, with its commit where that is known.
    pub program: String,
    /// The time at which it was written, for people.
    pub written: String,
    pub verification: &'a Verification,
    /// Seconds that the proof took.
    pub proof_seconds: f64,
    /// Histograms of the noisiest tensors.
    pub distributions: &'a [Distribution],
    /// The differences from the checksums of the manifest, where they were compared.
    pub checksums: Option<&'a [Mismatch]>,
    /// The result, where it can be opened.
    pub output: Option<&'a Checkpoint>,
    /// The source, cut to the layers that were taken.
    pub source: Option<&'a Checkpoint>,
    pub manifest: Option<&'a Manifest>,
    /// The plan that was carried out, where the page is of a run.
    pub plan: Option<&'a Summary>,
    pub run: Option<&'a RunReport>,
    pub machine: &'a Machine,
    /// The commands that serve the result, each after the name of its server.
    pub serve: &'a [(&'static str, String)],
    /// The servers that do not serve it, each with the reason.
    pub not_served: &'a [(&'static str, String)],
}

/// The machine that the report was written on; what is not known is empty.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub processor: String,
    /// Processors that the program may use.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// The name of the operating system.
    pub system: String,
    pub kernel: String,
}
