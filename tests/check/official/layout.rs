//! A published layout as a file of `layouts/` tells it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A file of `layouts/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    /// Who publishes it, and where the config and the names are known from.
    #[serde(rename = "source")]
    _source: String,
    /// Names and shapes of an unquantized model of the type, as small as every kind of layer allows: a file of
    /// `tests/models/facts/`.
    facts: String,
    /// Keys of `config.json`.
    config: String,
    /// `quantization_config`, word for word but for entries of layers that the small model has not.
    #[serde(default)]
    pub(super) quantization: String,
    /// Set where the declaration stands in `text_config`.
    #[serde(default)]
    pub(super) in_text_config: bool,
    /// An entry of the list without which a server quantizes a layer that stays.
    pub(super) kept_entry: Option<String>,
    /// Text of `hf_quant_config.json`.
    pub(super) hf_quant_config: Option<String>,
    /// Tensors that are there again under other names, such as those of a draft layer: from, to.
    #[serde(default)]
    copies: Vec<[String; 2]>,
    /// Tensors beside those of the facts.
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    /// Other sizes of dimensions.
    #[serde(default)]
    sizes: BTreeMap<String, usize>,
    /// Dtypes other than BF16 of tensors that stay, by regex.
    #[serde(default)]
    dtypes: BTreeMap<String, String>,
    #[serde(rename = "quantized")]
    kinds: Vec<Kind>,
    /// Rules of which the published layout does break one, with the reason.
    #[serde(default)]
    pub(super) findings: BTreeMap<String, String>,
}

/// Layers that are quantized alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kind {
    /// Regexes of whole module names.
    modules: Vec<String>,
    pub(super) form: Form,
    /// Parameter name of the scale, where the form has several.
    #[serde(default = "weight_scale")]
    pub(super) scale: String,
    #[serde(default = "f32_name")]
    pub(super) scale_dtype: String,
    /// Set where scales are powers of two.
    #[serde(default)]
    pub(super) powers: bool,
    /// The scale of static activations: name and dtype.
    pub(super) activations: Option<[String; 2]>,
    #[serde(default)]
    pub(super) group: usize,
}

fn weight_scale() -> String {
    "weight_scale".to_owned()
}

fn f32_name() -> String {
    "F32".to_owned()
}

/// How codes and scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    Fp8Blocks,
    Fp8Rows,
    Fp8Tensor,
    Mxfp8,
    /// E2M1 in I8 under the name `weight`.
    Mxfp4Bytes,
    /// gpt-oss.
    Mxfp4Stack,
    Nvfp4,
    ModeloptNvfp4,
    PackedInt4,
    Int8Rows,
    Awq,
    Gptq,
}

/// A tensor of the unquantized model.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The names of all layouts.
pub(super) fn names() -> Vec<String> {
    let files = fs::read_dir(root().join("check/official/layouts")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.map(|file| file.strip_suffix(".toml").unwrap().to_owned()).collect();
    names.sort();
    names
}

impl Layout {
    pub(super) fn named(name: &str) -> Self {
        let text = fs::read_to_string(root().join(format!("check/official/layouts/{name}.toml"))).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn facts(&self) -> Value {
        let path = root().join(format!("models/facts/{}.json", self.facts));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// `config.json` without a quantization.
    pub(super) fn config(&self) -> Map<String, Value> {
        let facts = self.facts();
        let mut config = Map::new();
        config.insert("architectures".to_owned(), json!([facts["architecture"]]));
        config.insert("model_type".to_owned(), facts["model_type"].clone());
        config.extend(serde_json::from_str::<Map<String, Value>>(&self.config).unwrap());
        config
    }

    /// Every tensor of the unquantized model.
    pub(super) fn tensors(&self) -> Vec<Plain> {
        let facts = self.facts();
        let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for form in facts["tensors"].as_array().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(form["shape"].clone()).unwrap();
            let shape = shape.iter().map(|side| *self.sizes.get(&side.to_string()).unwrap_or(side)).collect::<Vec<_>>();
            shapes.extend(expanded(form).into_iter().map(|name| (name, shape.clone())));
        }
        for [from, to] in &self.copies {
            let copied: Vec<_> = shapes
                .iter()
                .filter_map(|(name, shape)| Some((format!("{to}{}", name.strip_prefix(from.as_str())?), shape.clone())))
                .collect();
            assert!(!copied.is_empty(), "{from}");
            shapes.extend(copied);
        }
        shapes.extend(self.tensors.clone());
        let dtypes: Vec<_> = self.dtypes.iter().map(|(regex, dtype)| (whole(regex), dtype)).collect();
        let dtype = |name: &str| {
            let found = dtypes.iter().find(|(regex, _)| regex.is_match(name));
            found.map_or_else(|| "BF16".to_owned(), |(_, dtype)| (*dtype).clone())
        };
        shapes.into_iter().map(|(name, shape)| Plain { dtype: dtype(&name), name, shape }).collect()
    }

    /// How a tensor's module is quantized; `None` for one that stays.
    pub(super) fn kind(&self, tensor: &str) -> Option<&Kind> {
        let module = tensor.strip_suffix(".weight");
        self.kinds.iter().find(|kind| {
            let name = if kind.form == Form::Mxfp4Stack { Some(tensor) } else { module };
            name.is_some_and(|name| kind.modules.iter().any(|modules| whole(modules).is_match(name)))
        })
    }
}

fn whole(regex: &str) -> Regex {
    Regex::new(&format!("^(?:{regex})$")).unwrap()
}

/// The names that a form of the facts stands for: layers first, then experts, of which a layer has four.
fn expanded(form: &Value) -> Vec<String> {
    const EXPERTS: usize = 4;
    let (text, count) = (form["form"].as_str().unwrap(), form["count"].as_u64().unwrap_or(1) as usize);
    let experts = if text.matches('*').count() > 1 { EXPERTS } else { 1 };
    let layers: Vec<usize> = match form["at"].as_array() {
        Some(at) => at.iter().map(|layer| layer.as_u64().unwrap() as usize).collect(),
        None => (0..count / experts).collect(),
    };
    let of_layer = |layer: &usize| {
        let name = text.replacen('*', &layer.to_string(), 1);
        (0..experts).map(move |expert| name.replacen('*', &expert.to_string(), 1))
    };
    layers.iter().flat_map(of_layer).collect()
}
