//! What keeps a text from being a pattern.

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
    #[error("not a valid regex to Python's `re`: {reason}, at character {column} after `re:`{}", help_after(.help))]
    Python { reason: String, column: usize, help: &'static str },
    #[error("not a valid glob: {reason}")]
    Glob { reason: String },
}

fn help_after(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!("; {help}") }
}
