//! The pattern language: exact module name, `re:` regex, glob, or class name.

mod engine;
mod error;
mod escapes;
mod groups;
mod reader;
mod tokens;
mod tree;
mod write;

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::models::LayerKind;
use crate::text::unquoted;
use engine::{Limit, compile};
use reader::RegexGrammar;

pub use engine::Regex;
pub use error::PatternError;

/// A pattern over module names.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A full module name (or tensor name ending in `.weight`).
    Exact(String),
    /// `re:` and a regex, anchored at the start only, as Python's `re.match`.
    Regex { text: String, regex: Regex },
    /// A glob; `*` matches any characters, dots included.
    Glob { text: String, glob: GlobMatcher },
    /// A class name: `Linear`, `Embedding`, `Conv`, `Norm`, `Router`, `LmHead`, `Experts`.
    Class(LayerKind),
}

/// The layer kinds that have a class name.
pub const CLASSES: [LayerKind; 7] = [
    LayerKind::Linear,
    LayerKind::Embedding,
    LayerKind::Conv,
    LayerKind::Norm,
    LayerKind::Router,
    LayerKind::LmHead,
    LayerKind::Experts,
];

/// A regex that gave up on a name, so that a match is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{}` takes too long on the name `{}`", unquoted(.pattern), unquoted(.module))]
pub struct MatchError {
    pub pattern: String,
    pub module: String,
}

const MAX_GLOB: usize = 1024;

impl Pattern {
    /// Reads a pattern of a native recipe.
    ///
    /// # Errors
    /// The text is empty, too long, or holds a regex or glob that does not parse.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with("re:") && text.contains(['*', '?', '[', '{']) {
            return glob(text);
        }
        Self::parse_upstream(text)
    }

    /// Reads a pattern of an llm-compressor file, whose language has no globs.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn parse_upstream(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(expression) = text.strip_prefix("re:") {
            let regex = compile(expression, RegexGrammar::Python)?;
            return Ok(Self::Regex { text: text.to_owned(), regex });
        }
        match CLASSES.into_iter().find(|kind| kind.name() == text) {
            Some(kind) => Ok(Self::Class(kind)),
            None => Ok(Self::Exact(text.to_owned())),
        }
    }

    /// Reads a regex as vLLM does, which takes the package `regex` for Python's `re`; `None` where both read it alike.
    ///
    /// # Errors
    /// As [`Pattern::parse`], and for syntax of that package which is not known here.
    pub fn parse_served(text: &str) -> Result<Option<Self>, PatternError> {
        let Some(expression) = text.strip_prefix("re:").filter(|text| !engine::is_read_alike(text)) else {
            return Ok(None);
        };
        let regex = compile(expression, RegexGrammar::Served)?;
        Ok(Some(Self::Regex { text: text.to_owned(), regex }))
    }

    /// Reports whether the pattern takes the module called `module`, whose weight is of this kind.
    ///
    /// # Errors
    /// A regex with look-around or back-references reached its limit.
    pub fn matches(&self, module: &str, kind: LayerKind) -> Result<bool, MatchError> {
        Ok(match self {
            Self::Exact(name) => name == module || name.strip_suffix(".weight") == Some(module),
            Self::Class(class) => *class == kind,
            Self::Glob { glob, .. } => glob.is_match(module),
            Self::Regex { regex, text } => regex
                .matches_start(module)
                .map_err(|Limit| MatchError { pattern: text.clone(), module: module.to_owned() })?,
        })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Regex { text, .. } | Self::Glob { text, .. } => text,
            Self::Class(kind) => kind.name(),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unquoted(self.text()).fmt(f)
    }
}

fn glob(text: &str) -> Result<Pattern, PatternError> {
    if text.len() > MAX_GLOB {
        return Err(PatternError::TooLong { what: "glob", length: text.len(), limit: MAX_GLOB });
    }
    let built = GlobBuilder::new(text).literal_separator(false).build();
    let glob = built.map_err(|error| PatternError::Glob { reason: unquoted(&error.kind().to_string()).to_string() })?;
    Ok(Pattern::Glob { text: text.to_owned(), glob: glob.compile_matcher() })
}
