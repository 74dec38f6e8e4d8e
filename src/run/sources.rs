//! The source shards: read through the page cache where they are in it, bypassing it where not, and watched for
//! changes.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::checkpoint::source::SourceError;
use crate::checkpoint::{Shard, ShardFile, Tensor};
use crate::run::buffer::{ALIGN, Buffer};
use crate::run::error::RunError;
use crate::run::open_files::OpenFiles;
use crate::run::read_ahead::ReadAhead;

/// The source shards, opened when they are first read.
//
// Positional reads and no memory map: a source that shrinks under a run is then an error that names the file and not a
// SIGBUS, memory is bounded by the buffers, and `pread` was the faster one when both were measured (warm 3.8 against
// 2.3 GB/s).
pub(super) struct Sources<'a> {
    shards: &'a [Shard],
    open: OpenFiles<OpenShard>,
    direct: bool,
    /// What fetches the shards, where they lie elsewhere.
    remote: Option<RemoteReads<'a>>,
}

impl<'a> Sources<'a> {
    /// Opens nothing yet. With `direct`, data that is not cached is read by direct I/O.
    pub(super) fn new(shards: &'a [Shard], direct: bool) -> Self {
        Self { shards, open: OpenFiles::default(), direct, remote: None }
    }

    /// Reads by way of `read_ahead`, until `cancel` becomes true.
    pub(super) fn read_ahead(self, read_ahead: ReadAhead, cancel: &'a AtomicBool) -> Self {
        Self { remote: Some(RemoteReads { read_ahead, cancel }), ..self }
    }

    /// Returns what fetches the shards, where they lie elsewhere.
    pub(super) fn remote(&self) -> Option<&ReadAhead> {
        self.remote.as_ref().map(|remote| &remote.read_ahead)
    }

    /// Returns the path of a shard.
    pub(super) fn path(&self, shard: usize) -> &Path {
        &self.shards[shard].path
    }

    /// Returns the open shard: the same file, unchanged, however often it was closed in between.
    ///
    /// # Errors
    /// It is gone, has changed since it was planned for, or cannot be opened.
    pub(super) fn get(&self, shard: usize) -> Result<ShardReader<'_>, RunError> {
        let open = self.open.get(shard, || Ok(OpenShard::open(&self.shards[shard], self.direct)?))?;
        Ok(ShardReader { open, number: shard, remote: self.remote.as_ref() })
    }

    /// Closes a shard after its last read, and checks that it is still unchanged.
    ///
    /// # Errors
    /// It has changed: what was read may be a mixture of two states.
    pub(super) fn finish(&self, shard: usize) -> Result<(), RunError> {
        let file = self.get(shard)?;
        self.open.close(shard);
        if let Some(read_ahead) = self.remote() {
            read_ahead.check(shard)?;
        }
        Ok(file.open.shard.check_unchanged()?)
    }

    /// Reads a part of a tensor beside codes, through the page cache, and returns its length; `input` is what it is read
    /// for.
    pub(super) fn read_part(
        &self,
        input: &str,
        tensor: &Tensor,
        from: usize,
        len: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<usize, RunError> {
        bytes.resize(len, 0);
        let read = self.get(tensor.shard)?.read_exact_at(bytes, tensor.offset + from as u64);
        read.map_err(|error| self.error(tensor.shard, input, error))?;
        Ok(len)
    }

    /// Turns a failed read of a shard into the error of a run, by the tensor that was wanted.
    pub(super) fn error(&self, shard: usize, tensor: &str, source: io::Error) -> RunError {
        let path = self.path(shard).to_path_buf();
        if source.kind() == io::ErrorKind::Interrupted {
            return RunError::Cancelled;
        }
        let source = match source.downcast::<SourceError>() {
            Ok(source) => return source.into(),
            Err(source) => source,
        };
        // The header was checked against the size of the file, so the file has shrunk since.
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return SourceError::Changed { path, what: "it became shorter" }.into();
        }
        RunError::Read { path, tensor: tensor.to_owned(), source }
    }
}

/// What fetches shards that lie elsewhere, and what ends the wait for them.
struct RemoteReads<'a> {
    read_ahead: ReadAhead,
    cancel: &'a AtomicBool,
}

