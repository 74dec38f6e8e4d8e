//! Reading a source elsewhere ahead of the workers, so that these wait for nothing but the network.
//!
//! Blocks are fetched in the order of the tasks, several at a time, and kept until the last task that may read them has
//! ended. What was not foreseen is fetched when it is asked for.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::checkpoint::Shard;
use crate::checkpoint::checksum::hexadecimal;
use crate::checkpoint::remote::RemoteFile;
use crate::checkpoint::source::SourceError;
use crate::run::kept_blocks::{self, Content, KeptBlocks};
use crate::run::schedule::{BlockPlace, Schedule};

/// Blocks that are fetched at a time.
const FETCHERS: usize = 16;

/// Bytes of all blocks together, unless `--max-memory` leaves less.
const MEMORY: u64 = 128 << 20;

/// The smallest block: each costs a round trip.
const LEAST_BLOCK: u64 = 64 << 10;

/// How often a worker that waits for a block looks whether the run has been cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Returns the bytes of all blocks together, out of what a run may take.
pub(super) fn memory(max_memory: u64) -> u64 {
    MEMORY.min(max_memory / 2)
}

/// Returns the bytes of a block, out of what a run may take.
pub(super) fn block_bytes(max_memory: u64) -> u64 {
    (memory(max_memory) / kept_blocks::BLOCKS).max(LEAST_BLOCK)
}

/// Blocks of a source elsewhere, fetched ahead.
pub(super) struct ReadAhead {
    shared: Arc<Shared>,
}

struct Shared {
    schedule: Schedule,
    files: Vec<Option<FetchedShard>>,
    state: Mutex<KeptBlocks>,
    changed: Condvar,
    is_over: AtomicBool,
}

/// A shard, and the digest of what was fetched of it from its beginning on.
struct FetchedShard {
    file: RemoteFile,
    size: u64,
    digest: Mutex<PartialDigest>,
}

#[derive(Default)]
struct PartialDigest {
    sum: Sha256,
    /// Number of the first block that is not in it.
    next: u64,
    /// Blocks that came before those in front of them.
    early: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl ReadAhead {
    /// Begins to fetch.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(shards: &[Shard], schedule: Schedule) -> io::Result<Self> {
        let file = |shard: &Shard| {
            let file = shard.remote.clone()?;
            Some(FetchedShard { file, size: shard.size, digest: Mutex::default() })
        };
        let files = shards.iter().map(file).collect();
        let shared = Arc::new(Shared {
            schedule,
            files,
            state: Mutex::default(),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
        });
        // Dropped with an error below, it ends those that were started.
        let read_ahead = Self { shared: Arc::clone(&shared) };
        for number in 0..FETCHERS {
            let own = Arc::clone(&shared);
            // Not joined: one that waits for a server must not hold a run that was cancelled.
            match thread::Builder::new().spawn(move || own.fetch()) {
                Err(error) if number == 0 => return Err(error),
                Err(_) => break,
                Ok(_) => {}
            }
        }
        Ok(read_ahead)
    }

    /// Returns the order in which it fetches.
    pub(super) fn schedule(&self) -> &Schedule {
        &self.shared.schedule
    }

    /// Notes that the task of this number begins, which reads from this place of the schedule on.
    pub(super) fn begin(&self, task: u64, place: u64) {
        let mut state = self.shared.lock();
        state.tasks.insert(task, place);
        state.position = state.position.max(place);
        self.shared.changed.notify_all();
    }

    /// Notes that a task has ended.
    pub(super) fn end(&self, task: u64) {
        self.shared.lock().tasks.remove(&task);
        self.shared.changed.notify_all();
    }

    /// Fills `buffer` from the bytes of a shard at `offset`.
    ///
    /// # Errors
    /// The bytes cannot be had, or `cancel` became true.
    pub(super) fn read(&self, shard: usize, buffer: &mut [u8], offset: u64, cancel: &AtomicBool) -> io::Result<()> {
        let (block, end) = (self.shared.schedule.block, offset + buffer.len() as u64);
        let mut at = offset;
        while at < end {
            let place = BlockPlace { shard, block: at / block };
            let content = self.shared.wait(place, cancel)?;
            let from = (at - place.block * block) as usize;
            let len = (content.len() - from).min((end - at) as usize);
            let to = (at - offset) as usize;
            buffer[to..to + len].copy_from_slice(&content[from..from + len]);
            at += len as u64;
        }
        Ok(())
    }

