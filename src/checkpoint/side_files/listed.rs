//! The entries of a directory or of a repository, by name alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::remote::{RemoteFile, Repository};
use crate::source::{self, SourceError, SourceFile};

/// A file of the checkpoint's directory or of a folder in it, by name alone.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Path below the checkpoint's directory, with replacement characters where it is not UTF-8.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) is_utf8: bool,
    place: EntryPlace,
}

/// Where an entry lies.
#[derive(Clone, Debug)]
enum EntryPlace {
    Disk,
    File(RemoteFile),
    /// A folder of a repository.
    Folder(Arc<dyn Repository>),
}

/// The names in a directory, sorted.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in source::entries(dir)? {
        let name = entry?.file_name();
        let path = dir.join(&name);
        let (is_utf8, name) = (name.to_str().is_some(), name.to_string_lossy().into_owned());
        files.push(Listed { name, path, is_utf8, place: EntryPlace::Disk });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The names in a folder of a repository, which ends with `/` unless it is the whole, sorted.
pub(crate) fn list_repository(repository: &Arc<dyn Repository>, folder: &str) -> Vec<Listed> {
    let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
    let listed = |name: &str, place| {
        let path = Path::new(repository.address()).join(format!("{folder}{name}"));
        Listed { name: name.to_owned(), path, is_utf8: true, place }
    };
    for (number, entry) in repository.files().iter().enumerate() {
        match entry.name.strip_prefix(folder).map(|name| name.split_once('/').ok_or(name)) {
            Some(Err(name)) => {
                let file = RemoteFile { repository: Arc::clone(repository), number };
                files.push(listed(name, EntryPlace::File(file)));
            }
            Some(Ok((name, _))) if folders.insert(name) => {
                files.push(listed(name, EntryPlace::Folder(Arc::clone(repository))));
            }
            _ => {}
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Opens a file that is wanted, whether it is there or not.
pub(crate) fn open_listed(dir: &Path, files: &[Listed], name: &str) -> Result<SourceFile, SourceError> {
    match files.iter().find(|file| file.name == name) {
        Some(file) => file.open(),
        None => Err(SourceError::Missing { path: dir.join(name) }),
    }
}

impl Listed {
    /// Reports whether the entry is a folder, or a link to one; opens nothing.
    pub(super) fn is_dir(&self) -> bool {
        match self.place {
            EntryPlace::Disk => fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_dir()),
            EntryPlace::File(_) => false,
            EntryPlace::Folder(_) => true,
        }
    }

    /// The entries of the folder, each by its name in it.
    pub(super) fn entries(&self) -> io::Result<Vec<Self>> {
        match &self.place {
            EntryPlace::Folder(repository) => Ok(list_repository(repository, &format!("{}/", self.name))),
            _ => list(&self.path),
        }
    }

    /// Opens the file.
    ///
    /// # Errors
    /// As [`SourceFile::open`].
    pub(crate) fn open(&self) -> Result<SourceFile, SourceError> {
        match &self.place {
            EntryPlace::File(file) => Ok(SourceFile::of_repository(file.clone())),
            _ => SourceFile::open(&self.path),
        }
    }

    /// The file of a repository; `None` where it lies on this machine.
    pub(crate) fn remote(&self) -> Option<&RemoteFile> {
        match &self.place {
            EntryPlace::File(file) => Some(file),
            _ => None,
        }
    }
}
