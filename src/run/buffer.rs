//! Memory that a worker reads into and quantizes into, laid out so that the kernel can write it to disk directly.

use std::collections::TryReserveError;

/// What direct I/O asks of offsets, lengths and addresses, on every disk with blocks of at most this size.
pub(super) const ALIGN: usize = 4096;

/// Memory that is allocated once and handed out in pieces of the address that a file offset asks for.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// The first index whose address is a multiple of [`ALIGN`].
    aligned: usize,
}

impl Buffer {
    /// Room for pieces of up to `capacity` bytes, of which none can be had before [`Buffer::fill`].
    pub(super) fn reserve(capacity: usize) -> Result<Self, TryReserveError> {
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(Self::footprint(capacity))?;
        let address = bytes.as_ptr().addr();
        Ok(Self { aligned: address.next_multiple_of(ALIGN) - address, bytes })
    }

    /// Takes the memory, which is then near the processor that does so.
    pub(super) fn fill(&mut self) {
        self.bytes.resize(self.bytes.capacity(), 0);
    }

    /// Bytes that a buffer for pieces of up to `capacity` bytes takes.
    pub(super) fn footprint(capacity: usize) -> usize {
        capacity + 3 * ALIGN
    }

    /// `len` bytes that will lie at `offset` in a file: where the offset is aligned, so is the address.
    pub(super) fn at_offset(&mut self, offset: u64, len: usize) -> &mut [u8] {
        let start = self.aligned + (offset % ALIGN as u64) as usize;
        &mut self.bytes[start..start + len]
    }

    /// The bytes that the last call of [`Buffer::at_offset`] with these arguments handed out.
    pub(super) fn filled(&self, offset: u64, len: usize) -> &[u8] {
        let start = self.aligned + (offset % ALIGN as u64) as usize;
        &self.bytes[start..start + len]
    }

    /// The whole blocks that `len` bytes at `offset` of a file lie in, and how far into the first one they begin.
    pub(super) fn blocks_around(&mut self, offset: u64, len: usize) -> (&mut [u8], usize) {
        let skip = (offset % ALIGN as u64) as usize;
        (&mut self.bytes[self.aligned..][..(skip + len).next_multiple_of(ALIGN)], skip)
    }

    /// Moves `len` bytes from where offset `from` puts them to where offset `to` does.
    pub(super) fn shift(&mut self, from: u64, to: u64, len: usize) {
        let [from, to] = [from, to].map(|offset| self.aligned + (offset % ALIGN as u64) as usize);
        if from != to {
            self.bytes.copy_within(from..from + len, to);
        }
    }
}
