//! A cache of open files: a bounded number of them, however many shards a checkpoint has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

use crate::run::error::RunError;

/// The most files of a kind that the cache keeps open. A worker may hold one that the cache has closed already.
//
// A checkpoint may have hundreds of shards and `ulimit -n` be 64. Work goes shard by shard, or in a few at a time.
const OPEN_FILES: usize = 16;

/// Files that a run has open beside shards: streams, the lock, the journal, directories.
const OTHER_FILES: u64 = 24;

/// Returns how many shards may be under way at a time: each takes a file of the output and up to two of the source.
pub(super) fn shards_at_once() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit.saturating_sub(OTHER_FILES) / 3).clamp(1, OPEN_FILES as u64) as usize
}

/// Open files by number of their shard. The one opened first is closed first.
pub(super) struct OpenFiles<T>(Mutex<VecDeque<(usize, Arc<T>)>>);

impl<T> OpenFiles<T> {
    /// Returns the open file, or opens it.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn get(&self, number: usize, open: impl FnOnce() -> Result<T, RunError>) -> Result<Arc<T>, RunError> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = files.iter().find(|(open, _)| *open == number) {
            return Ok(Arc::clone(file));
        }
        // Opened under the lock: two workers that begin a shard together would open it twice.
        let file = Arc::new(open()?);
        if files.len() == OPEN_FILES {
            files.pop_front();
        }
        files.push_back((number, Arc::clone(&file)));
        Ok(file)
    }

    /// Drops the file from the cache; it is closed once no worker uses it.
    pub(super) fn close(&self, number: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != number);
    }
}

impl<T> Default for OpenFiles<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
