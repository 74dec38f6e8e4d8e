//! Hints for a person about an error of the operating system.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

const OPEN_FILES: &str = "raise the limit of open files (`ulimit -n`), or give fewer `--threads`";
const DISK: &str = "the disk, or the way to it, fails: the system's log (`dmesg`) says more";

/// Returns what helps when a file cannot be read.
pub fn for_reading(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::PermissionDenied => Some("let this user read it (`chmod`), or run as one who may"),
        _ => for_any(error),
    }
}

/// Returns what helps when a file of the output cannot be created or written.
pub fn for_writing(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::PermissionDenied => Some("give an `--output` in a directory that this user may write to"),
        ErrorKind::ReadOnlyFilesystem => Some("give an `--output` on a file system that is not read-only"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room, or give an `--output` on another file system")
        }
        ErrorKind::FileTooLarge => {
            Some("raise the limit (`ulimit -f`), or give a smaller `max_shard_size` in the recipe")
        }
        _ => for_any(error),
    }
}

fn for_any(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE | Errno::NFILE => Some(OPEN_FILES),
        Errno::IO => Some(DISK),
        _ => None,
    }
}
