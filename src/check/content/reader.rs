//! The files and the records that the tensors of a result are read with.

use super::buffers::BufferPool;
use crate::decode::Shards;
use crate::source::RecordedActions;

/// The result as its tensors are read.
pub(super) struct OutputReader<'a> {
    pub(super) shards: &'a Shards,
    pub(super) recorded: &'a RecordedActions,
    pub(super) buffers: BufferPool,
}
