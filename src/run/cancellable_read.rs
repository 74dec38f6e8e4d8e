//! Reads of files that may lie elsewhere, which end when the run is cancelled and not when an answer comes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::checkpoint::source::{SourceError, SourceFile};
use crate::run::error::RunError;

/// How often one that waits for an answer looks whether the run has been cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Fills `buffer` from the bytes of `file` at `offset`.
///
/// # Errors
/// The file cannot be read; [`RunError::Cancelled`].
pub(super) fn read(file: &SourceFile, buffer: &mut [u8], offset: u64, cancel: &AtomicBool) -> Result<(), RunError> {
    if cancel.load(Ordering::Relaxed) {
        return Err(RunError::Cancelled);
    }
    let Some(remote) = file.remote().cloned() else { return Ok(file.read_exact_at(buffer, offset)?) };
    // A server may keep a reader waiting for minutes, which asks it again and again.
    let ((answer, answered), len) = (mpsc::channel(), buffer.len());
    let reading = thread::Builder::new().spawn(move || {
        let mut bytes = vec![0; len];
        let read = SourceFile::of_repository(remote).read_exact_at(&mut bytes, offset);
        // Nobody waits for it any more where the run was cancelled.
        let _ = answer.send(read.map(|()| bytes));
    });
    if reading.is_err() {
        return Ok(file.read_exact_at(buffer, offset)?);
    }
    loop {
        let answer: Result<Result<Vec<u8>, SourceError>, _> = answered.recv_timeout(LOOK);
        match answer {
            Ok(bytes) => {
                buffer.copy_from_slice(&bytes?);
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => return Err(RunError::Cancelled),
            Err(RecvTimeoutError::Timeout) => {}
            // It panicked, as another attempt here will.
            Err(RecvTimeoutError::Disconnected) => return Ok(file.read_exact_at(buffer, offset)?),
        }
    }
}
