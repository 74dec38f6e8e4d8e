//! The entries of a directory, by name alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::source;

/// A file of the checkpoint's directory or of a folder in it, by name alone.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Path below the checkpoint's directory, with replacement characters where it is not UTF-8.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) is_utf8: bool,
}

/// The names in a directory, sorted.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for entry in source::entries(dir)? {
        let name = entry?.file_name();
        let path = dir.join(&name);
        files.push(Listed { is_utf8: name.to_str().is_some(), name: name.to_string_lossy().into_owned(), path });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

impl Listed {
    /// Reports whether the entry is a folder, or a link to one; opens nothing.
    pub(super) fn is_dir(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_dir())
    }
}
