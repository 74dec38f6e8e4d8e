//! Parts of a LoRA beside the weights that it changes.

/// Parts of names that PEFT gives to the factors of a LoRA.
const FACTORS: [&str; 5] = ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"];

/// The part of a name that PEFT gives to the layer that a LoRA wraps.
const WRAPPED: &str = "base_layer";

/// Models that are published with LoRAs for some of their inputs, which servers load as they are.
const WITH_LORA: [&str; 2] = ["phi4mm", "phi4_multimodal"];

/// Reports whether a tensor belongs to a LoRA that was not merged into its layer, or to a layer that one wraps.
pub fn is_lora(name: &str) -> bool {
    is_lora_factor(name) || name.split('.').any(|part| part == WRAPPED)
}

/// Reports whether a tensor is a factor of a LoRA: servers compute with it in BF16.
pub(super) fn is_lora_factor(name: &str) -> bool {
    name.split('.').any(|part| FACTORS.contains(&part))
}

/// Reports whether models of this type hold LoRAs as parts of their own.
pub fn has_lora_of_its_own(model_type: Option<&str>) -> bool {
    model_type.is_some_and(|model| WITH_LORA.contains(&model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peft_are_recognized_by_whole_parts() {
        for name in [
            "model.layers.0.self_attn.q_proj.base_layer.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "model.layers.0.mlp.up_proj.lora_B.weight",
            "model.embed_tokens.lora_embedding_A.default",
            "model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
        ] {
            assert!(is_lora(name), "{name}");
        }
        for name in ["model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "blocks.0.att.w_lora.lora.0.weight"] {
            assert!(!is_lora(name), "{name}");
        }
    }
}
