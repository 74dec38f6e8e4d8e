//! The progress of work that reads a checkpoint from end to end.

/// Receives the progress of such work, from any of its threads.
pub trait ProgressSink: Sync {
    /// Work begins that will read this many bytes; `what` says what for, such as `comparing with the source`.
    fn reading(&self, _what: &'static str, _bytes: u64) {}

    /// The work comes to this tensor or file.
    fn at(&self, _name: &str) {}

    /// This many more bytes have been dealt with.
    fn advanced(&self, _bytes: u64) {}

    /// Reports whether the user wants the work to end before it is done.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Ignores all reports.
impl ProgressSink for () {}
