//! Where the output goes, and everything that can be known to be wrong with that before a byte is written.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, StatxAttributes, StatxFlags};
use rustix::process::{Resource, geteuid, getrlimit};

use crate::checkpoint::source::entries;
use crate::plan::Plan;
use crate::run::error::RunError;

/// The place of the output: an existing parent directory and a name in it.
#[derive(Debug)]
pub(super) struct Destination {
    /// The output's path with its parent resolved.
    pub(super) path: PathBuf,
    pub(super) parent: PathBuf,
    name: OsString,
}

impl Destination {
    /// Resolves `output`, which must not lie inside `source`, nor around it.
    pub(super) fn new(output: &Path, source: &Path) -> Result<Self, RunError> {
        check_not_around(output, source)?;
        let unnamed = || RunError::OutputUnnamed { path: output.to_path_buf() };
        let name = output.file_name().ok_or_else(unnamed)?.to_os_string();
        let parent = match output.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(unnamed()),
        };
        let missing = |source| RunError::Parent { path: output.to_path_buf(), parent: parent.to_path_buf(), source };
        let parent = fs::canonicalize(parent).map_err(missing)?;
        if !parent.is_dir() {
            return Err(RunError::Parent {
                path: output.to_path_buf(),
                parent,
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        let destination = Self { path: parent.join(&name), parent, name };
        destination.check_outside(source)?;
        Ok(destination)
    }

    /// `.<name>.<suffix>` beside the output.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".");
        name.push(suffix);
        self.parent.join(name)
    }

    /// The output must not exist; an empty directory is as good as none.
    pub(super) fn check_free(&self) -> Result<(), RunError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(RunError::file("stat", &self.path)(error)),
            Ok(found) if !found.is_dir() => Err(self.occupied()),
            Ok(found) => {
                let mut entries = entries(&self.path).map_err(RunError::file("list", &self.path))?;
                if entries.next().is_some() { Err(self.occupied()) } else { self.check_makes_way(&found) }
            }
        }
    }

    /// The empty directory that bears the output's name can be removed when the output is there to take its place.
    fn check_makes_way(&self, found: &Metadata) -> Result<(), RunError> {
        let parent = fs::metadata(&self.parent).map_err(RunError::file("stat", &self.parent))?;
        // A directory of the same file system may be mounted too, which only the kernel knows.
        let statx = rustix::fs::statx(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
        let is_mounted = statx.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if found.dev() != parent.dev() || is_mounted {
            return Err(RunError::MountPoint { path: self.path.clone() });
        }
        let user = geteuid();
        let is_sticky = Mode::from_raw_mode(parent.mode()).contains(Mode::SVTX);
        if is_sticky && !user.is_root() && ![parent.uid(), found.uid()].contains(&user.as_raw()) {
            return Err(RunError::OtherUsers { path: self.path.clone(), owner: found.uid() });
        }
        Ok(())
    }

    /// The error that says what bears the output's name.
    pub(super) fn occupied(&self) -> RunError {
        let kind = fs::symlink_metadata(&self.path).map(|found| found.file_type());
        let found = match kind {
            Ok(kind) if kind.is_dir() => "a directory that is not empty",
            Ok(kind) if kind.is_file() => "a file",
            Ok(kind) if kind.is_symlink() => match fs::metadata(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => "a symbolic link that leads nowhere",
                _ => "a symbolic link",
            },
            _ => "neither a file nor a directory",
        };
        RunError::OutputExists { path: self.path.clone(), found }
    }

    /// The disk has room for `needed` bytes, and no file of the plan passes the limit of this process.
    pub(super) fn check_room(&self, plan: &Plan, needed: u64) -> Result<(), RunError> {
        let shards = plan.shards.iter().map(|shard| (&shard.file_name, shard.size));
        let side_files = plan.checkpoint.side_files.iter().map(|file| (&file.name, file.stamp.size));
        let documents = plan.documents.iter().map(|(name, bytes)| (name, bytes.len() as u64));
        if let Some(limit) = getrlimit(Resource::Fsize).current
            && let Some((name, size)) = shards.chain(side_files).chain(documents).find(|&(_, size)| size > limit)
        {
            return Err(RunError::FileTooLarge { path: self.path.join(name), size, limit });
        }
        let disk = rustix::fs::statvfs(&self.parent)
            .map_err(|error| RunError::file("ask for the free space of", &self.parent)(error.into()))?;
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed > available {
            return Err(RunError::NoSpace { output: self.path.clone(), needed, available });
        }
        Ok(())
    }

    /// Neither the output nor a directory above it is the source, under whatever name it was reached.
    fn check_outside(&self, source: &Path) -> Result<(), RunError> {
        let inside = || RunError::OutputInSource { output: self.path.clone(), source_dir: source.to_path_buf() };
        let source_identity = identity(source).map_err(RunError::file("stat", source))?;
        for above in self.path.ancestors() {
            match identity(above) {
                Ok(found) if found == source_identity => return Err(inside()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RunError::file("stat", above)(error)),
            }
        }
        Ok(())
    }
}

/// The output is no directory that the source lies in.
fn check_not_around(output: &Path, source: &Path) -> Result<(), RunError> {
    let resolved = fs::canonicalize(source).map_err(RunError::file("stat", source))?;
    // What is not there, or cannot be looked at, is found out later.
    let Ok(output_identity) = identity(output) else { return Ok(()) };
    match resolved.ancestors().skip(1).any(|above| identity(above).is_ok_and(|above| above == output_identity)) {
        true => Err(RunError::SourceInOutput { output: output.to_path_buf(), source_dir: source.to_path_buf() }),
        false => Ok(()),
    }
}

/// What tells one file or directory from all others.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
