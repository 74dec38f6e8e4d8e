//! Buffers for the pieces of weights, used again from one to the next.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::decode::Scratch;

/// Buffers for one piece.
#[derive(Default)]
pub(super) struct PieceBuffers {
    pub(super) scratch: Scratch,
    pub(super) codes: Vec<u8>,
    /// The source's weights, as they are stored.
    pub(super) weights: Vec<u8>,
}

/// Buffers that no thread uses at the moment.
// As many are made as threads read at a time. Allocated for each piece anew, megabytes would go back to the system and
// come from it again, page by page.
#[derive(Default)]
pub(super) struct BufferPool(Mutex<Vec<PieceBuffers>>);

impl BufferPool {
    /// Lends buffers until the loan is dropped.
    pub(super) fn lend(&self) -> Loan<'_> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Loan { buffers: idle.pop().unwrap_or_default(), pool: self }
    }
}

/// Buffers on loan.
pub(super) struct Loan<'a> {
    buffers: PieceBuffers,
    pool: &'a BufferPool,
}

impl Deref for Loan<'_> {
    type Target = PieceBuffers;

    fn deref(&self) -> &PieceBuffers {
        &self.buffers
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut PieceBuffers {
        &mut self.buffers
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let buffers = std::mem::take(&mut self.buffers);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }
}
