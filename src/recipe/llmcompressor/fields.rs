//! The fields of llm-compressor's `QuantizationModifier`, as far as they need no data.

use std::borrow::Cow;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::recipe::patterns::{Patterns, upstream_ignore, upstream_targets};

/// The fields of a `QuantizationModifier`.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(in crate::recipe) struct Modifier {
    /// The layers that the modifier quantizes: class names, full module names, or `re:` and a regular expression. Groups
    /// have targets of their own.
    #[serde(default = "linear")]
    #[schemars(schema_with = "upstream_targets")]
    pub(super) targets: Patterns,

    /// The layers that the modifier leaves unquantized, as patterns of the same kinds.
    #[serde(default)]
    #[schemars(schema_with = "upstream_ignore", default)]
    pub(super) ignore: Patterns,

    /// The name of a scheme in any case, or a map of such names to their targets. Give this or `config_groups`.
    #[serde(default)]
    #[schemars(schema_with = "scheme")]
    pub(super) scheme: Option<Value>,

    /// Groups of layers by name, each with explicit quantization arguments. Give this or `scheme`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ModifierGroup>", extend("minProperties" = 1, "examples" = [groups()]))]
    pub(super) config_groups: Option<IndexMap<String, ModifierGroup>>,

    /// The quantization of key and value caches, which needs calibration data: only `null` is accepted.
    #[serde(default)]
    #[schemars(with = "()", extend("examples" = [null]))]
    #[expect(dead_code, reason = "the schema accepts nothing but null")]
    kv_cache_scheme: Option<()>,

    /// The observer that finds the range of a weight. The accepted ones all take its least and greatest value.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) weight_observer: Option<String>,

    /// The observer that finds the range of an input. It has no effect because inputs are quantized dynamically.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) input_observer: Option<String>,

    /// The observer that finds the range of an output. It has no effect because outputs are not quantized.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) output_observer: Option<String>,

    /// The observers of `weights`, `input` and `output` in one map.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "weights": "memoryless_minmax" }]))]
    pub(super) observer: Option<Observers>,

    /// Makes llm-compressor skip its check that shapes are divisible. This tool checks them all the same.
    #[serde(default)]
    #[schemars(extend("examples" = [false]))]
    #[expect(dead_code, reason = "accepted because llm-compressor writes it")]
    bypass_divisibility_checks: Option<Flag>,

    /// A note that llm-compressor leaves in the recipes that it writes; `true` is refused.
    #[serde(default)]
    #[schemars(extend("examples" = [false]))]
    pub(super) requires_calibration_data: Option<Flag>,
}

/// The observers of a modifier in one map.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(in crate::recipe) struct Observers {
    /// The same as `weight_observer`.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) weights: Option<String>,

    /// The same as `input_observer`.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) input: Option<String>,

    /// The same as `output_observer`.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) output: Option<String>,
}

/// One entry of `config_groups`.
#[derive(Debug, serde::Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(in crate::recipe) struct ModifierGroup {
    /// The layers that the group takes.
    #[schemars(schema_with = "upstream_targets")]
    pub(super) targets: Patterns,

    /// The quantization of the weights.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true }]))]
    pub(super) weights: Option<GroupArguments>,

    /// The quantization of a layer's input while the model runs. Without it, inputs stay unquantized.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "num_bits": 8, "type": "float", "strategy": "token", "dynamic": true }]))]
    pub(super) input_activations: Option<GroupArguments>,

    /// The quantization of a layer's output, which no scheme supports: only `null` is accepted.
    #[serde(default)]
    #[schemars(extend("examples" = [null]))]
    pub(super) output_activations: Option<GroupArguments>,

    /// The storage format by its compressed-tensors name. Without it: the scheme's own.
    #[serde(default)]
    #[schemars(extend("examples" = ["float-quantized"]))]
    pub(super) format: Option<String>,
}

