//! A model whose files lie elsewhere: what is known of them, and reading from them by place and length.

use std::error::Error;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hub::ModelName;

/// A model in one state that does not change, such as a commit on the Hugging Face hub, or what lay in a bucket when it was
/// first listed.
pub trait Repository: Debug + Send + Sync {
    /// The name of the model, as an output tells it.
    fn name(&self) -> ModelName;

    /// The state that is read: a commit, or what stands for one.
    fn state(&self) -> &str;

    /// Where it lies, as `on the hub`.
    fn place(&self) -> &'static str;

    /// The command that brings it to this machine.
    fn download(&self) -> String;

    /// The address that the names of files follow, without a `/` at its end.
    fn address(&self) -> &str;

    /// The files, in order of name.
    fn files(&self) -> &[RemoteEntry];

    /// Fills `buffer` from the bytes at `offset` of the file of this number; any number of threads may do so at once.
    ///
    /// # Errors
    /// The bytes cannot be had.
    fn read_exact_at(&self, file: usize, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError>;
}

/// A file of a repository, as the repository lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Path below the repository, with `/` between its parts.
    pub name: String,
    pub size: u64,
    /// SHA-256 of the content as hexadecimal digits, where the repository tells it.
    pub sha256: Option<String>,
}

/// A reason for which a repository did not give what it was asked for.
pub trait RemoteFailure: Error + Send + Sync {
    /// Returns what to do about it, one line each.
    fn help(&self) -> Vec<String>;

    /// Returns whether the files are not those any more that a plan was made for.
    fn is_change(&self) -> bool;

    /// Returns whether somebody else has written what was to be written.
    fn is_conflict(&self) -> bool {
        false
    }
}

/// Any [`RemoteFailure`].
pub type RemoteError = Box<dyn RemoteFailure>;

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    pub(crate) repository: Arc<dyn Repository>,
    /// Its number among the files of the repository.
    pub(crate) number: usize,
}

impl RemoteFile {
    /// What the repository says of it.
    pub fn entry(&self) -> &RemoteEntry {
        &self.repository.files()[self.number]
    }

    /// The address of the file.
    pub fn path(&self) -> PathBuf {
        Path::new(self.repository.address()).join(&self.entry().name)
    }

    /// Fills `buffer` from the bytes at `offset`.
    ///
    /// # Errors
    /// The bytes cannot be had.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError> {
        self.repository.read_exact_at(self.number, buffer, offset)
    }
}

/// The file of this name; `None` where the repository has none.
pub(crate) fn file(repository: &Arc<dyn Repository>, name: &str) -> Option<RemoteFile> {
    let number = repository.files().binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
    Some(RemoteFile { repository: Arc::clone(repository), number })
}
