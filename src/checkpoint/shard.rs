//! A safetensors file of a checkpoint, and reading from it.

use std::fs::File;
use std::path::PathBuf;

use crate::source::{SourceError, SourceFile, Stamp};

/// One safetensors file.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The plain file name, such as `model-00001-of-00004.safetensors`.
    pub name: String,
    pub path: PathBuf,
    /// Bytes of the whole file.
    pub size: u64,
    /// The state in which the header was read.
    pub stamp: Stamp,
}

impl Shard {
    /// Opens the shard for reading its tensors, after proving that it is still the file whose header was read.
    ///
    /// # Errors
    /// The file is gone, unreadable, or changed since.
    pub fn open(&self) -> Result<ShardFile, SourceError> {
        let file = SourceFile::open(&self.path)?;
        file.check_unchanged(self.stamp)?;
        Ok(ShardFile { file, stamp: self.stamp })
    }
}

/// An open shard.
#[derive(Debug)]
pub struct ShardFile {
    file: SourceFile,
    stamp: Stamp,
}

impl ShardFile {
    /// Fills `buffer` from the bytes of the file at `offset`; any number of threads may do so at once.
    ///
    /// # Errors
    /// The file became shorter, or cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Checks, after the last read, that the file is still in the state that was planned for.
    ///
    /// # Errors
    /// The file changed since its header was read.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        self.file.check_unchanged(self.stamp)
    }

    /// The underlying file, for hints such as `posix_fadvise`.
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// The same file opened for reads past the page cache, where its file system can do that.
    pub fn direct(&self) -> Option<File> {
        let direct = self.file.open_direct().ok()?;
        // The path may lead elsewhere by now.
        direct.check_unchanged(self.stamp).ok()?;
        Some(direct.into_file())
    }
}