    /// Compares the digest of a shard that was read from its first byte to its last with that which the hub tells.
    ///
    /// # Errors
    /// They differ: what was read is not what was published.
    pub(super) fn check(&self, shard: usize) -> Result<(), SourceError> {
        let Some(fetched) = &self.shared.files[shard] else { return Ok(()) };
        let digest = fetched.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = &fetched.file.entry().sha256 else { return Ok(()) };
        let is_whole = digest.next == fetched.size.div_ceil(self.shared.schedule.block);
        if !is_whole || hexadecimal(digest.sum.clone().finalize().as_slice()) == *told {
            return Ok(());
        }
        let what = "its bytes have another SHA-256 than the hub tells";
        Err(SourceError::Changed { path: fetched.file.path(), what })
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // Under the lock: one that has just found nothing to fetch would otherwise miss it, and sleep for ever.
        let state = self.shared.lock();
        self.shared.is_over.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, KeptBlocks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a block, once it is there.
    fn wait(&self, place: BlockPlace, cancel: &AtomicBool) -> io::Result<Arc<Vec<u8>>> {
        let mut state = self.lock();
        state.waits(place);
        loop {
            if let Some(taken) = state.take(place) {
                state.waits_no_more(place);
                return taken.map_err(io::Error::other);
            }
            if cancel.load(Ordering::Relaxed) {
                state.waits_no_more(place);
                return Err(io::ErrorKind::Interrupted.into());
            }
            if state.want(place) {
                self.changed.notify_all();
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Fetches blocks until the run is over.
    fn fetch(&self) {
        while let Some((place, memory)) = self.next() {
            let content = match self.fetch_one(place, memory) {
                Ok(content) => Content::Ready(content),
                Err(error) => Content::Failed(error),
            };
            if let Some(block) = self.lock().blocks.get_mut(&place) {
                block.content = content;
            }
            self.changed.notify_all();
        }
    }

    /// Waits for a block that is to be fetched and has room, and returns it with memory to use again; `None` once the run is
    /// over.
    fn next(&self) -> Option<(BlockPlace, Vec<u8>)> {
        let mut state = self.lock();
        loop {
            if self.is_over.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(place) = state.next(&self.schedule) {
                return Some((place, state.spare()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fetch_one(
        &self,
        BlockPlace { shard, block }: BlockPlace,
        mut bytes: Vec<u8>,
    ) -> Result<Arc<Vec<u8>>, SourceError> {
        // A place in the schedule is that of a shard elsewhere.
        let Some(fetched) = &self.files[shard] else { return Ok(Arc::default()) };
        let from = block * self.schedule.block;
        // Here and not where the memory is handed out, at which one thread at a time may look.
        bytes.resize(self.schedule.block.min(fetched.size.saturating_sub(from)) as usize, 0);
        let read = fetched.file.read_exact_at(&mut bytes, from);
        read.map_err(|error| SourceError::Remote { path: fetched.file.path(), error })?;
        let bytes = Arc::new(bytes);
        // Before it is handed out: whoever has read the last block knows that all are in the digest.
        if fetched.file.entry().sha256.is_some() {
            fetched.digest.lock().unwrap_or_else(PoisonError::into_inner).add(block, &bytes);
        }
        Ok(bytes)
    }
}

impl PartialDigest {
    /// Adds a block, and those that waited for it.
    fn add(&mut self, block: u64, bytes: &Arc<Vec<u8>>) {
        if block >= self.next {
            self.early.insert(block, Arc::clone(bytes));
        }
        while let Some(bytes) = self.early.remove(&self.next) {
            self.sum.update(&**bytes);
            self.next += 1;
        }
        // No more than this many are on their way: one of those in front is not read in this run.
        if self.early.len() > FETCHERS {
            *self = Self { next: u64::MAX, ..Self::default() };
        }
    }
}
