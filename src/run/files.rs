//! The small files of an output: copies of the source's side files, and documents.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::side_files::SideFile;
use crate::checkpoint::source::SourceFile;
use crate::run::error::RunError;

/// Bytes of a side file that are copied at a time.
const CHUNK: usize = 64 << 10;

/// Copies a side file byte for byte; its checksum.
pub(super) fn copy_side_file(file: &SideFile, dir: &Path) -> Result<Crc64, RunError> {
    let source = SourceFile::open(&file.path)?;
    source.check_unchanged(file.stamp)?;
    let path = dir.join(&file.name);
    // Never wider than the source: who may not read the one may not read the other.
    let mut copy = create_new(&path, file.mode & 0o666).map_err(RunError::file("create", &path))?;
    let mut sum = Crc64::default();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match source.file().read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(RunError::file("read", &file.path)(error)),
        };
        sum = sum.then(Crc64::of(&buffer[..read]), read as u64);
        copy.write_all(&buffer[..read]).map_err(RunError::file("write", &path))?;
    }
    source.check_unchanged(file.stamp)?;
    copy.sync_all().map_err(RunError::file("sync", &path))?;
    Ok(sum)
}

/// Writes a file that the plan holds, and makes it durable.
pub(super) fn write_document(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut file = create_new(path, 0o666).map_err(RunError::file("create", path))?;
    file.write_all(bytes).map_err(RunError::file("write", path))?;
    file.sync_all().map_err(RunError::file("sync", path))
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
