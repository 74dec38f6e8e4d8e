//! A recipe: which scheme takes which layers, in which order, and into which layout.

use std::ops::Range;
use std::path::PathBuf;

use qwen_fp8_schemes::{Format, Registration, Scheme};

use crate::recipe::pattern::Pattern;

pub mod pattern;

/// A recipe that was read, validated against the schema and understood.
#[derive(Debug)]
pub struct Recipe {
    /// The text that every span points into.
    pub text: RecipeText,
    pub dialect: Dialect,
    /// A directory, or a model id of the Hugging Face cache.
    pub model: Option<String>,
    pub output: Option<String>,
    pub format: Format,
    /// The largest output shard in bytes; `None` keeps the source's shards.
    pub max_shard_size: Option<u64>,
    /// In order of precedence: the first rule that takes a tensor decides.
    pub rules: Vec<Rule>,
}

/// The text of a recipe and the path it was read from, for messages.
#[derive(Clone, Debug)]
pub struct RecipeText {
    pub path: PathBuf,
    pub text: String,
}

/// Whose grammar a recipe follows, which decides how strictly its patterns are held to the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: a pattern that matches nothing is an error.
    Native,
    /// llm-compressor's: a pattern that matches nothing is a warning.
    LlmCompressor,
}

/// One rule: a scheme and the layers it takes.
#[derive(Debug)]
pub struct Rule {
    /// How messages call it: `rule 2 (FP8_DYNAMIC)`, `group_0`.
    pub label: String,
    pub registration: &'static Registration,
    /// The configured scheme; `None` keeps the tensors as they are.
    pub scheme: Option<Box<dyn Scheme>>,
    pub targets: Vec<Located<Pattern>>,
    pub ignore: Vec<Located<Pattern>>,
    /// Whether the rule's patterns may match nothing.
    pub optional: bool,
    /// Where the rule stands in the text; the modifier's place for a rule that is implied.
    pub span: Range<usize>,
}

/// A value and where it stands in the recipe text.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}
