//! The patterns of `targets` and `ignore`, as both dialects write them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::recipe::document::child;
use crate::recipe::policy::Dialect;

/// One pattern or a list of patterns.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    One(String),
    Many(Vec<String>),
}

impl Default for Patterns {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Patterns {
    /// Each pattern with its JSON pointer, given the pointer of them all.
    pub(super) fn iter<'a>(&'a self, pointer: &'a str) -> Box<dyn Iterator<Item = (String, &'a str)> + 'a> {
        match self {
            Self::One(text) => Box::new(std::iter::once((pointer.to_owned(), text.as_str()))),
            Self::Many(texts) => {
                Box::new(texts.iter().enumerate().map(move |(index, text)| (child(pointer, index), text.as_str())))
            }
        }
    }
}

impl JsonSchema for Patterns {
    fn schema_name() -> Cow<'static, str> {
        "Patterns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        ignore_of(Dialect::Native)
    }
}

/// The schema of [`Patterns`] of which there must be one.
pub(super) fn targets(_: &mut SchemaGenerator) -> Schema {
    targets_of(Dialect::Native)
}

/// The schema of [`targets`] in llm-compressor's language.
pub(super) fn upstream_targets(_: &mut SchemaGenerator) -> Schema {
    targets_of(Dialect::LlmCompressor)
}

/// The schema of patterns to ignore in llm-compressor's language.
pub(super) fn upstream_ignore(_: &mut SchemaGenerator) -> Schema {
    ignore_of(Dialect::LlmCompressor)
}

fn ignore_of(dialect: Dialect) -> Schema {
    let pattern = pattern_schema(dialect);
    json_schema!({
        "anyOf": [pattern, { "type": "array", "items": pattern }],
        "examples": [["lm_head", "re:.*visual.*"]],
    })
}

fn targets_of(dialect: Dialect) -> Schema {
    let pattern = pattern_schema(dialect);
    json_schema!({
        "anyOf": [pattern, { "type": "array", "items": pattern, "minItems": 1 }],
        "examples": ["Linear", ["re:.*visual.*", "lm_head"]],
    })
}

fn pattern_schema(dialect: Dialect) -> Value {
    let mut schema = json!({
        "type": "string",
        "minLength": 1,
        "examples": ["Linear", "re:.*visual.*", "re:.*\\.mlp\\.(gate|up|down)_proj$", "lm_head"],
    });
    if dialect == Dialect::Native {
        // As an example, a glob would be put into a list without quotes, and YAML takes `*` for an alias.
        let globs = ["*norm*", "*.self_attn.*_proj"];
        schema["defaultSnippets"] = globs.map(|glob| json!({ "label": glob, "body": format!("'{glob}'") })).into();
    }
    schema
}
