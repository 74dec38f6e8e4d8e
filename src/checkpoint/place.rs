//! Where a checkpoint lies: in a directory of this machine, or in a repository elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::remote::{self, Repository};
use crate::source::{SourceError, SourceFile};

/// Where a checkpoint lies, whether there is one or not. It is written as its path.
#[derive(Clone, Debug)]
pub enum CheckpointPlace {
    Directory(PathBuf),
    Repository(Arc<dyn Repository>),
}

impl CheckpointPlace {
    /// The directory, or the address of the repository.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(dir) => dir,
            Self::Repository(repository) => Path::new(repository.address()),
        }
    }

    /// The directory; `None` where it lies elsewhere.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(dir) => Some(dir),
            Self::Repository(_) => None,
        }
    }

    /// Reports whether both are the same directory, by whatever names, or the same address.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.directory(), other.directory()) {
            (Some(here), Some(there)) => {
                here.canonicalize().is_ok_and(|here| there.canonicalize().is_ok_and(|there| here == there))
            }
            (None, None) => self.path() == other.path(),
            _ => false,
        }
    }

    /// Returns the names of the files in it, without those in folders of it; none where they cannot be listed.
    pub fn file_names(&self) -> Vec<String> {
        match self {
            Self::Directory(dir) => {
                let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
            Self::Repository(repository) => {
                let names = repository.files().iter().map(|entry| &entry.name);
                names.filter(|name| !name.contains('/')).cloned().collect()
            }
        }
    }

    /// Opens a file of it for reading.
    ///
    /// # Errors
    /// As [`SourceFile::open`].
    pub fn file(&self, name: &str) -> Result<SourceFile, SourceError> {
        match self {
            Self::Directory(dir) => SourceFile::open(&dir.join(name)),
            Self::Repository(repository) => match remote::file(repository, name) {
                Some(file) => Ok(SourceFile::of_repository(file)),
                None => Err(SourceError::Missing { path: self.path().join(name) }),
            },
        }
    }
}

impl From<&Path> for CheckpointPlace {
    fn from(dir: &Path) -> Self {
        Self::Directory(dir.to_owned())
    }
}

impl Serialize for CheckpointPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path().serialize(serializer)
    }
}
