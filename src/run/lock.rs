//! The lock that keeps a second run from writing the same output.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::run::destination::Destination;
use crate::run::error::RunError;

/// The right to write one output, held by at most one run of this machine.
//
// `flock` on a file of its own rather than a file whose existence is the lock: the kernel releases it with the process,
// so that `kill -9` leaves a file that is in nobody's way.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, without waiting for it.
    ///
    /// # Errors
    /// [`RunError::Locked`] while another run holds it; [`RunError::NotOurs`] if the file is not a lock file.
    pub(super) fn acquire(destination: &Destination) -> Result<Self, RunError> {
        let path = destination.beside("lock");
        loop {
            let file = open_lock(&path)?;
            let held = file.metadata().map_err(RunError::file("stat", &path))?;
            // Lock files are empty. Anything else under the name is somebody's data, and would be removed at the end.
            if !held.is_file() || held.len() > 0 {
                return Err(RunError::NotOurs { path });
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(RunError::Locked { output: destination.path.clone(), lock: path });
                }
                Err(TryLockError::Error(source)) => return Err(RunError::file("lock", &path)(source)),
            }
            // The run that held the lock before may have removed the file between our open and our lock. A third run would
            // then make a new one and lock it too: only the file that still bears the name counts.
            match fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(Self { file, path }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RunError::file("stat", &path)(error)),
            }
        }
    }
}

/// Opens the lock file, or makes it.
///
/// A file that another user's run left behind may be readable only, which is enough to lock it.
fn open_lock(path: &Path) -> Result<File, RunError> {
    // Without NONBLOCK, opening a FIFO of that name would wait for its other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open = |options: &mut OpenOptions| options.custom_flags(flags).open(path);
    match open(OpenOptions::new().write(true).create(true).truncate(false)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match fs::symlink_metadata(path) {
            Ok(found) => open(OpenOptions::new().read(true))
                .map_err(|_| RunError::OtherUsers { path: path.to_path_buf(), owner: found.uid() }),
            Err(_) => Err(RunError::file("make", path)(error)),
        },
        opened => opened.map_err(RunError::file("make", path)),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held: a run that opened it before finds that the name is gone and tries again. A lock file
        // that cannot be removed does no harm, since the next run locks it again.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}
