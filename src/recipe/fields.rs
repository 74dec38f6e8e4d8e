//! The keys of a recipe that no scheme adds: their types, and with them their part of the JSON Schema.

use std::borrow::Cow;

use qwen_fp8_schemes::Format;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};

use crate::checkpoint::text;
use crate::recipe::document::child;
use crate::recipe::{ExpertsPolicy, NonFinitePolicy, ServingPolicy};

/// What a recipe says beside its rules.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
pub(super) struct Header {
    /// Where an editor finds the schema of this file. The tool itself does not read it.
    #[serde(rename = "$schema", default)]
    #[schemars(with = "String", extend("examples" = ["../schemas/recipe.schema.json"]))]
    #[expect(dead_code, reason = "accepted for editors and never read")]
    schema: Option<String>,

    /// The version of the recipe language. There is one.
    #[serde(default)]
    #[schemars(schema_with = "version", default = "first_version")]
    #[expect(dead_code, reason = "the schema holds it to the one version there is")]
    version: Option<u64>,

    /// The checkpoint to quantize: a directory, or a model id that is looked up in the Hugging Face cache. `--model`
    /// on the command line overrides it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["Qwen/Qwen3-VL-8B-Instruct", "./my-checkpoint"]))]
    pub(super) model: Option<String>,

    /// The directory to write, which must not exist. `--output` on the command line overrides it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["Qwen3-VL-8B-Instruct-FP8"]))]
    pub(super) output: Option<String>,

    /// The layout of the output, which decides the tensor names and what `config.json` says. Without it: `fp8` where that
    /// layout has a place for every scheme of the recipe, else `compressed-tensors`.
    #[serde(default)]
    #[schemars(with = "FormatName", extend("examples" = ["compressed-tensors"]))]
    pub(super) format: Option<FormatName>,

    /// The largest output shard, in bytes or with a unit (1 GB is 10^9 bytes, 1 GiB is 2^30). Without it, the output is
    /// cut into shards as the source is.
    #[serde(default)]
    #[schemars(with = "ByteSize")]
    pub(super) max_shard_size: Option<ByteSize>,

    /// What happens when a server would refuse the output or load it wrong: `enforce` makes it an error before anything
    /// is written, `warn` a warning.
    #[serde(default)]
    #[schemars(extend("examples" = ["warn"]))]
    pub(super) serving: ServingPolicy,

    /// What happens to a NaN or an infinity in a weight that is to be quantized: `error` ends the run and names it, `keep`
    /// carries it into the output as llm-compressor does, where all weights under its scale become NaN or zero. FP8 schemes
    /// only.
    #[serde(default)]
    #[schemars(extend("examples" = ["keep"]))]
    pub(super) on_nonfinite: NonFinitePolicy,

    /// What happens to the experts of a mixture-of-experts model that the checkpoint stacks in three dimensions: `split`
    /// makes of each expert the matrices that servers know (`experts.0.gate_proj`, …), which the rules then take; `keep`
    /// leaves the stacks as they are; `error` stops unless a rule keeps them. Experts that are stored one by one need
    /// nothing.
    #[serde(default)]
    #[schemars(extend("examples" = ["split"]))]
    pub(super) experts: ExpertsPolicy,
}

/// What a rule says beside its scheme and the scheme's options.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(super) struct RuleKeys {
    /// What the rule takes: a class name (`Linear`, `Embedding`, `Conv`, `Norm`, `Router`, `LmHead`, `Experts`), a full
    /// module name, a glob, or `re:` and a regular expression that must match from the start of the module name.
    #[schemars(schema_with = "targets")]
    pub(super) targets: Patterns,

    /// What the rule leaves to the rules after it, in the same patterns.
    #[serde(default)]
    pub(super) ignore: Patterns,

    /// Whether the rule's patterns may match nothing, which is otherwise an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) optional: bool,

    /// Whether the rule may take layers that the checkpoint holds in FP8 already: they are decoded and quantized again.
    /// Without it, such a layer is an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) requantize: bool,
}

/// The keys of [`RuleKeys`] and the discriminator: what is left of a rule are the scheme's options.
pub(super) const RULE_KEYS: [&str; 5] = ["scheme", "targets", "ignore", "optional", REQUANTIZE];

/// The key of a rule that only quantizing ones have.
pub(super) const REQUANTIZE: &str = "requantize";

/// The name of an output layout.
#[derive(Clone, Copy, Debug, serde::Deserialize, JsonSchema)]
pub(super) enum FormatName {
    /// The layout of the official Qwen and DeepSeek FP8 checkpoints: `quant_method: fp8`, scales as `weight_scale_inv`.
    #[serde(rename = "fp8")]
    Fp8,
    /// The layout that llm-compressor writes: `quant_method: compressed-tensors`, scales as `weight_scale`.
    #[serde(rename = "compressed-tensors")]
    CompressedTensors,
}

impl FormatName {
    /// The name for a schema's `default`.
    pub(super) fn of(format: Format) -> &'static str {
        match format {
            Format::Fp8 => "fp8",
            Format::CompressedTensors => "compressed-tensors",
        }
    }
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Fp8 => Self::Fp8,
            FormatName::CompressedTensors => Self::CompressedTensors,
        }
    }
}

/// A number of bytes: an integer, or a string with a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteSize(pub(super) u64);

/// JSON holds integers exactly up to here.
const MAX_INTEGER: u64 = (1 << 53) - 1;
impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^[1-9][0-9]{0,5} ?([kKMGT]i?)?B$", "examples": ["5GB", "4GiB"] },
                { "type": "integer", "minimum": 1, "maximum": MAX_INTEGER },
            ],
            "examples": ["5GB", "4GiB", 5_000_000_000_u64],
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text::parse(&text).map(Self).map_err(de::Error::custom),
        }
    }
}

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

fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": 1, "examples": [1] })
}

fn first_version() -> u64 {
    1
}
