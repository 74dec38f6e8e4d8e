//! The language that a recipe is written in: the extension decides, and each has a parser of its own.

use std::path::Path;

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;
use crate::recipe::text::{RecipeText, STDIN};

mod toml;
mod yaml;

/// The language that a recipe is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Yaml,
    Toml,
}

/// The extensions of files that belong to checkpoints.
const OF_CHECKPOINTS: [&str; 5] = ["safetensors", "json", "gguf", "bin", "pt"];

impl RecipeText {
    /// Reports whether the recipe is written in TOML rather than YAML.
    pub fn is_toml(&self) -> bool {
        matches!(Language::of(self), Ok(Language::Toml))
    }
}

impl Language {
    /// Decides by the extension, whatever its case; by the text where it comes from standard input.
    pub(super) fn of(text: &RecipeText) -> Result<Self, Diagnostic> {
        if text.path == Path::new(STDIN) { Ok(Self::of_content(&text.text)) } else { Self::of_path(&text.path) }
    }

    /// Decides by the extension, whatever its case.
    pub(super) fn of_path(path: &Path) -> Result<Self, Diagnostic> {
        const EXTENSIONS: &str = "the extension says the language: `.yaml` or `.yml`, or `.toml`";
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("toml") => Ok(Self::Toml),
            Some(other) => {
                let diagnostic = Diagnostic::error(format!("a recipe cannot end in `.{}`", unquoted(other)));
                Err(if OF_CHECKPOINTS.contains(&other) {
                    diagnostic.help("a recipe comes first, and the directory of a checkpoint after `--model`")
                } else {
                    diagnostic.help(EXTENSIONS)
                })
            }
            None => Err(Diagnostic::error("the recipe's file name has no extension").help(EXTENSIONS)),
        }
    }

    /// Decides by the first line that says something: a table or `key =` is TOML.
    fn of_content(text: &str) -> Self {
        let mut lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = lines.next().unwrap_or_default();
        let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '"' | '\'' | ' ');
        let after_key = first.trim_start_matches(is_of_key);
        if first.starts_with('[') || after_key.starts_with('=') { Self::Toml } else { Self::Yaml }
    }

    /// Parses a text; the diagnostic says the first thing that is wrong with the syntax.
    pub(super) fn parse(self, text: &str) -> Result<Document, Diagnostic> {
        match self {
            Self::Yaml => yaml::parse(text),
            Self::Toml => toml::parse(text),
        }
    }
}
