//! The reports that a run makes while it goes.

use std::path::PathBuf;

use crate::run::timings::TensorTime;

/// Stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Checks of the destination; space for the output is reserved.
    Preparing,
    /// Tensor data is read, converted and written.
    Converting,
    /// Side files, index and config are written, and the output gets its name.
    Publishing,
}

/// Receives the progress of a run, from any of its threads.
pub trait Observer: Sync {
    /// The run continues an earlier one, `resumed` of whose `shards` are finished and still good.
    fn resumed(&self, _resumed: usize, _shards: usize) {}

    /// The run enters a phase.
    fn phase(&self, _phase: Phase) {}

    /// Conversion begins. It will process `bytes` of tensor data; data that is read in two passes counts twice.
    fn started(&self, _bytes: u64) {}

    /// Files that are there already are about to be read again, `bytes` in all; `what` says what for, such as `checking
    /// the finished shards`.
    fn reading(&self, _what: &'static str, _bytes: u64) {}

    /// Another `bytes` of what was announced last have been dealt with.
    fn advanced(&self, _bytes: u64) {}

    /// Work on a source tensor begins, or on the first of several that are copied as one.
    fn tensor_begun(&self, _name: &str) {}

    /// A source tensor is done.
    fn tensor_finished(&self, _tensor: &TensorTime) {}

    /// An output shard is complete and durable: a later run need not write it again.
    fn shard_finished(&self, _file_name: &str) {}

    /// The run ends without an output, and the same command can resume it.
    fn left_behind(&self, _left: &LeftBehind) {}
}

/// Finished shards that a failed run leaves for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// The staging directory.
    pub staging: PathBuf,
    /// Number of finished shards in it.
    pub shards: usize,
}

/// Ignores all reports.
impl Observer for () {}