/// A source shard as a worker reads it.
pub(super) struct ShardReader<'a> {
    open: Arc<OpenShard>,
    number: usize,
    remote: Option<&'a RemoteReads<'a>>,
}

impl ShardReader<'_> {
    /// Fills `buffer` from the bytes at `offset`, through the page cache.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.remote {
            Some(remote) => remote.read_ahead.read(self.number, buffer, offset, remote.cancel),
            None => self.open.read_exact_at(buffer, offset),
        }
    }

    /// Reads `len` bytes at `from` into `buffer`, to the place for a write to offset `to`.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    pub(super) fn read(&self, buffer: &mut Buffer, from: u64, len: usize, to: u64) -> io::Result<()> {
        match self.remote {
            Some(_) => self.read_exact_at(buffer.at_offset(to, len), from),
            None => self.open.read(buffer, from, len, to),
        }
    }
}

/// A source shard that is open for reading.
pub(super) struct OpenShard {
    shard: ShardFile,
    /// The same file opened for direct I/O, where its file system can.
    direct: Option<File>,
    /// Set when a direct read was refused in spite of its alignment.
    refused: AtomicBool,
}

impl OpenShard {
    /// Opens a shard for reading.
    ///
    /// # Errors
    /// It is gone, has changed since it was planned for, or cannot be opened.
    pub(super) fn open(shard: &Shard, direct: bool) -> Result<Self, SourceError> {
        let open = shard.open()?;
        let direct = if direct { open.direct() } else { None };
        if direct.is_some()
            && let Some(file) = open.file()
        {
            // The page cache is asked only for what it holds already, and read-ahead would fill it. Advice that is not
            // taken costs time and nothing else.
            let _ = fadvise(file, 0, None, Advice::Random);
        }
        Ok(Self { shard: open, direct, refused: AtomicBool::new(false) })
    }

    /// Fills `buffer` from the bytes at `offset`, through the page cache.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.shard.file() {
            Some(file) => file.read_exact_at(buffer, offset),
            None => self.shard.read_exact_at(buffer, offset).map_err(io::Error::other),
        }
    }

    /// Returns whether data that is not cached is read by direct I/O.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    /// Reads `len` bytes at `from` into `buffer`, to the place for a write to offset `to`.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    //
    // What the page cache holds comes from there, at the speed of memory. What it does not hold is not put there
    // either: a checkpoint is read once, and filling the page cache costs more than the disk's own transfer.
    pub(super) fn read(&self, buffer: &mut Buffer, from: u64, len: usize, to: u64) -> io::Result<()> {
        let Some(direct) = self.direct.as_ref().filter(|_| self.is_direct() && !self.is_cached(from, len)) else {
            return self.read_exact_at(buffer.at_offset(to, len), from);
        };
        let (blocks, skip) = buffer.blocks_around(from, len);
        match read_blocks(direct, blocks, from - skip as u64, skip + len) {
            // The disk wants a coarser alignment than ours: the page cache takes over, with read-ahead again.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                if let Some(file) = self.shard.file() {
                    let _ = fadvise(file, 0, None, Advice::Sequential);
                }
                self.read_exact_at(buffer.at_offset(to, len), from)
            }
            Err(error) => Err(error),
            Ok(()) => {
                buffer.shift(from, to, len);
                Ok(())
            }
        }
    }

    /// Returns whether the page cache holds this range, judged by one byte of it.
    //
    // One call instead of `mincore`, which needs a memory map. A band is cached as a whole or not at all, as a rule,
    // and a wrong answer costs time alone.
    fn is_cached(&self, from: u64, len: usize) -> bool {
        // Asking for a page that is not cached makes the kernel fetch it. A second run that asked for the same pages
        // would find just these cached and take the whole file for cached, so the page depends on the process.
        let page = std::process::id() as usize % (len / ALIGN).max(1);
        let at = from + (page * ALIGN) as u64;
        let Some(file) = self.shard.file() else { return false };
        let answer = preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT);
        !matches!(answer, Err(Errno::AGAIN))
    }
}

/// Fills at least the first `needed` bytes of `blocks`, and the rest as far as the file goes.
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
