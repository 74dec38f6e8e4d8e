//! Files as a run makes them: new, never through a link, and durable; and the small ones of an output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::OFlags;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::side_files::SideFile;
use crate::run::cancellable_read;
use crate::run::error::RunError;

/// Bytes of a side file that are copied at a time.
const CHUNK: u64 = 4 << 20;

/// Copies a side file byte for byte into `dir` and returns its checksum.
///
/// # Errors
/// The source changed since it was planned for, or cannot be read; the copy cannot be written; [`RunError::Cancelled`].
pub(super) fn copy_side_file(file: &SideFile, dir: &Path, cancel: &AtomicBool) -> Result<Crc64, RunError> {
    let source = file.open()?;
    let path = dir.join(&file.name);
    let folder = path.parent().filter(|folder| *folder != dir);
    if let Some(folder) = folder {
        fs::create_dir_all(folder).map_err(RunError::file("make", folder))?;
    }
    // Never wider than the source: a user who may not read the source may not read the copy either.
    let mut copy = create_new(&path, file.mode & 0o666).map_err(RunError::file("create", &path))?;
    let mut sum = Crc64::default();
    let mut buffer = vec![0; CHUNK.min(file.stamp.size) as usize];
    for at in (0..file.stamp.size).step_by(CHUNK as usize) {
        // Nothing bounds the size of a side file.
        let chunk = &mut buffer[..CHUNK.min(file.stamp.size - at) as usize];
        cancellable_read::read(&source, chunk, at, cancel)?;
        sum = sum.then(Crc64::of(chunk), chunk.len() as u64);
        copy.write_all(chunk).map_err(RunError::file("write", &path))?;
    }
    // Checked again after the last read: a file that was written to in between would be a mixture of two states.
    source.check_unchanged(file.stamp)?;
    copy.sync_all().map_err(RunError::file("sync", &path))?;
    // The directory itself is synced when it is published, the folders in it are not.
    for folder in folder.into_iter().flat_map(Path::ancestors).take_while(|folder| *folder != dir) {
        sync_dir(folder)?;
    }
    Ok(sum)
}

/// Writes a document of the plan, such as `config.json`, into `dir` and makes its bytes durable. It is there whole or not
/// at all.
///
/// # Errors
/// The file cannot be written.
//
// Under another name first: a kill between the making of `config.json` and its writing would leave an empty one.
pub(super) fn write_document(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), RunError> {
    let (path, unfinished) = (dir.join(name), dir.join(format!(".{name}.partial")));
    let mut file = create_new(&unfinished, 0o666).map_err(RunError::file("create", &unfinished))?;
    file.write_all(bytes).map_err(RunError::file("write", &unfinished))?;
    file.sync_all().map_err(RunError::file("sync", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(RunError::file("rename to", &path))
}

/// Creates a file that must not exist yet, with the permissions `mode` less the umask.
//
// The staging directory can lie where others may write, such as `/tmp`: with `O_EXCL` and `O_NOFOLLOW` no file and no
// link that somebody has put there beforehand is written to.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Makes the entries of a directory durable.
//
// `fsync` of a file covers its bytes, not its name: after a power cut the directory may not list it.
pub(super) fn sync_dir(path: &Path) -> Result<(), RunError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(RunError::file("sync", path))
}
