//! The rename that publishes a finished checkpoint.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::run::destination::Destination;
use crate::run::error::RunError;
use crate::run::files::sync_dir;

/// Renames the finished directory `dir` to the output's name, and makes that durable. `check_alive` fails where the file
/// system no longer writes to its disk.
///
/// # Errors
/// Something else bears the name by now, or the disk does not confirm the rename. Nothing is then published.
pub(super) fn publish(
    dir: &Path,
    destination: &Destination,
    check_alive: impl FnOnce() -> Result<(), RunError>,
) -> Result<(), RunError> {
    // Every file has been synced by now, and with this their names: the rename must not reach the disk before what it
    // publishes, or a power cut would leave the output's name on an incomplete directory.
    sync_dir(dir)?;
    let target = &destination.path;
    // An empty directory makes way, here rather than in the rename, which RENAME_NOREPLACE would refuse. One that has
    // been filled since the check does not.
    match fs::remove_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Err(destination.occupied()),
        _ => {}
    }
    match renameat_with(CWD, dir, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(destination.occupied()),
        // Some network file systems lack the flag. There, check and rename are two steps; what takes the name between
        // them is a directory with files, which no rename replaces.
        Err(Errno::INVAL | Errno::NOSYS) => {
            destination.check_free()?;
            fs::rename(dir, target).map_err(RunError::file("rename the staging directory to", target))?;
        }
        Err(error) => return Err(RunError::file("rename the staging directory to", target)(error.into())),
    }
    // An output that is reported must outlast a power cut. Where the disk does not confirm the parent directory, the old
    // name is restored, and the run fails as it would at any other step.
    sync_dir(&destination.parent).and_then(|()| check_alive()).inspect_err(|_| {
        let _ = fs::rename(target, dir);
    })
}