/// compressed-tensors' `QuantizationArgs` as a recipe writes them.
#[derive(Clone, Debug, serde::Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(in crate::recipe) struct GroupArguments {
    /// The number of bits of a quantized value.
    #[serde(default = "eight")]
    #[schemars(extend("examples" = [8, 4]))]
    pub(super) num_bits: Count,

    /// The type of the quantized values.
    #[serde(rename = "type", default)]
    #[schemars(extend("examples" = ["float"]))]
    pub(super) kind: NumberType,

    /// Makes the range symmetric around zero, so that no zero points are needed.
    #[serde(default = "yes")]
    #[schemars(extend("examples" = [true]))]
    pub(super) symmetric: Flag,

    /// The number of columns that share a scale, for the strategies `group` and `tensor_group`; -1 means `channel`.
    #[serde(default)]
    #[schemars(extend("examples" = [128]))]
    pub(super) group_size: Option<Count>,

    /// The elements that share a scale. Without it: `group` where there is a `group_size`, else `tensor`.
    #[serde(default)]
    #[schemars(extend("examples" = ["channel"]))]
    pub(super) strategy: Option<StrategyName>,

    /// The rows and columns of a block that shares a scale, for the strategy `block`: `[128, 128]` or `128x128`.
    #[serde(default)]
    #[schemars(extend("examples" = [[128, 128], "128x128"]))]
    pub(super) block_structure: Option<BlockStructure>,

    /// Computes the scales while the model runs. Static and local scales of inputs need calibration data.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) dynamic: Option<DynamicName>,

    /// The order in which GPTQ visits columns, which needs calibration data: only `null` and `false` are accepted.
    #[serde(default)]
    #[schemars(schema_with = "actorder")]
    pub(super) actorder: Option<Value>,

    /// The dtype of a stored scale. Without it: the dtype of the weight.
    #[serde(default)]
    #[schemars(extend("examples" = ["torch.uint8"]))]
    pub(super) scale_dtype: Option<String>,

    /// The dtype of a stored zero point, which a symmetric range does not have.
    #[serde(default)]
    #[schemars(extend("examples" = ["torch.int8"]))]
    #[expect(dead_code, reason = "it follows from `symmetric`")]
    zp_dtype: Option<String>,

    /// The observer that finds the range. The accepted ones all take the least and greatest value.
    #[serde(default)]
    #[schemars(extend("examples" = ["memoryless_minmax"]))]
    pub(super) observer: Option<String>,

    /// Arguments of the observer. The accepted ones take none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>", extend("maxProperties" = 0, "examples" = [{}]))]
    #[expect(dead_code, reason = "the schema holds it empty")]
    observer_kwargs: Option<Value>,
}

/// The type of quantized values.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, serde::Serialize)]
pub(in crate::recipe) enum NumberType {
    #[default]
    #[serde(rename = "int", alias = "INT", alias = "Int")]
    Int,
    #[serde(rename = "float", alias = "FLOAT", alias = "Float")]
    Float,
}

impl JsonSchema for NumberType {
    fn schema_name() -> Cow<'static, str> {
        "NumberType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["int", "float", "INT", "FLOAT", "Int", "Float"] })
    }
}

/// The granularity of the scales, by compressed-tensors' names.
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::recipe) enum StrategyName {
    /// All of the tensor.
    Tensor,
    /// A row of a weight.
    Channel,
    /// `group_size` columns of a row.
    Group,
    /// A block of `block_structure`.
    Block,
    /// A token of an input.
    Token,
    /// The same as `group`, with a global scale for the tensor.
    TensorGroup,
    /// A head of an attention layer.
    AttnHead,
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
        json_schema!({ "enum": [true, false, "local", "true", "false"] })
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

/// A boolean that may be written as a string.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(value) => Ok(Self(value)),
            Value::String(text) if text == "true" => Ok(Self(true)),
            Value::String(text) if text == "false" => Ok(Self(false)),
            _ => Err(de::Error::custom("not a boolean")),
        }
    }
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
        json_schema!({ "enum": [true, false, "true", "false"] })
    }
}

/// Rows and columns of a block, as `[128, 128]` or `128x128`.
#[derive(Clone, Copy, Debug)]
pub(in crate::recipe) struct BlockStructure(pub(super) [usize; 2]);

impl<'de> Deserialize<'de> for BlockStructure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let block = match &value {
            Value::String(text) => text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?])),
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
            { "type": "string", "pattern": "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$", "examples": ["128x128"] },
        ]})
    }
}

fn linear() -> Patterns {
    Patterns::One("Linear".to_owned())
}

fn eight() -> Count {
    Count(8)
}

fn yes() -> Flag {
    Flag(true)
}

fn groups() -> Value {
    json!({ "group_0": {
        "targets": ["Linear"],
        "weights": { "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true, "dynamic": false },
        "input_activations": { "num_bits": 8, "type": "float", "strategy": "token", "symmetric": true, "dynamic": true },
    }})
}

fn actorder(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["null", "boolean", "string"], "examples": [null] })
}

/// Any registered name in any case, or a map from such names to their targets.
fn scheme(generator: &mut SchemaGenerator) -> Schema {
    let mut choices: Vec<Value> = Vec::new();
    let mut any_case = Vec::new();
    for registration in qwen_fp8_schemes::registered() {
        for name in std::iter::once(&registration.name).chain(registration.aliases) {
            choices.push(json!({ "const": name, "description": registration.summary }));
            any_case.push(letters_in_any_case(name));
        }
    }
    let pattern = format!("^({})$", any_case.join("|"));
    choices.push(json!({ "type": "string", "pattern": pattern }));
    choices.push(json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "patternProperties": { pattern: upstream_targets(generator) },
    }));
    json_schema!({ "anyOf": choices, "examples": ["FP8_DYNAMIC"] })
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
