//! The place of the output, with every check of it that can be made before a byte is written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, StatxAttributes, StatxFlags};
use rustix::process::{Resource, geteuid, getrlimit};

use crate::checkpoint::manifest::MANIFEST_FILE;
use crate::checkpoint::source::entries;
use crate::plan::Plan;
use crate::run::error::RunError;

/// The place of the output: an existing parent directory and a name in it.
#[derive(Debug)]
pub(super) struct Destination {
    /// The output's path with its parent resolved.
    pub(super) path: PathBuf,
    /// The directory that the output is made in, resolved.
    pub(super) parent: PathBuf,
    name: OsString,
}

impl Destination {
    /// Resolves the output of a plan, whose source may lie on this machine or elsewhere.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub(super) fn of_plan(output: &Path, plan: &Plan) -> Result<Self, RunError> {
        let is_here = plan.checkpoint.repository.is_none();
        Self::new(output, is_here.then_some(plan.checkpoint.dir.as_path()))
    }

    /// Resolves `output`, which must lie neither inside `source` nor around it, where that is a directory.
    ///
    /// # Errors
    /// It has no name or no parent directory, or it overlaps with the source.
    pub(super) fn new(output: &Path, source: Option<&Path>) -> Result<Self, RunError> {
        source.map_or(Ok(()), |source| check_not_around(output, source))?;
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
        source.map_or(Ok(()), |source| destination.check_outside(source))?;
        Ok(destination)
    }

    /// Returns the path of `.<name>.<suffix>` beside the output, on the same file system so that a rename can publish
    /// it.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        self.parent.join(beside_name(&self.name, suffix))
    }

    /// Checks that nothing bears the output's name, except for an empty directory that can make way.
    ///
    /// # Errors
    /// [`RunError::OutputExists`], or the directory cannot be removed later.
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

    /// Checks that the empty directory with the output's name can be replaced by a rename.
    //
    // A run may take hours: what would fail at its very end is refused at its beginning.
    fn check_makes_way(&self, found: &Metadata) -> Result<(), RunError> {
        let parent = fs::metadata(&self.parent).map_err(RunError::file("stat", &self.parent))?;
        // A directory of the same file system may be mounted too, which only the kernel knows.
        let statx = rustix::fs::statx(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
        let is_mounted = statx.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if found.dev() != parent.dev() || is_mounted {
            return Err(RunError::MountPoint { path: self.path.clone() });
        }
        // In a sticky directory, such as `/tmp`, only the owner of an entry or of the directory may remove the entry.
        let user = geteuid();
        let is_sticky = Mode::from_raw_mode(parent.mode()).contains(Mode::SVTX);
        if is_sticky && !user.is_root() && ![parent.uid(), found.uid()].contains(&user.as_raw()) {
            return Err(RunError::OtherUsers { path: self.path.clone(), owner: found.uid() });
        }
        Ok(())
    }

    /// Returns the error that tells what bears the output's name.
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

    /// Checks that the disk has room for `needed` bytes and the manifest, and that no file of the output exceeds this
    /// process's limit.
    ///
    /// # Errors
    /// [`RunError::FileTooLarge`] or [`RunError::NoSpace`].
    pub(super) fn check_room(&self, plan: &Plan, needed: u64, manifest: Option<u64>) -> Result<(), RunError> {
        let shards = plan.shards.iter().map(|shard| (&shard.file_name, shard.size));
        let side_files = plan.checkpoint.side_files.iter().map(|file| (&file.name, file.stamp.size));
        let documents = plan.documents.iter().map(|(name, bytes)| (name, bytes.len() as u64));
        let files = shards.chain(side_files).chain(documents).map(|(name, size)| (name.as_str(), size));
        self.check_room_for(files.chain(manifest.map(|size| (MANIFEST_FILE, size))), needed + manifest.unwrap_or(0))
    }

    /// Checks that the disk has room for `needed` bytes, and that none of these files, by name and size, exceeds this
    /// process's limit.
    ///
    /// # Errors
    /// [`RunError::FileTooLarge`] or [`RunError::NoSpace`].
    pub(super) fn check_room_for<'a>(
        &self,
        mut files: impl Iterator<Item = (&'a str, u64)>,
        needed: u64,
    ) -> Result<(), RunError> {
        // A write past the limit is a signal by default, and an error only because `cli::interrupt` handles it.
        if let Some(limit) = getrlimit(Resource::Fsize).current
            && let Some((name, size)) = files.find(|&(_, size)| size > limit)
        {
            return Err(RunError::FileTooLarge { path: self.path.join(name), size, limit });
        }
        let disk = rustix::fs::statvfs(&self.parent)
            .map_err(|error| RunError::file("query the free space of", &self.parent)(error.into()))?;
        let available = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed > available {
            return Err(RunError::NoSpace { output: self.path.clone(), needed, available });
        }
        Ok(())
    }

    /// Checks that neither the output nor a directory above it is the source, under any name.
    //
    // By device and inode rather than by path: links, bind mounts and `..` give one directory many names.
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

/// Returns `.<name>.<suffix>`.
pub(super) fn beside_name(name: &OsStr, suffix: &str) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".");
    beside.push(suffix);
    beside
}

/// Checks that the source does not lie inside the output.
fn check_not_around(output: &Path, source: &Path) -> Result<(), RunError> {
    let resolved = fs::canonicalize(source).map_err(RunError::file("stat", source))?;
    // An output that does not exist holds no source, and one that cannot be examined is refused by a later check.
    let Ok(output_identity) = identity(output) else { return Ok(()) };
    let is_around =
        resolved.ancestors().skip(1).any(|above| identity(above).is_ok_and(|above| above == output_identity));
    if is_around {
        Err(RunError::SourceInOutput { output: output.to_path_buf(), source_dir: source.to_path_buf() })
    } else {
        Ok(())
    }
}

/// Returns device and inode, which identify a file or directory whatever path leads to it.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
