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
    /// Reports whether the ending of a path is that of recipes.
    pub fn is_by_ending(path: &Path) -> bool {
        path.extension().is_some_and(|ending| ["yaml", "yml", "toml"].iter().any(|known| ending == *known))
    }

    /// Takes a text as the content of `path`, and drops a byte order mark.
    pub fn new(path: &Path, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        Self { path: path.to_owned(), text }
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPosition {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
}

impl RecipeText {
    /// Returns the place of a byte; of the end of the text where it has fewer bytes.
    pub fn position(&self, offset: usize) -> TextPosition {
        let at = floor(&self.text, offset.min(self.text.len()));
        let before = &self.text[..at];
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        TextPosition { line: before.matches('\n').count() + 1, column: before[begin..].chars().count() + 1 }
    }
}

/// Returns the last boundary between characters that is not after `at`.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = RecipeText::new(Path::new("a.yaml"), "ä: b\nc: d");
        let position = |offset| (text.position(offset).line, text.position(offset).column);
        assert_eq!([0, 1, 2, 6, 9, 100].map(position), [(1, 1), (1, 1), (1, 2), (2, 1), (2, 4), (2, 5)]);
    }
}
