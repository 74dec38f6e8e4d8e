//! The keys that every recipe may have beside its rules: their types, and with them their part of the JSON Schema.

use std::sync::LazyLock;

use qwen_fp8_schemes::Format;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::recipe::byte_size::ByteSize;
use crate::recipe::expect::ExpectKeys;
use crate::recipe::model_card::ModelCardOptions;
use crate::recipe::policy::{CacheDtype, ExpertsPolicy, NonFinitePolicy, ServingPolicy};
use crate::recipe::schema::{object_of, properties};

/// The keys of a recipe beside its rules.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
pub(super) struct RecipeHeader {
    /// Path of this file's JSON Schema, for editors. The tool itself does not read it.
    #[serde(rename = "$schema", default)]
    #[schemars(with = "String", extend("examples" = ["../schemas/recipe.schema.json"]))]
    #[expect(dead_code, reason = "accepted for editors and never read")]
    schema: Option<String>,

    /// The version of the recipe language; 1 is the only one.
    #[serde(default)]
    #[schemars(schema_with = "version", default = "first_version")]
    #[expect(dead_code, reason = "the schema holds it to the one version there is")]
    version: Option<u64>,

    /// The checkpoint to quantize: a directory, or a model id, which is read from the hub unless it lies in the Hugging Face cache. `--model`
    /// on the command line overrides it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["Qwen/Qwen3-VL-8B-Instruct", "./my-checkpoint"]))]
    pub(super) model: Option<String>,

    /// LoRA adapters in PEFT's layout, which are merged into the weights before these are quantized, one after the other:
    /// directories with an `adapter_config.json`, or ids of such in the Hugging Face cache. What is quantized is what PEFT's
    /// `merge_and_unload` gives, byte for byte.
    #[serde(default)]
    #[schemars(schema_with = "adapters")]
    pub(super) adapters: Vec<String>,

    /// The directory to write, which must not exist. `--output` on the command line overrides it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["Qwen3-VL-8B-Instruct-FP8"]))]
    pub(super) output: Option<String>,

    /// The layout of the output, which decides the tensor names and the `quantization_config` in `config.json`. Without
    /// it: `fp8` where that layout has a place for the scales of every scheme in the recipe, else `compressed-tensors`.
    #[serde(default)]
    #[schemars(with = "FormatName", extend("examples" = ["compressed-tensors"]))]
    pub(super) format: Option<FormatName>,

    /// A directory with what is known of further models, a `.yaml` file for each family, which comes before what is built
    /// in; relative to the working directory, as `model` is. `--models` on the command line comes first.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["./models"]))]
    pub(super) models: Option<String>,

    /// The largest output shard, in bytes or with a unit (1 GB is 10^9 bytes, 1 GiB is 2^30). Without it, the output is
    /// cut into shards as the source is.
    #[serde(default)]
    #[schemars(with = "ByteSize")]
    pub(super) max_shard_size: Option<ByteSize>,

    /// The action when a server would refuse the output or load it wrong: `enforce` stops with an error before anything
    /// is written, `warn` prints a warning and writes the output.
    #[serde(default)]
    #[schemars(extend("examples" = ["warn"]))]
    pub(super) serving: ServingPolicy,

    /// The action on a non-finite value (NaN or infinity) in a weight that is to be quantized: `error` ends the run and
    /// names the tensor, row and column; `keep` lets the value through as llm-compressor does, so that all weights under
    /// its scale become NaN or zero. Only FP8 schemes accept `keep`.
    #[serde(default)]
    #[schemars(extend("examples" = ["keep"]))]
    pub(super) on_nonfinite: NonFinitePolicy,

    /// The handling of experts that the checkpoint of a mixture-of-experts model stacks in three-dimensional tensors:
    /// `split` turns each expert into the matrices that servers load (`experts.0.gate_proj`, …), which the rules then
    /// take; `split_or_keep` does so where servers load what the stacks become, and leaves them unquantized with a note
    /// where none does or where it is not known how they lie; `keep` leaves the stacks unquantized; `error` stops unless a
    /// `PASSTHROUGH` rule takes them. Experts that are stored one by one are not affected.
    #[serde(default)]
    #[schemars(extend("examples" = ["split"]))]
    pub(super) experts: ExpertsPolicy,

    /// The dtype of keys and values in the cache of servers that read it in `config.json`, as vLLM does in `format:
    /// compressed-tensors`: `fp8` is what `--kv-cache-dtype fp8` asks for, with scales of one in place of those that
    /// llm-compressor measures on calibration data. Most models lose little by it, and some much.
    #[serde(default)]
    #[schemars(extend("examples" = ["fp8"]))]
    pub(super) kv_cache: CacheDtype,

    /// The model card (`README.md`) of the output: the source's, with the metadata by which the Hugging Face hub knows a
    /// quantized model, sizes, and the recipe.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "base_model": "Qwen/Qwen3-VL-8B-Instruct" }]))]
    pub(super) model_card: ModelCardOptions,

    /// What the plan must come to: numbers of tensors, layers that are quantized and that are not, the largest output.
    /// `plan` and `apply` stop with an error where it is otherwise.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "quantized": 252, "unquantized_layers": ["re:.*visual.*"] }]))]
    pub(super) expect: ExpectKeys,
}

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

fn adapters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "minLength": 1 },
        "minItems": 1,
        "examples": [["./my-adapter"]],
    })
}

fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": 1, "examples": [1] })
}

fn first_version() -> u64 {
    1
}

static PROPERTIES: LazyLock<Map<String, Value>> = LazyLock::new(|| properties(&object_of::<RecipeHeader>()));

/// The keys that every form of a recipe may have.
pub(super) fn header_keys() -> impl Iterator<Item = &'static str> {
    PROPERTIES.keys().map(String::as_str)
}

/// The JSON Schema of the header's keys, for forms whose format is this one where none is written.
pub(super) fn header_properties(format: Format) -> Map<String, Value> {
    let mut header = PROPERTIES.clone();
    header["format"]["default"] = FormatName::of(format).into();
    header
}
