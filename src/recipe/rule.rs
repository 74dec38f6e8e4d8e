//! One rule of a recipe, whichever front end read it.

use std::ops::Range;

use qwen_fp8_schemes::{Registration, Scheme};
use serde_json::{Map, Value};

use crate::checkpoint::pattern::Pattern;
use crate::recipe::policy::MisfitPolicy;

/// One rule: a scheme and the layers it takes.
#[derive(Debug)]
pub struct Rule {
    /// The rule's name in messages, such as `rule 2 (FP8_DYNAMIC)` or `group_0`.
    pub label: String,
    pub registration: &'static Registration,
    /// The configured scheme; `None` for a rule that quantizes nothing.
    pub scheme: Option<Box<dyn Scheme>>,
    /// The scheme's options as the recipe writes them.
    pub options: Map<String, Value>,
    pub targets: Vec<Located<Pattern>>,
    pub ignore: Vec<Located<Pattern>>,
    /// `Linear` takes the linear layers of every part of the model, as it does in llm-compressor, and not only those that
    /// servers build quantized.
    pub linear_is_every_part: bool,
    /// The rule's patterns may match nothing.
    pub optional: bool,
    /// The rule may take layers that are FP8 already, which are decoded first.
    pub requantize: bool,
    /// What the rule does with layers that its blocks or groups do not fit.
    pub on_misfit: MisfitPolicy,
    /// The rule's place in the text; the modifier's place for a rule that is implied.
    pub span: Range<usize>,
}

/// A value and its place in the recipe text.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub span: Range<usize>,
}
