//! An FP8 cache of keys and values: what `config.json` says of it, and where it cannot.

use qwen_fp8_schemes::{Dynamic, QuantizationArgs, Strategy};
use serde_json::{Value, json};

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{CacheDtype, Recipe};

/// Puts the dtype that a recipe asks for into a `quantization_config` of compressed-tensors.
//
// No `k_scale` or `v_scale` beside it: without them vLLM 0.33 starts from ones, and warns of a scale of one in the same words
// as where it loads one. transformers reports such tensors as unexpected, and vLLM's loaders know them of some classes only.
pub(super) fn put(recipe: &Recipe, quantization_config: &mut Value) {
    if recipe.kv_cache == CacheDtype::Fp8 {
        quantization_config["kv_cache_scheme"] = json!(QuantizationArgs::float8(Strategy::Tensor, Dynamic::Static));
    }
}

/// Returns an error where no config is written that could ask for it, else a note of who reads it.
pub(super) fn check(recipe: &Recipe, is_written: bool) -> Option<Diagnostic> {
    if recipe.kv_cache == CacheDtype::Auto {
        return None;
    }
    Some(if is_written {
        Diagnostic::note(
            "`kv_cache: fp8`: vLLM takes it from `config.json`; SGLang has to be told (`--kv-cache-dtype fp8_e4m3`), and transformers \
             keeps the dtype of the model",
        )
    } else {
        let error =
            Diagnostic::error("`kv_cache: fp8` stands in a `quantization_config` that is written here, and none is");
        error.help("leave the key out and start the server with `--kv-cache-dtype fp8`, which comes to the same")
    })
}
