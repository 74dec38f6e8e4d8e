//! The blocks of a source elsewhere in the order in which a run reads them.

/// A block of a source shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockPlace {
    pub(super) shard: usize,
    /// Its number in the shard.
    pub(super) block: u64,
}

/// The bytes of a shard that are read for something, from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteExtent {
    pub(super) shard: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The blocks in the order of the work. A block that is read for two tensors apart from each other comes twice.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Blocks that follow one another in a shard.
    stretches: Vec<BlockStretch>,
    /// The place and the number of the blocks of each segment.
    segments: Vec<(u64, u64)>,
    /// Number of all places.
    end: u64,
    /// Bytes of a block.
    pub(super) block: u64,
}

#[derive(Debug)]
struct BlockStretch {
    /// The place of the first block in the order.
    first: u64,
    from: BlockPlace,
    blocks: u64,
}

impl Schedule {
    /// Begins with no segment.
    pub(super) fn new(block: u64) -> Self {
        Self { stretches: Vec::new(), segments: Vec::new(), end: 0, block }
    }

    /// Adds the next segment, which reads these bytes. Returns the number of its blocks.
    pub(super) fn add(&mut self, extents: impl IntoIterator<Item = ByteExtent>) -> u64 {
        let mut first = None;
        for ByteExtent { shard, from, to } in extents.into_iter().filter(|extent| extent.from < extent.to) {
            let (begin, last) = (from / self.block, (to - 1) / self.block);
            let (from, blocks) = (BlockPlace { shard, block: begin }, last - begin + 1);
            // Neighbours most often share a block.
            let is_shared = self.stretches.last().is_some_and(|stretch| stretch.last() == from);
            let at = if is_shared { self.end - 1 } else { self.end };
            self.stretches.push(BlockStretch { first: at, from, blocks });
            first.get_or_insert(at);
            self.end = at + blocks;
        }
        let first = first.unwrap_or(self.end);
        self.segments.push((first, self.end - first));
        self.end - first
    }

    /// Returns the block at this place of the order; `None` past the last one.
    pub(super) fn at(&self, place: u64) -> Option<BlockPlace> {
        let next = self.stretches.partition_point(|stretch| stretch.first <= place);
        let stretch = self.stretches.get(next.checked_sub(1)?)?;
        let block = stretch.from.block + (place - stretch.first);
        (place - stretch.first < stretch.blocks).then_some(BlockPlace { block, ..stretch.from })
    }

    /// Returns the place of the first block that a part of a segment may read, where the segment is read in order and
    /// `done` of its `len` bytes lie before the part.
    pub(super) fn place(&self, segment: usize, done: u64, len: u64) -> u64 {
        let (first, blocks) = self.segments[segment];
        let part = u128::from(blocks.saturating_sub(1)) * u128::from(done);
        first + part.checked_div(u128::from(len)).unwrap_or(0) as u64
    }
}

impl BlockStretch {
    fn last(&self) -> BlockPlace {
        BlockPlace { block: self.from.block + self.blocks - 1, ..self.from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_block_and_parts_begin_where_they_read() {
        let mut schedule = Schedule::new(10);
        let extent = |shard, from, to| ByteExtent { shard, from, to };
        let blocks = [
            schedule.add([extent(0, 3, 25)]),
            schedule.add([]),
            schedule.add([extent(0, 25, 30), extent(1, 0, 0)]),
            schedule.add([extent(1, 40, 41), extent(0, 0, 10)]),
        ];
        assert_eq!(blocks, [3, 0, 1, 2]);
        let order: Vec<_> = (0..7).map_while(|place| schedule.at(place)).map(|at| (at.shard, at.block)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (0, 2), (1, 4), (0, 0)]);
        assert_eq!([0, 10, 21].map(|done| schedule.place(0, done, 22)), [0, 0, 1]);
        assert_eq!((schedule.place(1, 0, 0), schedule.place(2, 0, 5), schedule.place(3, 0, 9)), (3, 2, 3));
    }
}
