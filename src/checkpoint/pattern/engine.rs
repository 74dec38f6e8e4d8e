//! Compiled regexes: the engines, and the limits on their time and memory.

use fancy_regex::{CompileError, ParseError};

use super::error::PatternError;
use super::reader::{RegexGrammar, read};
use super::tokens::RegexFault;
use super::write::{WrittenRegex, write};
use crate::text::unquoted;

/// A compiled regex, in the engine that it needs.
#[derive(Clone, Debug)]
pub enum Regex {
    /// Runs in time linear in the name.
    Linear(regex::Regex),
    /// Looks around or back, and may give up.
    Backtracking(fancy_regex::Regex),
    /// Is linear on names in ASCII, and takes the other on the rest.
    Bounded(regex::Regex, fancy_regex::Regex),
}

/// The backtracking engine gave up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit;

const TOO_LARGE: &str = "it is too large when compiled";
const MAX_REGEX: usize = 4096;
/// Bytes of a compiled regex.
const COMPILED: usize = 1 << 20;
const BACKTRACKS: usize = 100_000;
/// The longest name, in bytes, that is matched with a backtracking regex: each step may scan the rest of the name,
/// which no limit counts. No model has a module name of half this length.
const BACKTRACKED_NAME: usize = 1024;

impl Regex {
    /// Reports whether the regex, which is anchored, matches at the start of the name.
    pub(super) fn matches_start(&self, name: &str) -> Result<bool, Limit> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(name)),
            Self::Bounded(regex, _) if name.is_ascii() => Ok(regex.is_match(name)),
            Self::Backtracking(_) | Self::Bounded(..) if name.len() > BACKTRACKED_NAME => Err(Limit),
            Self::Backtracking(regex) | Self::Bounded(_, regex) => regex.is_match(name).map_err(|_| Limit),
        }
    }
}

/// Compiles the regex as this grammar reads it.
pub(super) fn compile(expression: &str, grammar: RegexGrammar) -> Result<Regex, PatternError> {
    if expression.is_empty() {
        return Err(PatternError::EmptyRegex);
    }
    if expression.len() > MAX_REGEX {
        return Err(PatternError::TooLong { what: "regex", length: expression.len(), limit: MAX_REGEX });
    }
    let written = written(expression, grammar).map_err(|fault| PatternError::Python {
        reason: unquoted(&fault.reason).to_string(),
        column: fault.at + 1,
        help: fault.help,
    })?;
    Ok(match written {
        WrittenRegex::Linear(expression) => Regex::Linear(linear(&expression)?),
        WrittenRegex::Backtracking(expression) => Regex::Backtracking(backtracking(&expression)?),
        WrittenRegex::Bounded(short, exact) => Regex::Bounded(linear(&short)?, backtracking(&exact)?),
    })
}

/// Reports whether Python's `re` and vLLM's `regex` take the same names by this regex, or both refuse it.
pub(super) fn is_read_alike(expression: &str) -> bool {
    expression.len() > MAX_REGEX
        || match (written(expression, RegexGrammar::Python), written(expression, RegexGrammar::Served)) {
            (Ok(python), Ok(served)) => python == served,
            (Err(_), Err(_)) => true,
            _ => false,
        }
}

fn written(expression: &str, grammar: RegexGrammar) -> Result<WrittenRegex, RegexFault> {
    read(expression, grammar).map(|node| write(&node))
}

fn linear(expression: &str) -> Result<regex::Regex, PatternError> {
    let built = regex::RegexBuilder::new(expression).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
    built.map_err(|error| PatternError::Regex { reason: reason(&error) })
}

fn backtracking(expression: &str) -> Result<fancy_regex::Regex, PatternError> {
    let built = fancy_regex::RegexBuilder::new(expression)
        .backtrack_limit(BACKTRACKS)
        .delegate_size_limit(COMPILED)
        .delegate_dfa_size_limit(COMPILED)
        .build();
    built.map_err(|error| PatternError::Regex {
        // Places in the written text say nothing to who wrote the regex.
        reason: match &error {
            fancy_regex::Error::ParseError(_, ParseError::RecursionExceeded) => {
                "its groups lie too deep in each other to look around or back".to_owned()
            }
            fancy_regex::Error::CompileError(inner) if matches!(**inner, CompileError::InnerError(_)) => {
                TOO_LARGE.to_owned()
            }
            other => unquoted(&other.to_string()).to_string(),
        },
    })
}

/// Returns the last line of the regex crate's message; the lines before it echo the pattern.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => TOO_LARGE.to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            unquoted(last.strip_prefix("error: ").unwrap_or(last)).to_string()
        }
    }
}
