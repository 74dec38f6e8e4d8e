//! The official Qwen and DeepSeek layout: `quant_method: fp8`, `weight_scale_inv`, full names of unquantized modules.

use qwen_fp8_schemes::{Dynamic, NumberKind, Scheme, Strategy, TensorRole, TensorSpec};
use serde_json::{Value, json};

use super::wire::{Refusal, WireFormat};
use crate::checkpoint::models::catalogue::ListFormat;
use crate::plan::modules::Modules;

pub(super) struct Fp8;

impl WireFormat for Fp8 {
    fn suffix(&self, scheme: &dyn Scheme, spec: &TensorSpec) -> &'static str {
        match (spec.role, scheme.weights().strategy) {
            // A block's scale is the factor to multiply by; the layout calls it the inverse all the same.
            (TensorRole::Scale, Strategy::Block(_)) => "weight_scale_inv",
            _ => spec.suffix,
        }
    }

    fn admits(&self, scheme: &dyn Scheme) -> Result<(), Refusal> {
        let weights = scheme.weights();
        let refuse = |reason: &str, help| Err(Refusal { reason: reason.to_owned(), help });
        if weights.kind != NumberKind::Float || weights.num_bits != 8 || weights.scale_dtype.is_some() {
            return refuse("`format: fp8` holds FP8 E4M3 weights only", "use `format: compressed-tensors`");
        }
        if scheme.input_activations().is_none_or(|inputs| inputs.dynamic != Dynamic::Dynamic) {
            return refuse(
                "`format: fp8` always quantizes activations while it runs",
                "use `format: compressed-tensors` for weight-only FP8",
            );
        }
        match weights.strategy {
            Strategy::Block([128, 128]) | Strategy::Tensor => Ok(()),
            Strategy::Block(block) => Err(Refusal {
                reason: format!("servers read `format: fp8` in blocks of 128 × 128, not {} × {}", block[0], block[1]),
                help: "use `block_size: 128`, or `format: compressed-tensors`",
            }),
            _ => refuse(
                "`format: fp8` has no per-channel scales",
                "add `block_size: 128` to the rule, or use `format: compressed-tensors`",
            ),
        }
    }

    fn quantization_config(&self, modules: &Modules<'_>) -> Value {
        let mut config = json!({
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
        });
        if let Some(Strategy::Block(block)) = modules.schemes().next().map(|scheme| scheme.weights().strategy) {
            config["weight_block_size"] = json!(block);
        }
        // vLLM and SGLang read the first key, transformers before 5.12 only the second.
        let unquantized = modules.listed(ListFormat::Fp8);
        config["ignored_layers"] = json!(unquantized);
        config["modules_to_not_convert"] = json!(unquantized);
        config
    }
}
