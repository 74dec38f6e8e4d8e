//! The spellings in which llm-compressor reads numbers, flags, words and blocks: as YAML 1.1 and pydantic do.
//!
//! Words are read in any case, flags as `on`, `yes` or `1` too, and a block's sides with blanks between them. The schema
//! takes what the reader takes, so that no editor marks a file that works.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::recipe::wording::SPELLINGS;

/// The type of quantized values.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::recipe) enum NumberType {
    #[default]
    Int,
    Float,
}

const NUMBER_TYPES: [(&str, NumberType); 2] = [("int", NumberType::Int), ("float", NumberType::Float)];

impl<'de> Deserialize<'de> for NumberType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(&NUMBER_TYPES, deserializer)
    }
}

impl JsonSchema for NumberType {
    fn schema_name() -> Cow<'static, str> {
        "NumberType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words(&[("int", ""), ("float", "")])
    }
}

/// The granularity of the scales, by compressed-tensors' names.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) enum StrategyName {
    Tensor,
    Channel,
    Group,
    Block,
    Token,
    TensorGroup,
    AttnHead,
}

const STRATEGIES: [(&str, StrategyName); 7] = [
    ("tensor", StrategyName::Tensor),
    ("channel", StrategyName::Channel),
    ("group", StrategyName::Group),
    ("block", StrategyName::Block),
    ("token", StrategyName::Token),
    ("tensor_group", StrategyName::TensorGroup),
    ("attn_head", StrategyName::AttnHead),
];

impl<'de> Deserialize<'de> for StrategyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(&STRATEGIES, deserializer)
    }
}

impl JsonSchema for StrategyName {
    fn schema_name() -> Cow<'static, str> {
        "StrategyName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words(&[
            ("tensor", "All of the tensor."),
            ("channel", "A row of a weight."),
            ("group", "`group_size` columns of a row."),
            ("block", "A block of `block_structure`."),
            ("token", "A token of an input."),
            ("tensor_group", "The same as `group`, with a global scale for the tensor."),
            ("attn_head", "A head of an attention layer."),
        ])
    }
}

/// The time at which scales are computed.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub(in crate::recipe) enum DynamicName {
    Flag(Flag),
    Word(String),
}

impl JsonSchema for DynamicName {
    fn schema_name() -> Cow<'static, str> {
        "Dynamic".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let values = [json!(true), json!(false), json!("local")].map(|value| json!({ "const": value }));
        json_schema!({ "anyOf": [values[0], values[1], values[2], flag_spellings()] })
    }
}

/// An integer that may be written as a string.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) struct Count(pub(super) i64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::String(text) => text.parse().ok(),
            other => other.as_i64(),
        };
        number.map(Self).ok_or_else(|| de::Error::custom("not an integer"))
    }
}

impl serde::Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": -1, "maximum": 65536 },
            { "type": "string", "pattern": "^(-1|[0-9]{1,5})$", "examples": ["8"] },
        ]})
    }
}

/// A boolean, or what YAML 1.1 and pydantic take for one.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) struct Flag(pub(super) bool);

const TRUE: [&str; 6] = ["true", "yes", "on", "y", "t", "1"];
const FALSE: [&str; 6] = ["false", "no", "off", "n", "f", "0"];

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let flag = match &value {
            Value::Bool(value) => Some(*value),
            Value::String(text) => spelt_flag(&text.to_ascii_lowercase()),
            // JSON Schema takes 1.0 for 1.
            Value::Number(number) => number.as_f64().and_then(|number| spelt_flag(&number.to_string())),
            _ => None,
        };
        flag.map(Self).ok_or_else(|| de::Error::custom("not a boolean"))
    }
}

fn spelt_flag(lower: &str) -> Option<bool> {
    if TRUE.contains(&lower) { Some(true) } else { FALSE.contains(&lower).then_some(false) }
}

fn flag_spellings() -> Value {
    let words = any_case(TRUE.into_iter().chain(FALSE));
    json!({ "$comment": SPELLINGS, "anyOf": [{ "enum": [0, 1] }, { "type": "string", "pattern": words }] })
}

impl serde::Serialize for Flag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.0)
    }
}

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": true }, { "const": false }, flag_spellings()] })
    }
}

/// Rows and columns of a block, as `[128, 128]` or `128x128`.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) struct BlockStructure(pub(super) [usize; 2]);

impl<'de> Deserialize<'de> for BlockStructure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let block = match &value {
            Value::String(text) => {
                text.split_once('x').and_then(|(h, w)| Some([h.trim().parse().ok()?, w.trim().parse().ok()?]))
            }
            other => serde_json::from_value(other.clone()).ok(),
        };
        block.map(Self).ok_or_else(|| de::Error::custom("not a block"))
    }
}

impl JsonSchema for BlockStructure {
    fn schema_name() -> Cow<'static, str> {
        "BlockStructure".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let side = json!({ "type": "integer", "minimum": 1, "maximum": 65536 });
        json_schema!({ "anyOf": [
            { "type": "array", "items": side, "minItems": 2, "maxItems": 2 },
            { "type": "string", "pattern": "^ *[1-9][0-9]{0,4} *x *[1-9][0-9]{0,4} *$", "examples": ["128x128"] },
        ]})
    }
}

fn word<'de, D: Deserializer<'de>, T: Copy>(words: &[(&str, T)], deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?.to_ascii_lowercase();
    let known = words.iter().find(|(word, _)| *word == text);
    known.map(|(_, value)| *value).ok_or_else(|| de::Error::custom("not a known word"))
}

/// The schema of words in any case; editors complete the plain ones.
fn words(words: &[(&str, &str)]) -> Schema {
    let mut choices: Vec<Value> = Vec::new();
    for (word, description) in words {
        choices.push(if description.is_empty() {
            json!({ "type": "string", "const": word })
        } else {
            json!({ "type": "string", "const": word, "description": description })
        });
    }
    let any_case = any_case(words.iter().map(|(word, _)| *word));
    choices.push(json!({ "$comment": SPELLINGS, "type": "string", "pattern": any_case }));
    json_schema!({ "anyOf": choices })
}

/// The regex of these words in any case.
pub(super) fn any_case<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(letters_in_any_case).collect();
    format!("^({})$", words.join("|"))
}

/// `FP8` → `[Ff][Pp]8`: JSON Schema's regexes have no flags.
fn letters_in_any_case(name: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphabetic() {
            format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase())
        } else {
            c.to_string()
        }
    };
    name.chars().map(letter).collect()
}
