//! Buffers of a worker, aligned so that the system can transfer them to and from the disk directly.

use std::collections::TryReserveError;

/// Alignment in bytes of offsets, lengths and addresses in direct I/O.
//
// `O_DIRECT` refuses anything that is not aligned to the logical block of the disk: 512 bytes on most, 4096 on others.
// The larger one serves both. Where a disk wants still more, its first refusal (EINVAL) sends the file through the page
// cache for good, in `sources.rs` and `outputs.rs`.
pub(super) const ALIGN: usize = 4096;

/// Memory that is allocated once and lent as slices whose address is congruent to a file offset modulo [`ALIGN`].
///
/// A tensor begins wherever the header and the tensors before it end, so its bytes in the file are rarely aligned. A
/// slice that is out of alignment by as much as the file offset has all its whole blocks aligned in both.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// The first index whose address is a multiple of [`ALIGN`].
    aligned: usize,
}

impl Buffer {
    /// Allocates room for slices of up to `capacity` bytes. None can be lent before [`Buffer::fill`].
    ///
    /// # Errors
    /// The system has no memory for it.
    pub(super) fn reserve(capacity: usize) -> Result<Self, TryReserveError> {
        // Not `vec![0; n]`, which aborts the process where memory is short; the caller names a smaller `--max-memory`.
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(Self::footprint(capacity))?;
        let address = bytes.as_ptr().addr();
        Ok(Self { aligned: address.next_multiple_of(ALIGN) - address, bytes })
    }

    /// Touches the memory for the first time, on the thread that will use it.
    pub(super) fn fill(&mut self) {
        // The system places a page near the processor that first writes to it, so each worker does this for itself.
        self.bytes.resize(self.bytes.capacity(), 0);
    }

    /// Returns the bytes that a buffer for slices of up to `capacity` bytes allocates.
    pub(super) fn footprint(capacity: usize) -> usize {
        // One block each to align the start, for the offset within the first block, and to round up the last one.
        capacity + 3 * ALIGN
    }

    /// Lends `len` bytes for file offset `offset`; their address is aligned wherever that offset is.
    pub(super) fn at_offset(&mut self, offset: u64, len: usize) -> &mut [u8] {
        let start = self.aligned + (offset % ALIGN as u64) as usize;
        &mut self.bytes[start..start + len]
    }

    /// Returns the bytes that [`Buffer::at_offset`] lent for the same arguments.
    pub(super) fn filled(&self, offset: u64, len: usize) -> &[u8] {
        let start = self.aligned + (offset % ALIGN as u64) as usize;
        &self.bytes[start..start + len]
    }

    /// Lends the whole blocks around `len` bytes at file offset `offset`, and tells how far into them those bytes begin.
    pub(super) fn blocks_around(&mut self, offset: u64, len: usize) -> (&mut [u8], usize) {
        let skip = (offset % ALIGN as u64) as usize;
        (&mut self.bytes[self.aligned..][..(skip + len).next_multiple_of(ALIGN)], skip)
    }

    /// Moves `len` bytes from their place for file offset `from` to that for `to`.
    ///
    /// Source and output rarely agree in alignment, so a copied band is moved by up to a block between the two.
    pub(super) fn shift(&mut self, from: u64, to: u64, len: usize) {
        let [from, to] = [from, to].map(|offset| self.aligned + (offset % ALIGN as u64) as usize);
        if from != to {
            self.bytes.copy_within(from..from + len, to);
        }
    }
}
