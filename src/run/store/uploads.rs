//! Shards on their way to a store: each is uploaded in parts, which go as soon as all of their bytes are written.
//!
//! Workers write where a band belongs, in any order. What they write lies in a file without a name until its part is complete
//! and gone; then its space is given back. So a run needs as much disk as lies in parts that are not complete, a few for
//! each worker, and as many as wait for the network.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use crate::checkpoint::store::{ObjectState, OutputStore, UploadPart};
use crate::plan::Plan;
use crate::run::error::RunError;
use crate::run::outputs::{OutputShard, Uploads};
use crate::run::self_check;
use crate::run::share::ToWrite;
use crate::run::store::journal::StoreJournal;

/// Parts that are uploaded at a time, each with a thread and a buffer of its own; fewer under a small `--max-memory`.
const UPLOADERS: usize = 8;

/// Bytes of a part; S3 takes none below 5 MiB but the last one.
const PART: u64 = 8 << 20;

/// The most parts of a shard: S3 takes 10 000.
const MOST_PARTS: u64 = 9_000;

/// Complete parts that wait for an upload; beyond them the workers wait.
const WAITING: usize = 2 * UPLOADERS;

/// How often one that waits looks whether the run has been cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Returns how many parts are uploaded at a time, and the bytes that are left for all else, out of what a run may take.
pub(super) fn uploaders(max_memory: u64) -> (usize, u64) {
    let uploaders = (max_memory / 2 / PART).clamp(1, UPLOADERS as u64);
    (uploaders as usize, max_memory.saturating_sub(uploaders * PART).max(max_memory / 2))
}

/// All shards that go to a store.
pub(super) struct ShardUploads<'a> {
    store: &'a dyn OutputStore,
    plan: &'a Plan,
    journal: &'a StoreJournal<'a>,
    cancel: &'a AtomicBool,
    shards: Vec<UploadOfShard>,
    queue: Mutex<PartQueue>,
    changed: Condvar,
}

/// A shard on its way.
struct UploadOfShard {
    /// Bytes of a part.
    part: u64,
    /// Bytes of each part that are still to be written.
    remaining: Vec<AtomicU64>,
    progress: Mutex<UploadProgress>,
}

#[derive(Default)]
struct UploadProgress {
    /// The upload's id, once it was begun.
    id: Option<String>,
    /// The tags of the parts that are uploaded.
    tags: Vec<Option<String>>,
}

#[derive(Default)]
struct PartQueue {
    ready: VecDeque<ReadyPart>,
    /// What went wrong first.
    failure: Option<RunError>,
    /// Set when no part comes any more.
    is_closed: bool,
    /// Set when no further part is to be uploaded.
    is_over: bool,
}

/// Notes a shard that is an object now, in this state.
pub(super) type EnterObject<'a> = &'a (dyn Fn(usize, ObjectState) -> Result<(), RunError> + Sync);

/// A part all of whose bytes are written.
struct ReadyPart {
    shard: usize,
    number: usize,
    file: Arc<OutputShard>,
}

impl<'a> ShardUploads<'a> {
    /// Begins with nothing of the shards that are to be written.
    pub(super) fn new(
        store: &'a dyn OutputStore,
        plan: &'a Plan,
        to_write: &[ToWrite],
        journal: &'a StoreJournal<'a>,
        cancel: &'a AtomicBool,
    ) -> Self {
        let shards = plan.shards.iter().zip(to_write).map(|(layout, to_write)| {
            let size = if *to_write == ToWrite::Nothing { 0 } else { layout.size };
            UploadOfShard::new(size)
        });
        let (shards, queue, changed) = (shards.collect(), Mutex::default(), Condvar::new());
        Self { store, plan, journal, cancel, shards, queue, changed }
    }

    /// Uploads parts until one fails, or [`Self::end`]; or, after [`Self::close`], until there are none. The last part of a shard
    /// makes it an object.
    pub(super) fn upload(&self, enter: EnterObject<'_>) {
        while let Some(part) = self.next() {
            if let Err(error) = self.upload_one(&part, enter) {
                let mut queue = self.lock();
                queue.failure.get_or_insert(error);
                queue.is_over = true;
            }
            self.changed.notify_all();
        }
    }

    /// Lets the threads that upload end behind the last part.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Lets the threads that upload end at once.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Returns what went wrong with the uploads, if anything did: what fails elsewhere is a consequence.
    pub(super) fn into_failure(self) -> Option<RunError> {
        self.queue.into_inner().unwrap_or_else(PoisonError::into_inner).failure
    }

