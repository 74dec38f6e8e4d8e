//! The output shards: created at their full size and written at fixed offsets, bypassing the page cache where possible.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, OFlags, fallocate, statfs};
use rustix::io::{Errno, retry_on_intr};

use crate::checkpoint::layout::ShardLayout;
use crate::run::buffer::ALIGN;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::open_files::OpenFiles;
use crate::run::share::ToWrite;
use crate::run::threads;

/// Smallest number of bytes that are written directly; below, the fixed costs of direct I/O outweigh its gain.
const SMALLEST_DIRECT_WRITE: usize = 64 << 10;

/// The numbers under which Linux knows tmpfs and ramfs.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58F6;

/// The output shards, each at its full size from the start.
//
// The plan fixes the offset of every tensor, so that workers write where their band belongs and never wait for each
// other's. The bytes are then the same for any number of workers, and a shard can be finished out of order.
pub(super) struct Outputs<'a> {
    dir: &'a Path,
    layouts: &'a [ShardLayout],
    open: OpenFiles<OutputShard>,
    /// How much of each shard is to be written.
    to_write: Vec<ToWrite>,
    /// Bytes of each shard that are still to be written.
    remaining: Vec<AtomicU64>,
    /// Set where writers of one shard take turns.
    takes_turns: bool,
    /// Set where the shards are uploaded, and lie here only on the way.
    passage: Option<Passage<'a>>,
}

/// Where shards are gathered on the way to a store.
struct Passage<'a> {
    /// The directory for their files, which have no names there.
    scratch: &'a Path,
    uploads: &'a dyn Uploads,
    /// The shards that are under way, all of them: one that is closed is gone.
    files: Mutex<BTreeMap<usize, Arc<OutputShard>>>,
}

/// What takes the bytes of shards elsewhere.
pub(super) trait Uploads: Sync {
    /// Takes note that `len` bytes of a shard were written to `file` at `offset`; waits where more is written than goes away.
    ///
    /// # Errors
    /// An upload has failed.
    fn written(&self, shard: usize, file: &Arc<OutputShard>, offset: u64, len: u64) -> io::Result<()>;
}

impl<'a> Outputs<'a> {
    /// Creates in `dir` every shard of which something is to be written. Space is reserved for those that are written
    /// whole; a piece has holes around it.
    ///
    /// The header comes last, when the shard is complete: until then no reader takes the file for a safetensors file. A
    /// piece gets none.
    ///
    /// # Errors
    /// A file cannot be made, or the disk has no room for it.
    pub(super) fn create(
        dir: &'a Path,
        layouts: &'a [ShardLayout],
        to_write: Vec<ToWrite>,
        direct: bool,
        threads: usize,
    ) -> Result<Self, RunError> {
        let remaining = bytes_to_write(layouts, &to_write);
        let in_memory = is_in_memory(dir);
        let takes_turns = in_memory || !direct;
        let open = OpenFiles::default();
        let mut outputs = Self { dir, layouts, open, to_write, remaining, takes_turns, passage: None };
        // A file system in memory finds a page for each page of a shard, which takes a third of the time that the run
        // then writes to it; others note a few numbers.
        outputs.reserve_all(if in_memory { threads } else { 1 })?;
        if let Some(first) = (0..layouts.len()).find(|&shard| !outputs.takes_turns && outputs.is_wanted(shard)) {
            outputs.takes_turns = OutputShard::open(&outputs.path(first), false).is_ok_and(|shard| !shard.is_direct());
        }
        sync_dir(dir)?;
        Ok(outputs)
    }

    /// Takes the shards to `uploads` instead; their files lie in `scratch`, without a name, only until they are there. `address`
    /// is that of the output.
    pub(super) fn uploaded(
        address: &'a Path,
        layouts: &'a [ShardLayout],
        to_write: Vec<ToWrite>,
        scratch: &'a Path,
        uploads: &'a dyn Uploads,
    ) -> Self {
        let remaining = bytes_to_write(layouts, &to_write);
        let passage = Some(Passage { scratch, uploads, files: Mutex::default() });
        // Through the page cache: what is written is read again at once, and then dropped.
        Self { dir: address, layouts, open: OpenFiles::default(), to_write, remaining, takes_turns: true, passage }
    }

