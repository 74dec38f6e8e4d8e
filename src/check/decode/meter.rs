//! The progress of a check within one tensor.

use std::sync::atomic::{AtomicU64, Ordering};

use qwen_fp8_checkpoint::progress::ProgressSink;

/// The share of one tensor in the progress of a check; dropped, it reports what is left of it.
// A tensor may be read twice, in part or not at all, which nobody knows beforehand. With a fixed share for each, the
// whole is the size of the checkpoint, and no progress goes past its end.
pub(crate) struct Meter<'a> {
    sink: &'a dyn ProgressSink,
    left: AtomicU64,
}

impl<'a> Meter<'a> {
    /// Starts with a share of so many bytes.
    pub(crate) fn new(sink: &'a dyn ProgressSink, bytes: u64) -> Self {
        Self { sink, left: AtomicU64::new(bytes) }
    }

    /// Reports bytes that were read, as far as the share goes.
    pub(crate) fn advance(&self, bytes: u64) {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        match left.min(bytes) {
            0 => {}
            bytes => self.sink.advanced(bytes),
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.advance(u64::MAX);
    }
}
