//! A bounded number of open files, however many a checkpoint has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::run::error::RunError;

/// The most files of a kind that are open at a time, those in use by a worker aside.
const OPEN_FILES: usize = 16;

/// Files that are open under their number, the one that was opened longest ago closed first.
pub(super) struct OpenFiles<T>(Mutex<VecDeque<(usize, Arc<T>)>>);

impl<T> OpenFiles<T> {
    pub(super) fn get(&self, number: usize, open: impl FnOnce() -> Result<T, RunError>) -> Result<Arc<T>, RunError> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = files.iter().find(|(open, _)| *open == number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open()?);
        if files.len() == OPEN_FILES {
            files.pop_front();
        }
        files.push_back((number, Arc::clone(&file)));
        Ok(file)
    }

    pub(super) fn close(&self, number: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != number);
    }
}

impl<T> Default for OpenFiles<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}
