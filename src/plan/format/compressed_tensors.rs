//! llm-compressor's layout: `quant_method: compressed-tensors`, `weight_scale`, one config group per scheme.

use qwen_fp8_schemes::{Scheme, TensorSpec};
use serde_json::{Map, Value, json};

use super::wire::{Refusal, WireFormat};
use crate::checkpoint::models;
use crate::checkpoint::models::catalogue::ListFormat;
use crate::plan::modules::Modules;

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
            let targets = targets(names, groups.len() == 1);
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
            "ignore": ignored(modules),
            "kv_cache_scheme": null,
            "global_compression_ratio": null,
            "sparsity_config": {},
            "transform_config": {},
            "version": VERSION,
        })
    }
}

/// The group's layers: all of class `Linear` when there is no other group, else each by its name.
///
/// A class next to names would win over the name of a part of a layer that vLLM has fused. To vLLM the head is a
/// `ParallelLMHead` under another name, and only a regex reaches it.
fn targets(names: &[&str], only_group: bool) -> Vec<String> {
    let linear = names.iter().filter(|name| !models::is_head(name)).map(|name| (*name).to_owned());
    let mut targets: Vec<String> =
        if only_group { linear.take(1).map(|_| "Linear".to_owned()).collect() } else { linear.collect() };
    if names.iter().any(|name| models::is_head(name)) {
        targets.push("re:.*lm_head".to_owned());
    }
    targets
}

/// Returns the unquantized modules; vLLM asks for stacked experts by the names that the first expert's layers would
/// have.
fn ignored(modules: &Modules<'_>) -> Vec<String> {
    let of_first = |experts: &str| models::EXPERT_PROJECTIONS.map(|projection| format!("{experts}.0.{projection}"));
    let experts = modules.stacked_experts().iter().flat_map(|experts| of_first(experts));
    let mut listed = modules.listed(ListFormat::CompressedTensors);
    listed.extend(experts);
    listed
}
