//! One rule of a recipe, whichever front end read it.

use std::ops::Range;

use qwen_fp8_schemes::{Registration, Scheme};
use serde_json::{Map, Value};

use crate::checkpoint::pattern::Pattern;

/// One rule: a scheme and the layers it takes.
#[derive(Debug)]
pub struct Rule {
    /// How messages call it: `rule 2 (FP8_DYNAMIC)`, `group_0`.
    pub label: String,
    pub registration: &'static Registration,
    /// The configured scheme; `None` keeps the tensors as they are.
    pub scheme: Option<Box<dyn Scheme>>,
    /// The scheme's options as they are written.
    pub options: Map<String, Value>,
    pub targets: Vec<Located<Pattern>>,
    pub ignore: Vec<Located<Pattern>>,
    /// Whether the rule's patterns may match nothing.
    pub optional: bool,
    /// Whether the rule may take layers that are FP8 already, which are decoded first.
    pub requantize: bool,
    /// Where the rule stands in the text; the modifier's place for a rule that is implied.
    pub span: Range<usize>,
}

/// A value and where it stands in the recipe text.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}
