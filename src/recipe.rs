//! A recipe: which scheme takes which layers, in which order, and into which layout.

use std::ops::Range;
use std::path::Path;

use qwen_fp8_schemes::{Format, Registration, Scheme};
use serde_json::{Map, Value};

use crate::checkpoint::pattern::Pattern;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;
use crate::recipe::text::Language;

mod build;
pub mod diagnostic;
mod document;
mod explain;
mod fields;
mod llmcompressor;
mod nearest;
pub mod schema;
mod suggest;
mod text;
mod validate;

pub use nearest::nearest;
pub use schema::recipe_schema;
pub use text::RecipeText;

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
    pub serving: ServingPolicy,
    pub on_nonfinite: NonFinitePolicy,
    pub experts: ExpertsPolicy,
    /// In order of precedence: the first rule that takes a tensor decides.
    pub rules: Vec<Rule>,
}

/// Whose grammar a recipe follows, which decides how strictly its patterns are held to the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: a pattern that matches nothing is an error.
    Native,
    /// llm-compressor's: a pattern that matches nothing is a warning.
    LlmCompressor,
}

/// What becomes of a plan that servers would refuse or load wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServingPolicy {
    /// It is an error, before anything is written.
    #[default]
    Enforce,
    /// It is a warning, and the output is written.
    Warn,
}

/// What becomes of a NaN or an infinity in a weight that is to be quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinitePolicy {
    /// It ends the run, and is named by tensor, row and column.
    #[default]
    Error,
    /// It is kept as llm-compressor keeps it, which spoils all weights under its scale, and reported.
    Keep,
}

/// What becomes of experts that the checkpoint stacks in three dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpertsPolicy {
    /// They are an error, unless a rule keeps them.
    #[default]
    Error,
    /// Each expert gets matrices of its own, `experts.0.gate_proj` and so on, which rules then take or leave.
    Split,
    /// They stay as they are.
    Keep,
}

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

/// Why a file is no recipe: every diagnostic, and the text that they point into.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", diagnostic::render(.diagnostics, .text, false))]
pub struct RecipeError {
    pub text: RecipeText,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// More diagnostics than this help nobody.
const MAX_FINDINGS: usize = 50;

impl Recipe {
    /// Reads and understands the recipe file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        match RecipeText::read(path) {
            Ok(text) => Self::parse(text),
            Err(diagnostic) => {
                Err(RecipeError { text: RecipeText::new(path, String::new()), diagnostics: vec![diagnostic] })
            }
        }
    }

    /// Understands a text; the extension of its path says whether it is YAML or TOML.
    ///
    /// # Errors
    /// Everything that is wrong with the text, at once.
    pub fn parse(text: RecipeText) -> Result<Self, RecipeError> {
        let document = match Language::of(&text.path).and_then(|language| Document::parse(&text.text, language)) {
            Ok(document) => document,
            Err(diagnostic) => return Err(RecipeError { text, diagnostics: vec![diagnostic] }),
        };
        let checked = validate::check(&document);
        let mut diagnostics = checked.diagnostics;
        let built = checked.form.map(|form| build::build(&document, form, &checked.broken));
        if let Some(built) = &built
            && built.rules.is_empty()
            && built.diagnostics.is_empty()
            && diagnostics.is_empty()
        {
            diagnostics.push(Diagnostic::error("the recipe has no rules: it would quantize nothing"));
        }
        match built {
            Some(built) if diagnostics.is_empty() && built.diagnostics.is_empty() => Ok(Self {
                text,
                dialect: built.dialect,
                model: built.header.model,
                output: built.header.output,
                format: built.format,
                max_shard_size: built.header.max_shard_size.map(|size| size.0),
                serving: built.header.serving,
                on_nonfinite: built.header.on_nonfinite,
                experts: built.header.experts,
                rules: built.rules,
            }),
            built => {
                diagnostics.extend(built.into_iter().flat_map(|built| built.diagnostics));
                Err(RecipeError { text, diagnostics: in_order(diagnostics) })
            }
        }
    }
}

fn in_order(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| (span.start, span.end)));
    diagnostics.dedup();
    let rest = diagnostics.len().saturating_sub(MAX_FINDINGS);
    diagnostics.truncate(MAX_FINDINGS);
    if rest > 0 {
        diagnostics.push(Diagnostic::error(format!("{rest} more errors are not shown")));
    }
    diagnostics
}
