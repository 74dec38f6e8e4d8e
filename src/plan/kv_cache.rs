//! An FP8 cache of keys and values: what `config.json` of source and output say of it, and where it cannot.

use qwen_fp8_schemes::{Dynamic, Format, QuantizationArgs, Strategy};
use serde_json::{Value, json};

use crate::checkpoint::config::Config;
use crate::checkpoint::models::is_scale_of_cache;
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{CacheDtype, Recipe};

use super::planned_input::PlannedInput;

/// The `quantization_config` of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WrittenConfig {
    /// There is none.
    None,
    /// The source's.
    Kept,
    /// One of the recipe's format.
    New,
}

/// What a quantized source says of its cache.
pub(super) enum SourceCache {
    Nothing,
    /// FP8: the arguments as compressed-tensors has them.
    Fp8(Value),
    /// Something else, as the source calls it.
    Other(String),
}

impl CacheDtype {
    /// Returns the dtype that vLLM takes from a `quantization_config` where its command asks for none.
    pub(crate) fn declared(config: &Value) -> Self {
        let method = config["quant_method"].as_str().unwrap_or_default();
        let scheme = &config["kv_cache_scheme"];
        let is_fp8 = (scheme["num_bits"].as_u64(), scheme["type"].as_str()) == (Some(8), Some("float"));
        let algorithm = algorithm(config).filter(|_| method.starts_with("modelopt"));
        let reads_scheme = method == "compressed-tensors" || method.starts_with("modelopt");
        match algorithm {
            Some(algorithm) if algorithm.eq_ignore_ascii_case("fp8") => Self::Fp8,
            _ if reads_scheme && is_fp8 => Self::Fp8,
            _ => Self::Auto,
        }
    }
}

/// ModelOpt's name of what the cache is; older releases have it one level lower.
fn algorithm(config: &Value) -> Option<&str> {
    [config, &config["quantization"]].into_iter().find_map(|holder| holder["kv_cache_quant_algo"].as_str())
}

/// The scheme that llm-compressor writes for an FP8 cache.
fn fp8() -> Value {
    json!(QuantizationArgs::float8(Strategy::Tensor, Dynamic::Static))
}

impl SourceCache {
    pub(super) fn of(config: &Config) -> Self {
        let declared: Option<Value> = config.quantization_config().and_then(|text| serde_json::from_str(text).ok());
        let Some(declared) = declared else { return Self::Nothing };
        let (scheme, algorithm) = (&declared["kv_cache_scheme"], algorithm(&declared));
        match CacheDtype::declared(&declared) {
            CacheDtype::Fp8 if declared["quant_method"] == "compressed-tensors" => Self::Fp8(scheme.clone()),
            CacheDtype::Fp8 => Self::Fp8(fp8()),
            CacheDtype::Auto => match algorithm.filter(|name| !name.eq_ignore_ascii_case("none")) {
                Some(name) => Self::Other(shown(name).to_string()),
                None if scheme.is_object() => Self::Other("declared by `kv_cache_scheme`".to_owned()),
                None => Self::Nothing,
            },
        }
    }
}

/// Puts what a recipe asks for, or else the source, into a `quantization_config` of compressed-tensors.
//
// A recipe adds no `k_scale` or `v_scale`: without them vLLM 0.33 starts from ones, and warns of a scale of one in the same
// words as where it loads one. transformers reports such tensors as unexpected, and vLLM's loaders know them of some classes only.
pub(super) fn put(recipe: &Recipe, source: &SourceCache, quantization_config: &mut Value) {
    if recipe.format != Format::CompressedTensors {
        return;
    }
    let scheme = match (source, recipe.kv_cache) {
        // First, since its scales are copied and have the shape that it says.
        (SourceCache::Fp8(scheme), _) => scheme.clone(),
        (_, CacheDtype::Fp8) => fp8(),
        (_, CacheDtype::Auto) => return,
    };
    quantization_config["kv_cache_scheme"] = scheme;
}

/// Returns an error where no config is written that could ask for what the recipe does; else a note of who reads it, or of
/// what becomes of the source's cache.
pub(super) fn check(
    recipe: &Recipe,
    source: &SourceCache,
    inputs: &[PlannedInput],
    written: WrittenConfig,
) -> Option<Diagnostic> {
    const READERS: &str = "vLLM takes it from `config.json`; SGLang has to be told (`--kv-cache-dtype fp8_e4m3`), and transformers \
                           keeps the dtype of the model";
    match (recipe.kv_cache, written) {
        (CacheDtype::Fp8, WrittenConfig::New) => {
            return Some(Diagnostic::note(format!("`kv_cache: fp8`: {READERS}")));
        }
        (CacheDtype::Fp8, _) => {
            let error = Diagnostic::error(
                "`kv_cache: fp8` stands in a `quantization_config` that is written here, and none is",
            );
            return Some(
                error.help(
                    "leave the key out and start the server with `--kv-cache-dtype fp8`, which comes to the same",
                ),
            );
        }
        (CacheDtype::Auto, WrittenConfig::Kept) => return None,
        (CacheDtype::Auto, _) => {}
    }
    let scales = inputs.iter().filter(|input| is_scale_of_cache(input.parameter())).count();
    let with_scales = |before: &str, after: &str| match scales {
        0 => String::new(),
        scales => format!("{before}{}{after}", count(scales, "scale")),
    };
    match (source, written) {
        (SourceCache::Nothing, _) => None,
        (SourceCache::Fp8(_), WrittenConfig::New) if recipe.format == Format::CompressedTensors => {
            let under = with_scales(", under its ", "");
            Some(Diagnostic::note(format!(
                "the cache of keys and values stays FP8, as the source has it{under}: {READERS}"
            )))
        }
        (SourceCache::Fp8(_), WrittenConfig::New) => {
            let copied = with_scales("; the result keeps its ", "");
            let message =
                format!("the source has an FP8 cache of keys and values, and `format: fp8` has no key for it{copied}");
            Some(
                Diagnostic::note(message).help(
                    "`format: compressed-tensors` has one, and `vllm serve --kv-cache-dtype fp8` comes to the same",
                ),
            )
        }
        (SourceCache::Fp8(_), _) => {
            let copied = with_scales("; vLLM leaves its ", " aside");
            let message = format!(
                "the source has an FP8 cache of keys and values, and a result without quantization asks for none{copied}"
            );
            Some(Diagnostic::note(message).help("start vLLM with `--kv-cache-dtype fp8` for one under scales of one"))
        }
        (SourceCache::Other(name), _) => Some(Diagnostic::note(format!(
            "the source has a cache of keys and values of its own ({name}), and the result asks for none: it will have the dtype of \
             the model"
        ))),
    }
}
