//! llm-compressor's layout: `quant_method: compressed-tensors`, `weight_scale`, one config group per scheme.

use qwen_fp8_schemes::TensorRole;
use serde_json::{Map, Value, json};

use super::wire::{Refusal, WireFormat};
use crate::checkpoint::models;
use crate::checkpoint::models::catalogue::ListFormat;
use crate::plan::modules::Modules;
use crate::plan::served_form::ServedForm;

/// Returns the release of compressed-tensors whose layout this is: the first that has these formats.
fn version(formats: &[&str]) -> &'static str {
    if formats.contains(&"mxfp6-pack-quantized") { "0.20.0" } else { "0.19.0" }
}

pub(super) struct CompressedTensors;

impl WireFormat for CompressedTensors {
    fn suffix(&self, _: &ServedForm, _: TensorRole, suffix: &'static str) -> &'static str {
        suffix
    }

    fn admits(&self, form: &ServedForm) -> Result<(), Refusal> {
        if form.exponents {
            return Err(Refusal {
                reason: "compressed-tensors has float scales for blocks, and these are exponents (E8M0): `scale_dtype: f32` on the \
                         rule writes them as the powers of two that they are"
                    .to_owned(),
                help: "use `format: fp8`, which holds them as they are, or `requantize: true`",
            });
        }
        Ok(())
    }

    fn quantization_config(&self, modules: &Modules<'_>) -> Value {
        let groups = modules.groups();
        let mut config_groups = Map::new();
        for (index, (form, names)) in groups.iter().enumerate() {
            let targets = targets(names, groups.len() == 1);
            config_groups.insert(
                format!("group_{index}"),
                json!({
                    "format": form.storage_format,
                    "targets": targets,
                    "weights": form.weights,
                    "input_activations": form.inputs,
                    "output_activations": null,
                }),
            );
        }
        let mut formats: Vec<&str> = groups.iter().map(|(form, _)| form.storage_format).collect();
        formats.sort_unstable();
        formats.dedup();
        let format = if let [only] = formats[..] { only } else { "mixed-precision" };
        json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": config_groups,
            "ignore": modules.listed(ListFormat::CompressedTensors),
            "kv_cache_scheme": null,
            "global_compression_ratio": null,
            "sparsity_config": {},
            "transform_config": {},
            "version": version(&formats),
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
