//! A safetensors file of a checkpoint, and reading from it.

use std::fs::File;
use std::path::PathBuf;

use crate::remote::RemoteFile;
use crate::source::{SourceError, SourceFile, Stamp};

/// One safetensors file.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The plain file name, such as `model-00001-of-00004.safetensors`.
    pub name: String,
    pub path: PathBuf,
    /// Bytes of the whole file.
    pub size: u64,
    /// SHA-256 of the header, the eight bytes of its length included, as hexadecimal digits.
    pub header: String,
    /// The state in which the header was read.
    pub stamp: Stamp,
    /// The file in its repository; `None` where it lies on this machine.
    pub remote: Option<RemoteFile>,
}

impl Shard {
    /// Opens the shard for reading its tensors, after proving that it is still the file whose header was read.
    ///
    /// # Errors
    /// The file is gone, unreadable, or changed since.
    pub fn open(&self) -> Result<ShardFile, SourceError> {
        let file = match &self.remote {
            Some(remote) => SourceFile::of_repository(remote.clone()),
            None => SourceFile::open(&self.path)?,
        };
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

    /// The file as one that may change.
    pub fn into_source(self) -> SourceFile {
        self.file
    }

    /// Checks, after the last read, that the file is still in the state that was planned for.
    ///
    /// # Errors
    /// The file changed since its header was read.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        self.file.check_unchanged(self.stamp)
    }

    /// The file of this machine, for hints such as `posix_fadvise`; `None` where it lies in a repository.
    pub fn file(&self) -> Option<&File> {
        self.file.file()
    }

    /// The same file opened for reads past the page cache, where its file system can do that.
    pub fn direct(&self) -> Option<File> {
        let direct = self.file.open_direct().ok()?;
        // The path may lead elsewhere by now.
        direct.check_unchanged(self.stamp).ok()?;
        direct.into_file()
    }
}
