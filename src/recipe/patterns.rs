//! The patterns of `targets` and `ignore`, as both dialects write them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::recipe::document::child;

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
        json_schema!({
            "anyOf": [pattern_schema(), { "type": "array", "items": pattern_schema() }],
            "examples": [["lm_head", "re:.*visual.*"]],
        })
    }
}

/// The schema of [`Patterns`] of which there must be one.
pub(super) fn targets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [pattern_schema(), { "type": "array", "items": pattern_schema(), "minItems": 1 }],
        "examples": ["Linear", ["re:.*visual.*", "lm_head"]],
    })
}

fn pattern_schema() -> serde_json::Value {
    serde_json::json!({
        "type": "string",
        "minLength": 1,
        "examples": ["Linear", "re:.*visual.*", "re:.*\\.mlp\\.(gate|up|down)_proj$", "*.self_attn.*_proj", "lm_head"],
    })
}
