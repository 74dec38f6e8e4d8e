//! Reading the file of a recipe or of a family: bounded, regular files only, UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::checkpoint::text::{apart, human};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::file_meant::{instead_of_directory, instead_of_missing};
use crate::recipe::language::Language;
use crate::recipe::text::{RecipeText, STDIN};

/// The largest recipe that is read, in bytes: ten thousand patterns take half a megabyte.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a file that messages call `what`; a FIFO or a device is refused without waiting for it.
pub(super) fn read(path: &Path, what: &str) -> Result<RecipeText, Diagnostic> {
    match read_bounded(path) {
        Ok(bytes) => decoded(path, bytes, what),
        // A shard in place of a recipe is too large, and that is not what is wrong with it.
        Err(ReadError::TooLarge(size)) => {
            Err(Language::of_path(path).err().unwrap_or_else(|| too_large(what, &apart(size, MAX_BYTES)[0])))
        }
        Err(ReadError::NotRegular(kind)) => {
            let diagnostic = Diagnostic::error(format!("{what} is {kind}, not a regular file"));
            Err(match kind {
                _ if what != RECIPE => diagnostic,
                DIRECTORY => instead_of_directory(path).into_iter().fold(diagnostic, Diagnostic::help),
                FIFO => diagnostic.help("`-` in place of its name reads the recipe from standard input"),
                _ => diagnostic,
            })
        }
        Err(ReadError::Io(error)) if what == RECIPE && error.kind() == io::ErrorKind::NotFound => {
            let diagnostic = Diagnostic::error("the recipe does not exist");
            Err(instead_of_missing(path).into_iter().fold(diagnostic, Diagnostic::help))
        }
        Err(ReadError::Io(error)) => Err(Diagnostic::error(format!("{what} cannot be read: {error}"))),
    }
}

/// Reads a recipe to the end of a stream, which messages call standard input.
pub(super) fn read_stream(stream: impl Read) -> Result<RecipeText, Diagnostic> {
    let mut bytes = Vec::new();
    match stream.take(MAX_BYTES + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > MAX_BYTES => Err(too_large(RECIPE, &format!("more than {}", human(MAX_BYTES)))),
        Ok(_) => decoded(Path::new(STDIN), bytes, RECIPE),
        Err(error) => Err(Diagnostic::error(format!("the recipe cannot be read: {error}"))),
    }
}

fn decoded(path: &Path, bytes: Vec<u8>, what: &str) -> Result<RecipeText, Diagnostic> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(RecipeText::new(path, text)),
        Err(error) => Err(Diagnostic::error(format!(
            "{what} is not UTF-8: byte {} starts no character",
            error.utf8_error().valid_up_to()
        ))),
    }
}

fn too_large(what: &str, how: &str) -> Diagnostic {
    Diagnostic::error(format!("{what} is too large: {how}")).help(format!("the limit is {}", human(MAX_BYTES)))
}

/// A recipe in messages.
pub(super) const RECIPE: &str = "the recipe";

const DIRECTORY: &str = "a directory";
const FIFO: &str = "a pipe (FIFO)";

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
        FileType::Directory => return Err(ReadError::NotRegular(DIRECTORY)),
        FileType::Fifo => return Err(ReadError::NotRegular(FIFO)),
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
