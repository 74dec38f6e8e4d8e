//! The file of a family: what no header tells about its models.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::cache::KnownCache;
use super::fused::KnownFused;
use super::name_pattern::NamePattern;
use super::stack::KnownStack;
use super::stored_fused::StoredFused;
use crate::models::kind::LayerKind;
use crate::models::part::Part;

/// A family of models whose layers are known.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FamilyFile {
    /// The name that people use: `Qwen3-VL`.
    #[schemars(length(min = 1), extend("examples" = ["Qwen3-VL"]))]
    pub name: String,
    /// Where the file is from: the user's path, or the file's name in `models/` for one that is built in.
    #[serde(skip)]
    pub origin: String,
    /// True for a file of `models/`, false for one of the user.
    #[serde(skip)]
    pub is_built_in: bool,
    /// The line of each value in a file of the user, by JSON Pointer; of one that is built in, none.
    #[serde(skip)]
    pub lines: BTreeMap<String, usize>,
    /// The classes of `architectures` in config.json.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// The `model_type`s of config.json, for files that name no class.
    #[serde(default)]
    pub model_types: Vec<String>,
    /// The file of another family, all of which holds here too where this file says nothing else: `qwen3_moe`. By its own name,
    /// a file of the user means the one that is built in.
    pub like: Option<String>,
    /// True where the file is for checkpoints of several forms: patterns that take nothing in one of them are then no
    /// warning of `plan`.
    #[serde(default)]
    pub optional: bool,
    /// Layers by the part of the model that they belong to; a layer that no part takes is one of the language model.
    #[serde(default)]
    #[schemars(schema_with = "patterns_by::<Part>")]
    pub parts: BTreeMap<Part, Vec<NamePattern>>,
    /// Layers by their kind, where their names do not say it.
    #[serde(default)]
    #[schemars(schema_with = "patterns_by::<KnownKind>")]
    pub layers: BTreeMap<KnownKind, Vec<NamePattern>>,
    /// The tensors that hold the matrices of all experts of a layer, and what they are split into.
    #[serde(default)]
    pub stacks: Vec<KnownStack>,
    /// Layers that servers fuse of others; a part belongs to the first that has it, of the nearest file.
    #[serde(default)]
    pub fused: Vec<KnownFused>,
    /// Layers that checkpoints hold as one matrix and servers see as several, each of which has to be whole blocks.
    #[serde(default)]
    #[schemars(schema_with = "patterns_by::<StoredFused>")]
    pub stored_fused: BTreeMap<StoredFused, Vec<NamePattern>>,
    /// Layers that some blocks lack, or lack a tensor of, though their siblings are there: `**.self_attn.v_proj`.
    #[serde(default)]
    pub may_lack: Vec<NamePattern>,
    /// Layers whose rows end inside a block of 128 in the official FP8 files, which servers read so:
    /// `**.self_attn.kv_a_proj_with_mqa`.
    #[serde(default)]
    pub cut_rows: Vec<NamePattern>,
    /// Beginnings of names that vLLM spells in another way.
    #[serde(default)]
    pub served: Vec<ServedPrefix>,
    /// Names that vLLM asks of the list of unquantized layers where they are not those on disk.
    #[serde(default)]
    pub asked: Vec<AskedName>,
    /// True where vLLM asks the list for routers too; it builds those of most families without a quantization.
    #[serde(default)]
    pub asks_for_routers: bool,
    /// Layers that vLLM builds quantized whatever a list says: they cannot stay unquantized.
    #[serde(default)]
    pub always_quantized: Vec<NamePattern>,
    /// Patterns for the list of `format: compressed-tensors`, beside the names on disk: they reach other spellings. Each
    /// is written where all that it matches stays unquantized.
    #[serde(default)]
    pub listed_patterns: Vec<String>,
    /// Formats that a server's class cannot load.
    #[serde(default)]
    pub not_loaded: Vec<NotLoaded>,
    /// Layers that predict further tokens (MTP).
    #[serde(default)]
    pub next_tokens: NextTokens,
    /// The reason why nobody has seen vLLM load the family: what lists hold for it then follows from names alone, and `plan`
    /// says so. A file of your own says that you have, by leaving it out.
    pub unproven: Option<String>,
    /// Servers, `vLLM` or `SGLang`, that load no model of the family, whatever is quantized: none is told to serve what was
    /// made.
    #[serde(default)]
    pub unserved: Vec<String>,
    /// The first versions of transformers and vLLM that know the family, for `doctor`.
    pub since: Option<FirstVersions>,
    /// Keys of config.json by which a server knows how some layers are stored.
    #[serde(default)]
    pub config_keys: Vec<ConfigKey>,
    /// Layers of which vLLM gives every GPU all, though the names of others like them are split.
    #[serde(default)]
    pub replicated: Vec<NamePattern>,
    /// The cache that vLLM keeps for each request, where config.json does not tell all of it.
    #[serde(default)]
    pub cache: KnownCache,
}

/// The first versions that know a family.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstVersions {
    /// The first transformers: `4.57.0`.
    pub transformers: Option<String>,
    /// The first vLLM: `0.11.0`.
    pub vllm: Option<String>,
    /// The origin of these versions: `the model card of Qwen3-VL-8B-Instruct`.
    pub source: String,
}

/// A key of config.json that the output has where some layers are quantized to FP8.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigKey {
    /// The key, at the top of config.json.
    pub key: String,
    pub value: String,
    /// The layers: the key is written where one of them is quantized to FP8.
    #[schemars(length(min = 1))]
    pub layers: Vec<NamePattern>,
}

