//! The pattern language: exact module name, `re:` regex, glob, or class name.

use crate::layer::LayerKind;

/// A pattern over module names.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A full module name (or tensor name ending in `.weight`).
    Exact(String),
    /// `re:` and a regex, anchored at the start only, as Python's `re.match`.
    Regex { text: String, regex: fancy_regex::Regex },
    /// A glob; `*` matches any characters, dots included.
    Glob { text: String, glob: globset::GlobMatcher },
    /// A class name: `Linear`, `Embedding`, `Conv`, `Norm`, `Router`, `LmHead`.
    Class(LayerKind),
}
