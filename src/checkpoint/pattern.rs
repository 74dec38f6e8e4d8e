//! The pattern language: exact module name, `re:` regex, glob, or class name.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};

use crate::models::LayerKind;
use crate::text::unquoted;

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

/// A compiled regex, in the engine that it needs.
#[derive(Clone, Debug)]
pub enum Regex {
    /// Runs in time linear in the name.
    Linear(regex::Regex),
    /// Has look-around or back-references, and may give up.
    Backtracking(fancy_regex::Regex),
}

/// A reason for which a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is empty")]
    Empty,
    #[error("the regex is empty, which matches every name")]
    EmptyRegex,
    #[error("the {what} is {length} bytes long; the limit is {limit}")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("not a valid regex: {reason}")]
    Regex { reason: String },
    #[error("not a valid glob: {reason}")]
    Glob { reason: String },
}

/// A regex that gave up on a name, so that a match is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{}` takes too long on the name `{}`", unquoted(.pattern), unquoted(.module))]
pub struct MatchError {
    pub pattern: String,
    pub module: String,
}

const MAX_REGEX: usize = 4096;
const MAX_GLOB: usize = 1024;
/// Bytes of a compiled regex.
const COMPILED: usize = 1 << 20;
const BACKTRACKS: usize = 100_000;
/// The longest name, in bytes, that is matched with a backtracking regex: each step may scan the rest of the name,
/// which no limit counts. No model has a module name of half this length.
const BACKTRACKED_NAME: usize = 1024;

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
            let regex = compile(expression)?;
            return Ok(Self::Regex { text: text.to_owned(), regex });
        }
        match CLASSES.into_iter().find(|kind| kind.name() == text) {
            Some(kind) => Ok(Self::Class(kind)),
            None => Ok(Self::Exact(text.to_owned())),
        }
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

/// The backtracking engine gave up.
#[derive(Clone, Copy, Debug)]
struct Limit;

impl Regex {
    fn matches_start(&self, name: &str) -> Result<bool, Limit> {
        match self {
            // The leftmost match starts at 0 exactly when one does.
            Self::Linear(regex) => Ok(regex.find(name).is_some_and(|found| found.start() == 0)),
            Self::Backtracking(_) if name.len() > BACKTRACKED_NAME => Err(Limit),
            Self::Backtracking(regex) => regex.is_match(name).map_err(|_| Limit),
        }
    }
}

fn compile(expression: &str) -> Result<Regex, PatternError> {
    if expression.is_empty() {
        return Err(PatternError::EmptyRegex);
    }
    if expression.len() > MAX_REGEX {
        return Err(PatternError::TooLong { what: "regex", length: expression.len(), limit: MAX_REGEX });
    }
    let built = regex::RegexBuilder::new(expression).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
    match built {
        Ok(regex) => Ok(Regex::Linear(regex)),
        Err(regex::Error::Syntax(_)) if needs_backtracking(expression) => backtracking(expression),
        Err(error) => Err(PatternError::Regex { reason: reason(&error) }),
    }
}

/// Reports whether a regex needs a backtracking engine, for which the linear one refuses it.
fn needs_backtracking(expression: &str) -> bool {
    ["(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P=", "\\Z"].iter().any(|part| expression.contains(part))
        || expression.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit())
}

/// Anchored, because an unanchored search tries every start, which no limit counts.
fn backtracking(expression: &str) -> Result<Regex, PatternError> {
    let build = |anchored: &str| {
        fancy_regex::RegexBuilder::new(anchored)
            .backtrack_limit(BACKTRACKS)
            .delegate_size_limit(COMPILED)
            .delegate_dfa_size_limit(COMPILED)
            .build()
    };
    build(&format!("^(?:{expression})"))
        // A comment of verbose mode swallows the parenthesis; a line end closes it.
        .or_else(|error| build(&format!("^(?:{expression}\n)")).map_err(|_| error))
        .map(Regex::Backtracking)
        .map_err(|error| PatternError::Regex { reason: unquoted(&error.to_string()).to_string() })
}

/// Returns the last line of the regex crate's message; the lines before it echo the pattern.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            unquoted(last.strip_prefix("error: ").unwrap_or(last)).to_string()
        }
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