/// Returns the schema of patterns under the words of an enumeration, each a property, so that editors offer them.
fn patterns_by<Words: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let patterns = generator.subschema_for::<Vec<NamePattern>>();
    let words = Words::json_schema(generator).to_value();
    let properties = words["oneOf"].as_array().into_iter().flatten().filter_map(|word| {
        let mut property = patterns.clone();
        property.insert("description".to_owned(), word["description"].clone());
        Some((word["const"].as_str()?.to_owned(), property.to_value()))
    });
    let properties: serde_json::Map<String, serde_json::Value> = properties.collect();
    json_schema!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// What is known of the layers that predict further tokens: those of the part `next-tokens`, and those that are numbered
/// after the last layer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextTokens {
    /// Numbers of config.json that say how many there are.
    #[serde(default)]
    pub promised_by: Vec<String>,
    /// Names that vLLM asks of the list for these layers, beside those on disk: it builds them by classes of their own.
    #[serde(default)]
    pub asked: Vec<AskedName>,
}

/// The kinds of layers that a file can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KnownKind {
    /// A linear layer, though its name says something else.
    Linear,
    /// A stack of experts in three dimensions whose layout is not known; `stacks` has the others.
    Experts,
    /// What routes tokens to experts, or gates a shared one.
    Router,
    /// The output head.
    LmHead,
    /// An embedding of tokens, codes or types.
    Embedding,
    /// An embedding of positions.
    PositionEmbedding,
    /// A convolution, patch embeddings included.
    Convolution,
    /// A normalization.
    Norm,
    /// A parameter that is none of these.
    Other,
}

impl From<KnownKind> for LayerKind {
    fn from(kind: KnownKind) -> Self {
        match kind {
            KnownKind::Linear => Self::Linear,
            KnownKind::Experts => Self::Experts,
            KnownKind::Router => Self::Router,
            KnownKind::LmHead => Self::LmHead,
            KnownKind::Embedding => Self::Embedding,
            KnownKind::PositionEmbedding => Self::PositionEmbedding,
            KnownKind::Convolution => Self::Conv,
            KnownKind::Norm => Self::Norm,
            KnownKind::Other => Self::Other,
        }
    }
}

/// A beginning of names on disk, and what vLLM has in its place.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServedPrefix {
    #[schemars(length(min = 1))]
    pub on_disk: String,
    pub served: String,
}

/// A name that vLLM asks of the list of unquantized layers, in place of those on disk.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedName {
    /// The modules on disk.
    #[schemars(length(min = 1))]
    pub on_disk: Vec<NamePattern>,
    /// The name that is asked for, in which `*` and `**` stand for what those of the pattern took:
    /// `**.attn.qkv_proj`.
    pub asked: String,
    /// The number of config.json by which vLLM counts the layers on, such as `num_hidden_layers`: it is added to the first
    /// number that a `*` takes.
    pub counted_on_by: Option<String>,
    /// The format for which this holds; without one, for both.
    pub format: Option<ListFormat>,
}

/// A wire format whose list is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListFormat {
    Fp8,
    CompressedTensors,
}

/// The layout of a weight's scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KnownScales {
    Block,
    Channel,
    Tensor,
    Group,
}

/// What `plan` makes of a format that a server's class cannot load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotLoadedLevel {
    /// An error: nobody who means to serve the model wants the result.
    #[default]
    Error,
    /// A warning: another server loads it.
    Warning,
    /// A note: vLLM and SGLang load it, and a library that people try models in does not; or vLLM does, and SGLang has no class
    /// of its own for the model.
    Note,
}

/// A format that a server's class cannot load.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotLoaded {
    /// The server, `vLLM`, `SGLang` or `transformers`, with the version that was looked at: `vLLM 0.33`.
    #[schemars(length(min = 1))]
    pub server: String,
    /// The classes of `architectures` that are meant; without any, all of the family and of those that are like it.
    #[serde(default)]
    pub classes: Vec<String>,
    /// The format that it cannot load; without one, both.
    pub format: Option<ListFormat>,
    /// The layout of scales that it cannot load; without one, all.
    pub scales: Option<KnownScales>,
    /// The layers that it cannot load quantized; without any, all. Of stacks of experts that it cannot load one by one,
    /// those are meant that the stacks are split into.
    #[serde(default)]
    pub layers: Vec<NamePattern>,
    /// What `plan` makes of it: an error, unless another server loads it.
    #[serde(default)]
    pub level: NotLoadedLevel,
    /// What happens.
    pub because: String,
    /// What to do about it, where that is something else than another format or leaving the layers out.
    pub instead: Option<String>,
}

impl NotLoaded {
    /// Reports whether a model of one of these classes is meant.
    pub fn is_of(&self, classes: &[String]) -> bool {
        self.classes.is_empty() || self.classes.iter().any(|class| classes.contains(class))
    }

    /// Reports whether every class of the family is meant.
    pub fn is_of_all(&self, family: &FamilyFile) -> bool {
        self.classes.is_empty() || family.architectures.iter().all(|class| self.classes.contains(class))
    }

    /// Reports whether a module is among the layers that cannot be loaded.
    pub fn is_about(&self, module: &str) -> bool {
        self.layers.is_empty() || self.layers.iter().any(|pattern| pattern.matches(module))
    }
}
