//! The source shards: read from the page cache where they are in it, past it where they are not, and watched for changes.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::checkpoint::source::SourceError;
use crate::checkpoint::{Shard, ShardFile};
use crate::run::buffer::{ALIGN, Buffer};
use crate::run::error::RunError;
use crate::run::open_files::OpenFiles;

/// The source shards, opened when they are first read and watched for changes.
pub(super) struct Sources<'a> {
    shards: &'a [Shard],
    open: OpenFiles<SourceFile>,
    direct: bool,
}

impl<'a> Sources<'a> {
    pub(super) fn new(shards: &'a [Shard], direct: bool) -> Self {
        Self { shards, open: OpenFiles::default(), direct }
    }

    pub(super) fn path(&self, shard: usize) -> &Path {
        &self.shards[shard].path
    }

    /// The open shard; the same file, unchanged, however often it was closed in between.
    pub(super) fn get(&self, shard: usize) -> Result<Arc<SourceFile>, RunError> {
        self.open.get(shard, || Ok(SourceFile::open(&self.shards[shard], self.direct)?))
    }

    /// Closes a shard that has been read to its end, after a last look at whether it is still what it was.
    pub(super) fn finish(&self, shard: usize) -> Result<(), RunError> {
        let file = self.get(shard)?;
        self.open.close(shard);
        Ok(file.shard.check_unchanged()?)
    }
}

impl Sources<'_> {
    /// Turns a failed read of a shard into the error of a run, by the tensor that was wanted.
    pub(super) fn error(&self, shard: usize, tensor: &str, source: io::Error) -> RunError {
        let path = self.path(shard).to_path_buf();
        // The header promised more: the file was longer when it was read.
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return SourceError::Changed { path, what: "it became shorter" }.into();
        }
        RunError::Read { path, tensor: tensor.to_owned(), source }
    }
}

/// A source shard that is open for reading.
pub(super) struct SourceFile {
    shard: ShardFile,
    /// The same file past the page cache, where its file system can.
    direct: Option<File>,
    /// Set when a direct read was refused in spite of its alignment.
    refused: AtomicBool,
}

impl SourceFile {
    pub(super) fn open(shard: &Shard, direct: bool) -> Result<Self, SourceError> {
        let open = shard.open()?;
        let direct = if direct { open.direct() } else { None };
        if direct.is_some() {
            // The page cache is only asked for what it holds already; advice that is not taken costs time alone.
            let _ = fadvise(open.file(), 0, None, Advice::Random);
        }
        Ok(Self { shard: open, direct, refused: AtomicBool::new(false) })
    }

    /// The shard by way of the page cache.
    pub(super) fn buffered(&self) -> &File {
        self.shard.file()
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
            return self.buffered().read_exact_at(buffer.at_offset(to, len), from);
        };
        let (blocks, skip) = buffer.blocks_around(from, len);
        match read_blocks(direct, blocks, from - skip as u64, skip + len) {
            // The disk wants another alignment.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                let _ = fadvise(self.buffered(), 0, None, Advice::Sequential);
                self.buffered().read_exact_at(buffer.at_offset(to, len), from)
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
        let answer = preadv2(self.buffered(), &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT);
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
