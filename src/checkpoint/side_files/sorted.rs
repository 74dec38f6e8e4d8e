//! Side files that are copied, and files that are left out.

use std::io;
use std::path::PathBuf;

use super::fate::{self, Fate};
use super::listed::Listed;
use crate::remote::RemoteFile;
use crate::source::{SourceError, SourceFile, Stamp};
use crate::text::shown;

/// A file that is copied byte for byte.
#[derive(Clone, Debug)]
pub struct SideFile {
    /// Path below the checkpoint's directory, with `/` between its parts.
    pub name: String,
    pub path: PathBuf,
    /// Permission bits of the file; a copy never gets wider ones.
    pub mode: u32,
    /// The state in which the file was planned.
    pub stamp: Stamp,
    /// Set for Python code that a server runs when told to trust it.
    pub remote_code: bool,
    /// The file in its repository; `None` where it lies on this machine.
    pub remote: Option<RemoteFile>,
}

/// How a git-lfs pointer begins.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The files beside the weights, sorted out.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) copied: Vec<SideFile>,
    /// Names, and why each was left out.
    pub(crate) left_out: Vec<(String, &'static str)>,
}

/// A side file that must be copied but cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SideFileError {
    #[error(transparent)]
    Source(SourceError),
    #[error("{} is a git-lfs pointer, not the file itself", shown(name))]
    LfsPointer { name: String },
    #[error("the folder {} cannot be read: {error}", shown(name))]
    Folder { name: String, error: io::Error },
}

impl Sorted {
    /// Adds a file to the copies or to those left out.
    pub(super) fn take(&mut self, file: &Listed, fate: Fate) -> Result<(), SideFileError> {
        match fate {
            Fate::Copy => self.copied.push(check(file, false)?),
            Fate::CopyCode => self.copied.push(check(file, true)?),
            Fate::Replace => {}
            Fate::LeaveOut(reason) => self.left_out.push((file.name.clone(), reason)),
        }
        Ok(())
    }
}

impl SideFile {
    /// Opens the file, which must be in the state in which it was planned.
    ///
    /// # Errors
    /// It is gone, cannot be read, or changed since.
    pub fn open(&self) -> Result<SourceFile, SourceError> {
        let file = match &self.remote {
            Some(remote) => SourceFile::of_repository(remote.clone()),
            None => SourceFile::open(&self.path)?,
        };
        file.check_unchanged(self.stamp)?;
        Ok(file)
    }

    /// Reports whether the file is a text for people, such as a license, which no server reads.
    pub fn is_document(&self) -> bool {
        fate::is_document(&self.name.to_lowercase())
    }
}

/// Opens the file to see that it can be copied: regular, readable, and there.
fn check(file: &Listed, remote_code: bool) -> Result<SideFile, SideFileError> {
    let source = file.open().map_err(SideFileError::Source)?;
    // A repository lists what is there and how long it is: a round trip for each file would tell no more.
    if source.remote().is_none() {
        let mut start = [0; LFS_POINTER.len()];
        let start = &mut start[..source.size().min(LFS_POINTER.len() as u64) as usize];
        source.read_exact_at(start, 0).map_err(SideFileError::Source)?;
        if start == LFS_POINTER {
            return Err(SideFileError::LfsPointer { name: file.name.clone() });
        }
    }
    let (mode, stamp, remote) = (source.mode(), source.stamp(), file.remote().cloned());
    Ok(SideFile { name: file.name.clone(), path: file.path.clone(), mode, stamp, remote_code, remote })
}