    fn next(&self) -> Option<ReadyPart> {
        let mut queue = self.lock();
        loop {
            if queue.is_over || self.cancel.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(part) = queue.ready.pop_front() {
                // One that waits for room may go on.
                self.changed.notify_all();
                return Some(part);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.wait(queue);
        }
    }

    fn upload_one(&self, part: &ReadyPart, enter: EnterObject<'_>) -> Result<(), RunError> {
        let (shard, name) = (&self.shards[part.shard], self.plan.shards[part.shard].file_name.as_str());
        let id = {
            // Held while it begins: the others wait, and go on with the same upload.
            let mut progress = shard.lock();
            match &progress.id {
                Some(id) => id.clone(),
                None => progress.id.insert(self.journal.begin(name)?).clone(),
            }
        };
        let offset = part.number as u64 * shard.part;
        let len = shard.part.min(self.plan.shards[part.shard].size - offset);
        let mut bytes = vec![0; len as usize];
        let file = &part.file.buffered;
        file.read_exact_at(&mut bytes, offset).map_err(RunError::file("read what was written of", name.as_ref()))?;
        let tag = self.store.put_part(name, &id, UploadPart { number: part.number, offset, bytes });
        let failed = |error| RunError::store(error, self.store.address());
        // A run that has taken the prefix over gives up the uploads that it finds, and stores have several words for that.
        let tag = tag.map_err(|error| match self.journal.hold() {
            Err(taken @ RunError::StoreTaken { .. }) => taken,
            _ => failed(error),
        })?;
        // Where the file system cannot, the space is given back with the whole shard.
        let _ = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len);
        let mut progress = shard.lock();
        progress.tags[part.number] = Some(tag);
        // One thread sees the last of them.
        let Some(tags) = progress.tags.iter().cloned().collect::<Option<Vec<String>>>() else { return Ok(()) };
        drop(progress);
        // Of a run that was taken for dead, and has lost the prefix, nothing is to come there any more.
        self.journal.hold()?;
        let read_later = self_check::read_of(self.plan, part.shard);
        let size = self.plan.shards[part.shard].size;
        enter(part.shard, self.store.complete(name, &id, &tags, size, &read_later).map_err(failed)?)
    }

    /// Waits for a change, and not for long: nobody tells of a run that is cancelled.
    fn wait<'q>(&self, queue: MutexGuard<'q, PartQueue>) -> MutexGuard<'q, PartQueue> {
        self.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, PartQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uploads for ShardUploads<'_> {
    fn written(&self, shard: usize, file: &Arc<OutputShard>, offset: u64, len: u64) -> io::Result<()> {
        for number in self.shards[shard].completed(offset, len) {
            let mut queue = self.lock();
            loop {
                if queue.is_over {
                    return Err(io::Error::other("an upload failed"));
                }
                // The run ends without it.
                if self.cancel.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if queue.ready.len() < WAITING {
                    break;
                }
                queue = self.wait(queue);
            }
            queue.ready.push_back(ReadyPart { shard, number, file: Arc::clone(file) });
            self.changed.notify_all();
        }
        Ok(())
    }
}

impl UploadOfShard {
    fn new(size: u64) -> Self {
        let part = part_bytes(size);
        let remaining: Vec<AtomicU64> =
            (0..size).step_by(part as usize).map(|from| AtomicU64::new(part.min(size - from))).collect();
        let progress = UploadProgress { tags: vec![None; remaining.len()], ..UploadProgress::default() };
        Self { part, remaining, progress: Mutex::new(progress) }
    }

    /// Counts bytes as written, and returns the parts that are complete with them.
    fn completed(&self, mut offset: u64, len: u64) -> Vec<usize> {
        let (end, mut complete) = (offset + len, Vec::new());
        while offset < end {
            let number = offset / self.part;
            let bytes = ((number + 1) * self.part).min(end) - offset;
            // AcqRel: who completes a part must see what the others wrote.
            if self.remaining[number as usize].fetch_sub(bytes, Ordering::AcqRel) == bytes {
                complete.push(number as usize);
            }
            offset += bytes;
        }
        complete
    }

    fn lock(&self) -> MutexGuard<'_, UploadProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the bytes of a part of an object of this size.
pub(super) fn part_bytes(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_complete_with_their_last_byte_in_any_order() {
        let shard = UploadOfShard::new(2 * PART + 10);
        assert_eq!(shard.remaining.len(), 3);
        assert!(shard.completed(PART - 4, 8).is_empty());
        assert!(shard.completed(0, 100).is_empty());
        assert_eq!(shard.completed(2 * PART, 10), [2]);
        assert_eq!(shard.completed(PART + 4, PART - 4), [1]);
        assert_eq!(shard.completed(100, PART - 104), [0]);
        assert!(shard.completed(0, 0).is_empty());
    }

    #[test]
    fn uploads_take_half_of_the_memory_at_most() {
        assert_eq!(uploaders(160 << 20), (8, 96 << 20));
        assert_eq!(uploaders(40 << 20), (2, 24 << 20));
        assert_eq!(uploaders(2 << 20), (1, 1 << 20));
    }

    #[test]
    fn parts_of_a_large_shard_are_few_enough() {
        assert_eq!(part_bytes(1), PART);
        assert_eq!(part_bytes(5 << 30), PART);
        let large = 1_u64 << 40;
        assert!(large.div_ceil(part_bytes(large)) <= 10_000);
    }
}
