//! The checksums of the output's tensors and shards, gathered from the pieces as they are written.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::checkpoint::checksum::{Crc64, whole};
use crate::checkpoint::layout::ShardLayout;

/// Per shard and tensor of the output, the checksum of what has been written so far.
pub(super) struct Checksums<'a> {
    layouts: &'a [ShardLayout],
    tensors: Vec<Vec<AtomicU64>>,
}

impl<'a> Checksums<'a> {
    pub(super) fn new(layouts: &'a [ShardLayout]) -> Self {
        let zeros = |layout: &ShardLayout| layout.tensors.iter().map(|_| AtomicU64::new(0)).collect();
        Self { layouts, tensors: layouts.iter().map(zeros).collect() }
    }

    /// Takes in a piece of a shard's data that is written to `offset`; it may span tensors.
    pub(super) fn add(&self, shard: usize, mut offset: u64, mut bytes: &[u8]) {
        let placed = &self.layouts[shard].tensors;
        let mut tensor = placed.partition_point(|placed| placed.offset + placed.len <= offset);
        while !bytes.is_empty() {
            let end = placed[tensor].offset + placed[tensor].len;
            let (piece, rest) = bytes.split_at((end - offset).min(bytes.len() as u64) as usize);
            offset += piece.len() as u64;
            bytes = rest;
            let contribution = Crc64::of(piece).before(end - offset);
            // Read when the shard is complete, which orders all of these before it.
            self.tensors[shard][tensor].fetch_xor(contribution.0, Ordering::Relaxed);
            tensor += 1;
        }
    }

    /// Sets the checksums of a shard that was written before.
    pub(super) fn set(&self, shard: usize, tensors: &[Crc64]) {
        for (sum, known) in self.tensors[shard].iter().zip(tensors) {
            sum.store(known.0, Ordering::Relaxed);
        }
    }

    /// The checksum of a tensor of a complete shard.
    pub(super) fn tensor(&self, shard: usize, tensor: usize) -> Crc64 {
        Crc64(self.tensors[shard][tensor].load(Ordering::Relaxed))
    }

    /// The checksum of a complete shard, its header included.
    pub(super) fn shard(&self, shard: usize) -> Crc64 {
        let layout = &self.layouts[shard];
        let header = (Crc64::of(&layout.header), layout.header.len() as u64);
        let tensors = layout.tensors.iter().enumerate();
        let tensors = tensors.map(|(tensor, placed)| (self.tensor(shard, tensor), placed.len));
        whole(std::iter::once(header).chain(tensors))
    }
}
