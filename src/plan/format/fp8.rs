//! The official Qwen and DeepSeek layout: `quant_method: fp8`, `weight_scale_inv`, full names of unquantized modules.

use qwen_fp8_schemes::{Dynamic, NumberKind, Strategy, TensorRole};
use serde_json::{Value, json};

use super::wire::{Refusal, WireFormat};
use crate::checkpoint::models::catalogue::ListFormat;
use crate::plan::modules::Modules;
use crate::plan::served_form::ServedForm;

pub(super) struct Fp8;

impl WireFormat for Fp8 {
    fn suffix(&self, form: &ServedForm, role: TensorRole, suffix: &'static str) -> &'static str {
        match (role, form.weights.strategy) {
            // A block's scale is the factor to multiply by; the layout calls it the inverse all the same.
            (TensorRole::Scale, Strategy::Block(_)) => "weight_scale_inv",
            _ => suffix,
        }
    }

    fn admits(&self, ServedForm { weights, inputs, .. }: &ServedForm) -> Result<(), Refusal> {
        let refuse = |reason: &str, help| Err(Refusal { reason: reason.to_owned(), help });
        if weights.kind != NumberKind::Float || weights.num_bits != 8 || weights.scale_dtype.is_some() {
            return refuse("`format: fp8` holds FP8 E4M3 weights only", "use `format: compressed-tensors`");
        }
        match inputs.as_ref().map(|inputs| inputs.dynamic) {
            Some(Dynamic::Dynamic) => {}
            Some(Dynamic::Static) if weights.strategy == Strategy::Tensor => {}
            _ => {
                return refuse(
                    "`format: fp8` quantizes activations: as they come, or by one scale where the weight has one",
                    "use `format: compressed-tensors` for weight-only FP8",
                );
            }
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
        // One form for all layers: another is refused.
        if let Some(form) = modules.forms().next() {
            if let Strategy::Block(block) = form.weights.strategy {
                config["weight_block_size"] = json!(block);
            }
            if form.inputs.as_ref().is_some_and(|inputs| inputs.dynamic == Dynamic::Static) {
                config["activation_scheme"] = json!("static");
            }
            if form.powers_of_two {
                config["scale_fmt"] = json!("ue8m0");
            }
        }
        // vLLM and SGLang read the first key, transformers before 5.12 only the second.
        let unquantized = modules.listed(ListFormat::Fp8);
        config["ignored_layers"] = json!(unquantized);
        config["modules_to_not_convert"] = json!(unquantized);
        config
    }
}
