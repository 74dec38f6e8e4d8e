//! The text of a recipe, with the path that messages name.

use std::path::{Path, PathBuf};

/// The name that messages give to standard input.
pub const STDIN: &str = "<stdin>";

/// The text of a recipe and the path it was read from, [`STDIN`] for standard input.
#[derive(Clone, Debug)]
pub struct RecipeText {
    pub path: PathBuf,
    pub text: String,
}

impl RecipeText {
    /// Takes a text as the content of `path`, and drops a byte order mark.
    pub fn new(path: &Path, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Self { path: path.to_owned(), text }
    }
}
