//! Checksums of the output's tensors and shards, combined from pieces in any order while these are written.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::checkpoint::checksum::{Crc64, whole};
use crate::checkpoint::layout::ShardLayout;
use crate::plan::Slot;

/// Running checksum of each tensor of each output shard.
//
// A CRC is linear: that of a tensor is the XOR of what each piece contributes at its place. Workers write bands in any
// order and of a size that depends on threads and memory, and the sum is the same for all of them, which a
// cryptographic hash does not offer: SHA-256 has to read the files once more. Taken from memory while the bytes are
// written, with the journal this was 2.5 % of a run's processor time in memory.
pub(super) struct Checksums<'a> {
    layouts: &'a [ShardLayout],
    tensors: Vec<Vec<AtomicU64>>,
}

impl<'a> Checksums<'a> {
    /// Starts with the checksum of nothing for every tensor.
    pub(super) fn new(layouts: &'a [ShardLayout]) -> Self {
        let zeros = |layout: &ShardLayout| layout.tensors.iter().map(|_| AtomicU64::new(0)).collect();
        Self { layouts, tensors: layouts.iter().map(zeros).collect() }
    }

    /// Adds a piece of a shard's data that is written to `offset`. It may span several tensors.
    pub(super) fn add(&self, shard: usize, mut offset: u64, mut bytes: &[u8]) {
        let placed = &self.layouts[shard].tensors;
        let mut tensor = placed.partition_point(|placed| placed.offset + placed.len <= offset);
        while !bytes.is_empty() {
            let end = placed[tensor].offset + placed[tensor].len;
            let (piece, rest) = bytes.split_at((end - offset).min(bytes.len() as u64) as usize);
            offset += piece.len() as u64;
            bytes = rest;
            let contribution = Crc64::of(piece).before(end - offset);
            // Relaxed: the sum is read when the shard is complete, and counting its last bytes orders all of these
            // before.
            self.tensors[shard][tensor].fetch_xor(contribution.0, Ordering::Relaxed);
            tensor += 1;
        }
    }

    /// Sets the checksums of the tensors of a shard that an earlier run wrote.
    pub(super) fn set(&self, shard: usize, tensors: &[Crc64]) {
        for (sum, known) in self.tensors[shard].iter().zip(tensors) {
            sum.store(known.0, Ordering::Relaxed);
        }
    }

    /// Adds what bytes that a part wrote contribute to the checksum of a tensor.
    pub(super) fn add_contribution(&self, slot: Slot, sum: Crc64) {
        self.tensors[slot.shard][slot.tensor].fetch_xor(sum.0, Ordering::Relaxed);
    }

    /// Returns the checksum of a tensor of a complete shard; of one that a part has written a piece of, what that piece
    /// contributes to it.
    pub(super) fn tensor(&self, shard: usize, tensor: usize) -> Crc64 {
        Crc64(self.tensors[shard][tensor].load(Ordering::Relaxed))
    }

    /// Returns the checksum of a complete shard, header included.
    pub(super) fn shard(&self, shard: usize) -> Crc64 {
        let layout = &self.layouts[shard];
        let header = (Crc64::of(&layout.header), layout.header.len() as u64);
        let tensors = layout.tensors.iter().enumerate();
        let tensors = tensors.map(|(tensor, placed)| (self.tensor(shard, tensor), placed.len));
        whole(std::iter::once(header).chain(tensors))
    }
}
