//! The language that a recipe is written in: the extension decides, and each has a parser of its own.

use std::path::Path;

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;

mod toml;
mod yaml;

/// The language that a recipe is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Yaml,
    Toml,
}

impl Language {
    /// Decides by the extension, whatever its case.
    pub(super) fn of(path: &Path) -> Result<Self, Diagnostic> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("toml") => Ok(Self::Toml),
            Some(other) => Err(Diagnostic::error(format!("a recipe cannot end in `.{}`", unquoted(other)))
                .help("the extension says the language: `.yaml` or `.yml`, or `.toml`")),
            None => Err(Diagnostic::error("the recipe's file name has no extension")
                .help("the extension says the language: `.yaml` or `.yml`, or `.toml`")),
        }
    }

    /// Parses a text; the diagnostic says the first thing that is wrong with the syntax.
    pub(super) fn parse(self, text: &str) -> Result<Document, Diagnostic> {
        match self {
            Self::Yaml => yaml::parse(text),
            Self::Toml => toml::parse(text),
        }
    }
}
