//! The blocks of a source elsewhere that are kept, and which one is fetched next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::checkpoint::source::SourceError;
use crate::run::schedule::{BlockPlace, Schedule};

/// Blocks that are kept at a time.
pub(super) const BLOCKS: u64 = 16;

/// Blocks that are kept or on their way, and who needs them.
#[derive(Default)]
pub(super) struct KeptBlocks {
    pub(super) blocks: BTreeMap<BlockPlace, Block>,
    /// The place in the schedule of each task that is under way.
    pub(super) tasks: BTreeMap<u64, u64>,
    /// The place that the task begun last has.
    pub(super) position: u64,
    /// Blocks that somebody waits for and nobody fetches.
    wanted: VecDeque<BlockPlace>,
    /// The memory of blocks that were dropped, for those that come next: new memory is handed out page by page, each
    /// with a fault and full of zeros.
    spare: Vec<Vec<u8>>,
    /// How many wait for each block: none of these is dropped before they have it.
    waiting: BTreeMap<BlockPlace, usize>,
}

/// A block, or what has become of it.
pub(super) struct Block {
    /// The last place in the schedule for which it is kept.
    until: u64,
    pub(super) content: Content,
}

/// What is known of a block.
pub(super) enum Content {
    /// On its way.
    Fetched,
    Ready(Arc<Vec<u8>>),
    Failed(SourceError),
}

impl KeptBlocks {
    /// Returns a block that is there, or why it is not to be had; `None` while neither is known. An error is told once.
    pub(super) fn take(&mut self, place: BlockPlace) -> Option<Result<Arc<Vec<u8>>, SourceError>> {
        match &self.blocks.get(&place)?.content {
            Content::Fetched => return None,
            Content::Ready(content) => return Some(Ok(Arc::clone(content))),
            Content::Failed(_) => {}
        }
        match self.blocks.remove(&place)?.content {
            Content::Failed(error) => Some(Err(error)),
            Content::Fetched | Content::Ready(_) => None,
        }
    }

    /// Asks for a block that nobody fetches; returns whether nobody had asked for it.
    pub(super) fn want(&mut self, place: BlockPlace) -> bool {
        let is_new = !self.blocks.contains_key(&place) && !self.wanted.contains(&place);
        if is_new {
            self.wanted.push_back(place);
        }
        is_new
    }

    /// Notes that one more waits for a block.
    pub(super) fn waits(&mut self, place: BlockPlace) {
        *self.waiting.entry(place).or_default() += 1;
    }

    /// Notes that one of those who wait for a block has it, or has given up.
    pub(super) fn waits_no_more(&mut self, place: BlockPlace) {
        if let Some(waiting) = self.waiting.get_mut(&place) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&place);
            }
        }
    }

    /// Takes the next block to fetch: one that a worker waits for, else the next of the schedule for which there is room.
    pub(super) fn next(&mut self, schedule: &Schedule) -> Option<BlockPlace> {
        let first = self.tasks.values().next().copied().unwrap_or(self.position);
        while let Some(place) = self.wanted.pop_front() {
            if !self.blocks.contains_key(&place) {
                self.make_room(first, true);
                self.blocks.insert(place, Block { until: self.position, content: Content::Fetched });
                return Some(place);
            }
        }
        for index in first..first + BLOCKS {
            let place = schedule.at(index)?;
            if let Some(block) = self.blocks.get_mut(&place) {
                block.until = block.until.max(index);
                continue;
            }
            if !self.make_room(first, false) {
                return None;
            }
            self.blocks.insert(place, Block { until: index, content: Content::Fetched });
            return Some(place);
        }
        None
    }

    /// Drops blocks that no task needs any more until there is room for another one; returns whether there is. With
    /// `needed`, the block that is needed last goes where all are.
    fn make_room(&mut self, first: u64, needed: bool) -> bool {
        while self.blocks.len() as u64 >= BLOCKS {
            let ready = (self.blocks.iter()).filter(|(place, block)| {
                !(matches!(block.content, Content::Fetched) || self.waiting.contains_key(place))
            });
            let (oldest, newest) =
                (ready.clone().min_by_key(|(_, block)| block.until), ready.max_by_key(|(_, block)| block.until));
            let gone = match (oldest, newest) {
                (Some((place, block)), _) if block.until < first => *place,
                (_, Some((place, _))) if needed => *place,
                // Those that wait bound how many there are beyond the limit.
                _ => return needed,
            };
            let content = self.blocks.remove(&gone).map(|block| block.content);
            // Unless somebody still reads it.
            if let Some(Content::Ready(content)) = content
                && let Ok(memory) = Arc::try_unwrap(content)
            {
                self.spare.push(memory);
            }
        }
        true
    }

    /// Returns the memory of a dropped block, whatever is in it; none where there is none.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::schedule::ByteExtent;

    /// Takes the next block, which is there at once.
    fn fetch(kept: &mut KeptBlocks, schedule: &Schedule) -> Option<BlockPlace> {
        let place = kept.next(schedule)?;
        kept.blocks.get_mut(&place).unwrap().content = Content::Ready(Arc::default());
        Some(place)
    }

    #[test]
    fn what_is_waited_for_stays_until_it_is_taken_however_many_wait() {
        let mut schedule = Schedule::new(10);
        schedule.add([ByteExtent { shard: 0, from: 0, to: 10_000 }]);
        let mut kept = KeptBlocks { position: 900, tasks: BTreeMap::from([(0, 0)]), ..KeptBlocks::default() };
        let ahead: Vec<_> = std::iter::from_fn(|| fetch(&mut kept, &schedule)).map(|place| place.block).collect();
        assert_eq!(ahead, (0..BLOCKS).collect::<Vec<_>>());
        // More workers than blocks are kept, each far from the first one.
        let far: Vec<_> = (0..2 * BLOCKS).map(|number| BlockPlace { shard: 0, block: 500 + 10 * number }).collect();
        for &place in &far {
            kept.waits(place);
            assert!(kept.want(place) && !kept.want(place));
        }
        for place in &far {
            assert_eq!(fetch(&mut kept, &schedule).as_ref(), Some(place));
        }
        for &place in &far {
            assert!(matches!(kept.take(place), Some(Ok(_))), "{place:?}");
            kept.waits_no_more(place);
        }
        // Then there are no more than before.
        kept.want(BlockPlace { shard: 0, block: 999 });
        fetch(&mut kept, &schedule);
        assert_eq!(kept.blocks.len() as u64, BLOCKS);
        assert!(kept.waiting.is_empty());
    }

    #[test]
    fn memory_of_dropped_blocks_is_used_again_unless_somebody_reads_it() {
        let mut schedule = Schedule::new(10);
        schedule.add([ByteExtent { shard: 0, from: 0, to: 1_000 }]);
        let mut kept = KeptBlocks { tasks: BTreeMap::from([(0, 0)]), ..KeptBlocks::default() };
        while let Some(place) = kept.next(&schedule) {
            kept.blocks.get_mut(&place).unwrap().content = Content::Ready(Arc::new(vec![7; 10]));
        }
        let read = kept.take(BlockPlace { shard: 0, block: 0 }).unwrap().unwrap();
        kept.tasks.insert(0, 2);
        assert!(kept.next(&schedule).is_some() && kept.next(&schedule).is_some());
        // Of two dropped blocks one was being read.
        assert_eq!(kept.spare.len(), 1);
        assert_eq!((kept.spare(), kept.spare(), read.len()), (vec![7; 10], Vec::new(), 10));
        assert!(kept.next(&schedule).is_none());
    }
}
