//! A recipe: which scheme takes which layers, in which order, and into which layout.
//!
//! A text becomes a document with the place of every value (`document`); a front end, picked by the document's keys
//! (`front`), validates it against its JSON Schema and builds rules from it. Each dialect is a folder.

use std::io::Read;
use std::path::Path;

use qwen_fp8_schemes::Format;

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;
use crate::recipe::language::Language;

mod build;
mod byte_size;
pub mod diagnostic;
mod document;
mod error;
mod expect;
mod explain;
mod families;
mod file;
mod file_meant;
mod foreign_schemes;
mod front;
mod front_end;
mod header;
mod language;
mod llmcompressor;
mod model_card;
mod native;
mod nearest;
mod patterns;
mod policy;
mod python;
mod rule;
mod schema;
mod suggest;
mod text;
mod validate;
mod violation;
mod wording;

pub use error::RecipeError;
pub use expect::Expectations;
pub use families::{FamiliesError, read_families};
pub use front::recipe_schema;
pub use model_card::ModelCardOptions;
pub use nearest::{near_words, nearest, nearest_names};
pub use policy::{CacheDtype, Dialect, ExpertsPolicy, MisfitPolicy, NonFinitePolicy, ServingPolicy};
pub use rule::{Located, Rule};
pub use schema::options_schema;
pub use suggest::{nearest_word, scheme_help};
pub use text::{RecipeText, STDIN, TextPosition};

/// A recipe that was read, validated against the schema and understood.
#[derive(Debug)]
pub struct Recipe {
    /// The text that every span points into.
    pub text: RecipeText,
    pub dialect: Dialect,
    /// A directory, or a model id of the Hugging Face hub.
    pub model: Option<String>,
    /// The adapters that are merged into the weights, one after the other: directories, or ids in the Hugging Face cache.
    pub adapters: Vec<Located<String>>,
    pub output: Option<String>,
    /// The directory with what is known of further models.
    pub models: Option<Located<String>>,
    pub format: Format,
    /// The largest output shard in bytes; `None` cuts the output into shards as the source is.
    pub max_shard_size: Option<u64>,
    pub serving: ServingPolicy,
    pub on_nonfinite: NonFinitePolicy,
    pub experts: ExpertsPolicy,
    /// The dtype of keys and values that `config.json` is to ask servers for.
    pub kv_cache: CacheDtype,
    /// The rules in order of precedence: the first one that takes a tensor decides.
    pub rules: Vec<Rule>,
    /// What the model card of the output says.
    pub model_card: ModelCardOptions,
    /// What the plan must come to.
    pub expect: Expectations,
}

impl RecipeText {
    /// Reads the recipe file at `path`, whatever it says.
    ///
    /// # Errors
    /// The file cannot be read as text.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        file::read(path, file::RECIPE).map_err(|diagnostic| RecipeError::of_file(path, diagnostic))
    }
}

impl Recipe {
    /// Reads and understands the recipe file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is no valid recipe; the error has every diagnostic.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        Self::parse(RecipeText::read(path)?)
    }

    /// Reads and understands a recipe from a stream such as standard input, which messages call [`STDIN`].
    ///
    /// # Errors
    /// The stream cannot be read, or holds no valid recipe; the error has every diagnostic.
    pub fn read_stream(stream: impl Read) -> Result<Self, RecipeError> {
        Self::parse(file::read_stream(stream).map_err(|diagnostic| RecipeError::of_file(Path::new(STDIN), diagnostic))?)
    }

    /// Understands a text; the extension of its path says whether it is YAML or TOML, the text itself where it is from
    /// [`STDIN`].
    ///
    /// # Errors
    /// The text is no valid recipe; the error has every diagnostic.
    pub fn parse(text: RecipeText) -> Result<Self, RecipeError> {
        let document = match Language::of(&text).and_then(|language| language.parse(&text.text)) {
            Ok(document) => document,
            Err(diagnostic) => return Err(refused(text, vec![diagnostic])),
        };
        match front::understand(&document) {
            Ok(understood) => Ok(Self {
                text,
                dialect: understood.dialect,
                model: understood.header.model,
                adapters: located(&document, understood.header.adapters),
                output: understood.header.output,
                models: understood.header.models.map(|value| Located { value, span: document.spans.value("/models") }),
                format: understood.format,
                max_shard_size: understood.header.max_shard_size.map(|size| size.0),
                serving: understood.header.serving,
                on_nonfinite: understood.header.on_nonfinite,
                experts: understood.header.experts,
                kv_cache: understood.header.kv_cache,
                model_card: understood.header.model_card,
                rules: understood.rules,
                expect: understood.expect,
            }),
            Err(diagnostics) => Err(refused(text, diagnostics)),
        }
    }
}

/// The adapters of a document, each with its place.
fn located(document: &Document, adapters: Vec<String>) -> Vec<Located<String>> {
    let located = |(number, value)| Located { value, span: document.spans.value(&format!("/adapters/{number}")) };
    adapters.into_iter().enumerate().map(located).collect()
}

/// The error of a text; Python code in it is said to be that, with the recipe that it comes down to.
fn refused(text: RecipeText, mut diagnostics: Vec<Diagnostic>) -> RecipeError {
    if let Some(python) = python::diagnostic(&text.text, text.is_toml()) {
        diagnostics = vec![python];
    }
    RecipeError::new(text, diagnostics)
}
