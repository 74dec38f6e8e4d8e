//! The schemas of what people write as files of the user's, where editors find them from a file that lies anywhere.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::screen::Screen;
use crate::checkpoint::models::catalogue::FamilyFile;
use crate::checkpoint::text::shown_path;
use crate::recipe::recipe_schema;

/// A schema that editors need.
#[derive(Clone, Copy, Debug)]
pub(super) enum EditorSchema {
    Recipe,
    /// That of a family's file.
    Model,
}

impl EditorSchema {
    /// Its name below the user's directory for data.
    fn file(self) -> &'static str {
        match self {
            Self::Recipe => "qwen-fp8/recipe.schema.json",
            Self::Model => "qwen-fp8/model.schema.json",
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Recipe => format!("{:#}\n", recipe_schema()),
            Self::Model => format!("{:#}\n", schemars::schema_for!(FamilyFile).to_value()),
        }
    }
}

/// A reason for which the schema is not where editors could find it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("the schema cannot be written: neither `XDG_DATA_HOME` nor `HOME` names a directory")]
    NoHome,
    #[error("the schema {} cannot be written: {error}", shown_path(path))]
    Io { path: PathBuf, error: io::Error },
}

/// Writes the schema of this build into the user's directory for data, and returns its path. A schema that is there and
/// the same is left alone.
pub(super) fn install(schema: EditorSchema) -> Result<PathBuf, SchemaError> {
    let path = data_home().ok_or(SchemaError::NoHome)?.join(schema.file());
    let text = schema.text();
    if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(path);
    }
    // An editor may read it at any time, and another run may write it: a rename shows all of it or none.
    let staged = path.with_extension(format!("{}.partial", std::process::id()));
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&staged, text))
        .and_then(|()| fs::rename(&staged, &path))
        .inspect_err(|_| drop(fs::remove_file(&staged)));
    written.map(|()| path.clone()).map_err(|error| SchemaError::Io { path, error })
}

/// Writes the schema, and returns its address; where that fails it says that `what` has no help for editors.
pub(super) fn installed(schema: EditorSchema, what: &str, screen: &Screen) -> Option<String> {
    match install(schema) {
        Ok(path) => Some(address(&path)),
        Err(error) => {
            screen.say(&format!("{error}: the {what} has no help for editors"));
            None
        }
    }
}

/// The address of a file as editors read it: `file://`, with an escape for each byte that could end it.
pub(super) fn address(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let escaped = path.as_os_str().as_bytes().iter().map(|&byte| match byte {
        byte if is_plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    format!("file://{}", escaped.collect::<String>())
}

/// The user's directory for data, as the XDG base directory specification says: a relative path counts as unset.
fn data_home() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_byte_that_ends_it() {
        assert_eq!(address(Path::new("/me/a b/%ß#.json")), "file:///me/a%20b/%25%C3%9F%23.json");
    }
}