    /// Creates the shards and reserves their space.
    fn reserve_all(&self, threads: usize) -> Result<(), RunError> {
        let next = AtomicUsize::new(0);
        // The failure of the first shard that failed: every earlier one has been begun and ends.
        let failure: Mutex<Option<(usize, RunError)>> = Mutex::default();
        threads::on_each(threads.min(self.layouts.len()), || {
            loop {
                let shard = next.fetch_add(1, Ordering::Relaxed);
                let Some(layout) = self.layouts.get(shard) else { break };
                if !self.is_wanted(shard) {
                    continue;
                }
                let path = self.path(shard);
                let created = create_new(&path, 0o666).map_err(RunError::file("create", &path));
                let reserved = created.and_then(|file| {
                    let reserved = match self.to_write[shard] {
                        ToWrite::Whole => reserve(&file, layout.size),
                        _ => file.set_len(layout.size),
                    };
                    reserved.map_err(RunError::file("reserve the space of", &path))
                });
                if let Err(error) = reserved {
                    next.store(self.layouts.len(), Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    if failure.as_ref().is_none_or(|&(earliest, _)| shard < earliest) {
                        *failure = Some((shard, error));
                    }
                }
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Returns whether writers of one shard take turns, as they do on the way through the page cache: one at a time is
    /// let into a file.
    pub(super) fn takes_turns(&self) -> bool {
        self.takes_turns
    }

    /// Returns whether one shard is to be written after the other, and not several side by side.
    pub(super) fn in_order(&self) -> bool {
        self.passage.is_some()
    }

    /// Returns the path of a shard.
    pub(super) fn path(&self, shard: usize) -> PathBuf {
        self.dir.join(&self.layouts[shard].file_name)
    }

    /// Returns a shard that is open for writing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn get(&self, shard: usize) -> Result<Arc<OutputShard>, RunError> {
        if let Some(passage) = &self.passage {
            let mut files = passage.files.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = files.get(&shard) {
                return Ok(Arc::clone(file));
            }
            let made = OutputShard::in_scratch(passage.scratch, &self.layouts[shard]);
            let file = Arc::new(made.map_err(RunError::file("make a file in", passage.scratch))?);
            files.insert(shard, Arc::clone(&file));
            drop(files);
            let header = self.layouts[shard].header.len() as u64;
            let taken = passage.uploads.written(shard, &file, 0, header);
            taken.map_err(RunError::file("upload", &self.path(shard)))?;
            return Ok(file);
        }
        self.open.get(shard, || {
            let path = self.path(shard);
            OutputShard::open(&path, self.takes_turns).map_err(RunError::file("open", &path))
        })
    }

    /// Writes bytes of a shard, which was [opened](Self::get), at `offset`.
    ///
    /// # Errors
    /// The disk does not take it, or what takes it away from there does not.
    pub(super) fn write_at(&self, shard: usize, file: &Arc<OutputShard>, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_at(bytes, offset)?;
        match &self.passage {
            Some(passage) => passage.uploads.written(shard, file, offset, bytes.len() as u64),
            None => Ok(()),
        }
    }

    /// Returns whether anything of the shard is to be written: nothing is where an earlier run has finished it, or where
    /// it is another part's.
    pub(super) fn is_wanted(&self, shard: usize) -> bool {
        self.to_write[shard] != ToWrite::Nothing
    }

    /// Returns the shards that hold nothing but a header.
    pub(super) fn empty(&self) -> impl Iterator<Item = usize> {
        let is_empty = |shard: &usize| self.is_wanted(*shard) && self.remaining[*shard].load(Ordering::Relaxed) == 0;
        (0..self.remaining.len()).filter(is_empty)
    }

    /// Counts `bytes` more of the shard as written. Returns true for the call that completes it.
    pub(super) fn written(&self, shard: usize, bytes: u64) -> bool {
        // AcqRel: the one that completes the shard must see, and sync, what the others wrote.
        bytes > 0 && self.is_wanted(shard) && self.remaining[shard].fetch_sub(bytes, Ordering::AcqRel) == bytes
    }

    /// Gives a complete shard its header, unless it is a piece, makes it durable and closes it; one that is uploaded is closed.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn finish(&self, shard: usize) -> Result<(), RunError> {
        let file = self.get(shard)?;
        if let Some(passage) = &self.passage {
            // What uploads its last part makes it an object: other shards are complete meanwhile, and not to wait for that.
            passage.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
            return Ok(());
        }
        self.open.close(shard);
        let path = self.path(shard);
        if self.to_write[shard] == ToWrite::Whole {
            let header = &self.layouts[shard].header;
            file.buffered.write_all_at(header, 0).map_err(RunError::file("write the header of", &path))?;
        }
        // One sync covers the direct writes too: they bypass the page cache, not the cache of the disk, and the size
        // and extents of the file are metadata of its own. A sync that failed is never tried again, since the kernel
        // may drop the pages and report success the second time.
        file.buffered.sync_all().map_err(RunError::file("sync", &path))
    }
}

/// An output shard that is open for writing.
pub(super) struct OutputShard {
    pub(super) buffered: File,
    /// The same file opened for direct I/O, where its file system can.
    direct: Option<File>,
    /// Set when a direct write was refused in spite of its alignment.
    refused: AtomicBool,
    /// Held while a worker writes, where writers take turns.
    //
    // The system has such a lock of its own, and whoever waits for that one spins. With this one, 16 workers that write
    // 4 shards take half of the processor time and as long, and `--timings` can say that they wait.
    turns: Option<Mutex<()>>,
}

impl OutputShard {
    fn open(path: &Path, takes_turns: bool) -> io::Result<Self> {
        let open = |flags: OFlags| {
            OpenOptions::new().write(true).custom_flags((OFlags::NOFOLLOW | flags).bits().cast_signed()).open(path)
        };
        let direct = if takes_turns { None } else { open(OFlags::DIRECT).ok() };
        Ok(Self {
            buffered: open(OFlags::empty())?,
            direct,
            refused: AtomicBool::new(false),
            turns: takes_turns.then(Mutex::default),
        })
    }

    /// Makes a file without a name in `scratch`, with the header of a shard at its beginning.
    fn in_scratch(scratch: &Path, layout: &ShardLayout) -> io::Result<Self> {
        let buffered = tempfile::tempfile_in(scratch)?;
        buffered.set_len(layout.size)?;
        buffered.write_all_at(&layout.header, 0)?;
        Ok(Self { buffered, direct: None, refused: AtomicBool::new(false), turns: Some(Mutex::default()) })
    }

    /// Waits until no other worker writes to the shard, where writers take turns.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turns.as_ref().map(|turns| turns.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether whole blocks bypass the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    /// Writes `bytes` at `offset`: whole blocks directly where that is possible, the rest through the page cache.
    ///
    /// # Errors
    /// The disk does not take it.
    //
    // An output is written once and read by somebody else: through the page cache its bytes are copied once more and
    // push out what others use. For a source of 4.5 GB direct writes took 2.4 to 2.9 s and 1.6 to 1.9 s of processor
    // time, buffered ones with `fsync` 4.7 to 5.1 s and 3.5 to 5.6 s (docs/performance.md).
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let head = (offset.next_multiple_of(ALIGN as u64) - offset) as usize;
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_direct() && bytes.len() > head) else {
            return self.buffered.write_all_at(bytes, offset);
        };
        let (head, rest) = bytes.split_at(head);
        let (blocks, tail) = rest.split_at(rest.len() - rest.len() % ALIGN);
        if blocks.len() < SMALLEST_DIRECT_WRITE || blocks.as_ptr().addr() % ALIGN != 0 {
            return self.buffered.write_all_at(bytes, offset);
        }
        let blocks_at = offset + head.len() as u64;
        self.buffered.write_all_at(head, offset)?;
        self.write_blocks(direct, blocks, blocks_at)?;
        self.buffered.write_all_at(tail, blocks_at + blocks.len() as u64)
    }

    fn write_blocks(&self, direct: &File, mut blocks: &[u8], mut offset: u64) -> io::Result<()> {
        while !blocks.is_empty() {
            match direct.write_at(blocks, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    blocks = &blocks[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The disk wants a coarser alignment, or got one out of a write that it cut short.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.refused.store(true, Ordering::Relaxed);
                    return self.buffered.write_all_at(blocks, offset);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Returns how many bytes of each shard are to be written by workers: all but its header.
fn bytes_to_write(layouts: &[ShardLayout], to_write: &[ToWrite]) -> Vec<AtomicU64> {
    let left = |(layout, to_write): (&ShardLayout, &ToWrite)| match *to_write {
        ToWrite::Nothing => 0,
        ToWrite::Piece(bytes) => bytes,
        ToWrite::Whole => layout.size - layout.header.len() as u64,
    };
    layouts.iter().zip(to_write).map(left).map(AtomicU64::new).collect()
}

/// Returns whether a directory lies on a file system that keeps files in memory and nowhere else.
//
// tmpfs takes O_DIRECT since Linux 6.6 and writes as it does without: it has to be asked what it is.
fn is_in_memory(dir: &Path) -> bool {
    let kind = retry_on_intr(|| statfs(dir)).map(|found| found.f_type as u64);
    kind.is_ok_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

/// Gives the file its size, and reserves the space for it where the file system can.
//
// Reserved, a full disk is an error before the work and not after hours of it.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    // A signal interrupts the call. Whether the run is to end is asked elsewhere, so the call is made again.
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}
