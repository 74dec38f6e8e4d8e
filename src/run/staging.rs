//! The staging directory beside the output, the lock over both, and the rename that publishes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::run::RunError;
use crate::run::destination::Destination;

/// What the marker file of a staging directory is called.
const MARKER: &str = "qwen-fp8-staging";

/// What the directory that becomes the output is called until then.
const CHECKPOINT: &str = "checkpoint";

/// The right to write one output, held by at most one run of this machine.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    pub(super) fn acquire(destination: &Destination) -> Result<Self, RunError> {
        let path = destination.beside("lock");
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&path)
                .map_err(RunError::file("open", &path))?;
            let held = file.metadata().map_err(RunError::file("look at", &path))?;
            if !held.is_file() || held.len() > 0 {
                return Err(RunError::Stranger { path });
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(RunError::Locked { output: destination.path.clone(), lock: path });
                }
                Err(TryLockError::Error(source)) => return Err(RunError::file("lock", &path)(source)),
            }
            // The run that held the lock before may have removed the file between our open and our lock.
            match fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(Self { file, path }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RunError::file("look at", &path)(error)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody can lock a file without a name and believe in it. A lock file that
        // cannot be removed does no harm: the next run locks it again.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// `.<name>.partial/`: a marker that says it is ours, and the directory that will be renamed to the output.
///
/// Dropped without [`Staging::publish`], it removes itself.
pub(super) struct Staging {
    root: PathBuf,
    /// Where the files of the output are written.
    pub(super) dir: PathBuf,
}

impl Staging {
    /// Makes the staging directory, in place of one that a crashed run left behind.
    pub(super) fn create(destination: &Destination) -> Result<Self, RunError> {
        let root = destination.beside("partial");
        remove_left_over(&root)?;
        fs::create_dir(&root).map_err(RunError::file("make", &root))?;
        let staging = Self { dir: root.join(CHECKPOINT), root };
        let marker = staging.root.join(MARKER);
        create_new(&marker, 0o666).map_err(RunError::file("make", &marker))?;
        fs::create_dir(&staging.dir).map_err(RunError::file("make", &staging.dir))?;
        Ok(staging)
    }

    /// Renames the finished directory to the output's name, which nothing may bear by then.
    pub(super) fn publish(self, destination: &Destination) -> Result<(), RunError> {
        sync_dir(&self.dir)?;
        let target = &destination.path;
        // An empty directory makes way; one that has been filled since the check does not.
        match fs::remove_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(RunError::OutputExists { path: target.clone() });
            }
            _ => {}
        }
        match renameat_with(CWD, &self.dir, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(RunError::OutputExists { path: target.clone() }),
            // File systems without the flag (some network ones) get the check and the rename apart, under our lock.
            Err(Errno::INVAL | Errno::NOSYS) => {
                destination.check_free()?;
                fs::rename(&self.dir, target).map_err(RunError::file("rename the staging directory to", target))?;
            }
            Err(error) => return Err(RunError::file("rename the staging directory to", target)(error.into())),
        }
        // A name that may be gone after a power cut is not published: back with it, and away as after any failure.
        sync_dir(&destination.parent).inspect_err(|_| {
            let _ = fs::rename(target, &self.dir);
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever cannot be removed is not loadable: `config.json` is written last, and the name is not the output's.
        let _ = remove(&self.root);
    }
}

/// Creates a file that must not exist, with these permissions less the umask.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), RunError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(RunError::file("sync", path))
}

/// Removes the staging directory of a run that crashed; refuses to touch anything that is not one.
fn remove_left_over(root: &Path) -> Result<(), RunError> {
    let stranger = || RunError::Stranger { path: root.to_path_buf() };
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RunError::file("look at", root)(error)),
        Ok(found) if !found.is_dir() => return Err(stranger()),
        Ok(_) => {}
    }
    // The marker is the first thing in it and the last to go: without it, only an empty one can be ours.
    let marked = fs::symlink_metadata(root.join(MARKER)).is_ok_and(|marker| marker.is_file());
    match if marked { remove(root) } else { fs::remove_dir(root) } {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(stranger()),
        other => other.map_err(RunError::file("remove", root)),
    }
}

/// Removes a staging directory, its marker last, so that what a second crash leaves is still recognised.
fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root.join(CHECKPOINT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(root)
}
