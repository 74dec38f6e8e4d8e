//! Reading the file of a recipe: bounded, regular files only, UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::checkpoint::text::human;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::text::RecipeText;

/// The largest recipe that is read, in bytes: ten thousand patterns take half a megabyte.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a recipe file; a FIFO or a device is refused without waiting for it.
pub(super) fn read(path: &Path) -> Result<RecipeText, Diagnostic> {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(ReadError::TooLarge(size)) => {
            return Err(Diagnostic::error(format!("the recipe is too large: {}", human(size)))
                .help(format!("the limit is {}", human(MAX_BYTES))));
        }
        Err(ReadError::NotRegular(what)) => {
            return Err(Diagnostic::error(format!("the recipe is {what}, not a regular file")));
        }
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Diagnostic::error("the recipe does not exist"));
        }
        Err(ReadError::Io(error)) => {
            return Err(Diagnostic::error(format!("the recipe cannot be read: {error}")));
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(RecipeText::new(path, text)),
        Err(error) => Err(Diagnostic::error(format!(
            "the recipe is not UTF-8: byte {} starts no character",
            error.utf8_error().valid_up_to()
        ))),
    }
}

enum ReadError {
    Io(io::Error),
    NotRegular(&'static str),
    TooLarge(u64),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Without `NONBLOCK`, opening a FIFO waits for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(io::Error::from)?);
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(ReadError::NotRegular("a directory")),
        FileType::Fifo => return Err(ReadError::NotRegular("a pipe (FIFO)")),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(ReadError::NotRegular("a device")),
        _ => return Err(ReadError::NotRegular("something else")),
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > MAX_BYTES {
        return Err(ReadError::TooLarge(size));
    }
    let mut bytes = Vec::new();
    // The file may grow between the two calls.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge(bytes.len() as u64));
    }
    Ok(bytes)
}
