//! The fields of llm-compressor's `QuantizationModifier`, as far as they need no data.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::spellings::{BlockStructure, Count, DynamicName, Flag, NumberType, StrategyName, any_case};
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

    /// The quantization of key and value caches, which needs calibration data: only `null` is accepted. `kv_cache: fp8` at
    /// the top of the recipe is an FP8 cache without.
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
    let mut names = Vec::new();
    for registration in qwen_fp8_schemes::registered() {
        for name in std::iter::once(&registration.name).chain(registration.aliases) {
            choices.push(json!({ "const": name, "description": registration.summary }));
            names.push(*name);
        }
    }
    let pattern = any_case(names.into_iter());
    choices.push(json!({ "type": "string", "pattern": pattern }));
    choices.push(json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "patternProperties": { pattern: upstream_targets(generator) },
    }));
    json_schema!({ "anyOf": choices, "examples": ["FP8_DYNAMIC"] })
}
