//! llm-compressor's layout: `quant_method: compressed-tensors`, `weight_scale`, one config group per scheme.

use qwen_fp8_schemes::{Scheme, TensorSpec};
use serde_json::{Map, Value, json};

use super::{Refusal, WireFormat};
use crate::plan::Modules;

/// The release of compressed-tensors whose layout this is.
const VERSION: &str = "0.19.0";

pub(super) struct CompressedTensors;

impl WireFormat for CompressedTensors {
    fn suffix(&self, _: &dyn Scheme, spec: &TensorSpec) -> &'static str {
        spec.suffix
    }

    fn admits(&self, _: &dyn Scheme) -> Result<(), Refusal> {
        Ok(())
    }

    fn quantization_config(&self, modules: &Modules<'_>) -> Value {
        let groups = modules.groups();
        let mut config_groups = Map::new();
        for (index, (scheme, names)) in groups.iter().enumerate() {
            let targets =
                if groups.len() == 1 { linear_and_heads(names) } else { names.iter().map(|&n| n.to_owned()).collect() };
            config_groups.insert(
                format!("group_{index}"),
                json!({
                    "format": scheme.storage_format(),
                    "targets": targets,
                    "weights": scheme.weights(),
                    "input_activations": scheme.input_activations(),
                    "output_activations": null,
                }),
            );
        }
        let mut formats: Vec<&str> = groups.iter().map(|(scheme, _)| scheme.storage_format()).collect();
        formats.sort_unstable();
        formats.dedup();
        let format = if let [only] = formats[..] { only } else { "mixed-precision" };
        json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": config_groups,
            "ignore": modules.kept(),
            "kv_cache_scheme": null,
            "global_compression_ratio": null,
            "sparsity_config": {},
            "transform_config": {},
            "version": VERSION,
        })
    }
}

/// `Linear`, and what vLLM does not count as one: its head is a `ParallelLMHead` and only a regex reaches it.
fn linear_and_heads(names: &[&str]) -> Vec<String> {
    let head = names.iter().any(|name| name.rsplit('.').next() == Some("lm_head"));
    std::iter::once("Linear".to_owned()).chain(head.then(|| "re:.*lm_head".to_owned())).collect()
}
