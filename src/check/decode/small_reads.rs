//! Small reads of shards elsewhere, each of which would otherwise be a round trip.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use qwen_fp8_checkpoint::ShardFile;
use qwen_fp8_checkpoint::source::SourceError;

/// Bytes of a block: they take hardly longer than the round trip itself.
const BLOCK: u64 = 64 << 10;

/// Blocks that are kept: 32 MiB.
const KEPT: usize = 512;

/// A block, once it is there; whoever comes meanwhile waits for it.
type SmallBlock = Arc<Mutex<Option<Vec<u8>>>>;

/// Blocks of shards that small reads have touched, and the moment in which each was last wanted.
#[derive(Debug, Default)]
pub(super) struct SmallReads {
    wanted: Mutex<WantedBlocks>,
}

#[derive(Debug, Default)]
struct WantedBlocks {
    blocks: HashMap<(usize, u64), (u64, SmallBlock)>,
    reads: u64,
}

impl SmallReads {
    /// Reports whether a read of this many bytes is a small one.
    pub(super) fn is_small(len: usize) -> bool {
        (len as u64) < BLOCK
    }

    /// Fills `buffer` from the bytes at `offset` of a shard of this number and size.
    pub(super) fn read(
        &self,
        (shard, file, size): (usize, &ShardFile, u64),
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), SourceError> {
        let (mut at, end) = (offset, offset + buffer.len() as u64);
        while at < end {
            let number = at / BLOCK;
            let (first, last) = (number * BLOCK, size.min((number + 1) * BLOCK));
            let until = end.min(last);
            let to = &mut buffer[(at - offset) as usize..(until - offset) as usize];
            let block = self.block((shard, number));
            let mut bytes = block.lock().unwrap_or_else(PoisonError::into_inner);
            if bytes.is_none() {
                let mut read = vec![0; (last - first) as usize];
                file.read_exact_at(&mut read, first)?;
                *bytes = Some(read);
            }
            // It was filled above.
            let bytes = bytes.as_deref().unwrap_or_default();
            to.copy_from_slice(&bytes[(at - first) as usize..(until - first) as usize]);
            at = until;
        }
        Ok(())
    }

    /// Returns a block, in place of the one that was not wanted for longest.
    fn block(&self, place: (usize, u64)) -> SmallBlock {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.reads += 1;
        let now = wanted.reads;
        if let Some((last, block)) = wanted.blocks.get_mut(&place) {
            *last = now;
            return Arc::clone(block);
        }
        if wanted.blocks.len() >= KEPT
            && let Some(oldest) = wanted.blocks.iter().min_by_key(|(_, (last, _))| *last).map(|(place, _)| *place)
        {
            wanted.blocks.remove(&oldest);
        }
        let block = SmallBlock::default();
        wanted.blocks.insert(place, (now, Arc::clone(&block)));
        block
    }
}
