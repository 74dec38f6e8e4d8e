//! The source shards: read from the page cache where they are in it, past it where they are not, and watched for changes.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::checkpoint::Shard;
use crate::run::RunError;
use crate::run::buffer::{ALIGN, Buffer};
use crate::run::open_files::OpenFiles;

/// The source shards, opened when they are first read and watched for changes.
pub(super) struct Sources<'a> {
    shards: &'a [Shard],
    open: OpenFiles<SourceFile>,
    direct: bool,
    seen: Vec<OnceLock<Identity>>,
}

/// What would be different about a file that was changed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl<'a> Sources<'a> {
    pub(super) fn new(shards: &'a [Shard], direct: bool) -> Self {
        Self { shards, open: OpenFiles::default(), direct, seen: shards.iter().map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn path(&self, shard: usize) -> &Path {
        &self.shards[shard].path
    }

    /// The open shard; the same file, unchanged, however often it was closed in between.
    pub(super) fn get(&self, shard: usize) -> Result<Arc<SourceFile>, RunError> {
        self.open.get(shard, || {
            let path = self.path(shard);
            let open = |source| RunError::Open { path: path.to_path_buf(), source };
            let file = SourceFile::open(path, self.direct).map_err(open)?;
            self.check(shard, &file.buffered)?;
            Ok(file)
        })
    }

    /// Closes a shard that has been read to its end, after a last look at whether it is still what it was.
    pub(super) fn finish(&self, shard: usize) -> Result<(), RunError> {
        let file = self.get(shard)?;
        self.open.close(shard);
        self.check(shard, &file.buffered)
    }

    fn check(&self, shard: usize, file: &File) -> Result<(), RunError> {
        let path = self.path(shard);
        let found = file.metadata().map_err(RunError::file("look at", path))?;
        let identity = Identity {
            device: found.dev(),
            inode: found.ino(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        };
        let unchanged = *self.seen[shard].get_or_init(|| identity) == identity;
        if !unchanged || !found.is_file() || identity.size != self.shards[shard].size {
            return Err(RunError::SourceChanged { path: path.to_path_buf() });
        }
        Ok(())
    }
}

/// A source shard that is open for reading.
pub(super) struct SourceFile {
    pub(super) buffered: File,
    /// The same file past the page cache, where its file system can.
    direct: Option<File>,
    /// Set when a direct read was refused in spite of its alignment.
    refused: AtomicBool,
}

impl SourceFile {
    fn open(path: &Path, direct: bool) -> io::Result<Self> {
        // A FIFO or a device in place of a shard must not block the open.
        let open = |flags: OFlags| {
            OpenOptions::new().read(true).custom_flags((OFlags::NONBLOCK | flags).bits().cast_signed()).open(path)
        };
        let buffered = open(OFlags::empty())?;
        let direct = if direct { open(OFlags::DIRECT).ok() } else { None };
        if direct.is_some() {
            // The page cache is only asked for what it holds already; advice that is not taken costs time alone.
            let _ = fadvise(&buffered, 0, None, Advice::Random);
        }
        Ok(Self { buffered, direct, refused: AtomicBool::new(false) })
    }

    /// Whether what is not in the page cache is read past it.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    /// Reads `len` bytes at `from` to where a write to offset `to` wants them in `buffer`.
    ///
    /// What the page cache holds comes from there. What it does not hold is not put there either: a checkpoint is read
    /// once, and filling the page cache costs more than the disk's own transfer.
    pub(super) fn read(&self, buffer: &mut Buffer, from: u64, len: usize, to: u64) -> io::Result<()> {
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_direct() && !self.is_cached(from, len)) else {
            return self.buffered.read_exact_at(buffer.at_offset(to, len), from);
        };
        let (blocks, skip) = buffer.blocks_around(from, len);
        match read_blocks(direct, blocks, from - skip as u64, skip + len) {
            // The disk wants another alignment.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                let _ = fadvise(&self.buffered, 0, None, Advice::Sequential);
                self.buffered.read_exact_at(buffer.at_offset(to, len), from)
            }
            Err(error) => Err(error),
            Ok(()) => {
                buffer.shift(from, to, len);
                Ok(())
            }
        }
    }

    /// Whether the page cache holds this range, judged from one byte of it.
    fn is_cached(&self, from: u64, len: usize) -> bool {
        // To ask for a page that is not there brings it there. Another process asks for another page, or it would take
        // these few for all of them.
        let page = std::process::id() as usize % (len / ALIGN).max(1);
        let at = from + (page * ALIGN) as u64;
        let answer = preadv2(&self.buffered, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT);
        !matches!(answer, Err(Errno::AGAIN))
    }
}

/// Fills at least the first `needed` bytes of `blocks`, the rest as far as the file goes.
fn read_blocks(direct: &File, blocks: &mut [u8], offset: u64, needed: usize) -> io::Result<()> {
    let mut done = 0;
    while done < needed {
        match direct.read_at(&mut blocks[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
