//! Qwen3 without vision: numbers of the Hub's `config.json` of Qwen3-0.6B and Qwen3-30B-A3B.

use super::{A3B, Shapes, Text, bf16, language, text, text_config};

/// Qwen3-0.6B: the config ties the head, and the file holds it all the same.
pub(crate) fn qwen3_0_6b() -> Shapes {
    let numbers = text(1024, 28, 3072, 16, 8, true);
    let mut tensors = language(&numbers, "model.");
    tensors.push(bf16("lm_head.weight", &[super::VOCABULARY, numbers.hidden]));
    Shapes { config: text_config(&numbers, "qwen3", "Qwen3ForCausalLM"), tensors }
}

/// Qwen3-30B-A3B: a matrix for each projection of each expert.
pub(crate) fn qwen3_30b_a3b() -> Shapes {
    qwen3_moe(&A3B)
}

/// A Qwen3-MoE of these numbers, with a matrix for each projection of each expert.
pub(crate) fn qwen3_moe(numbers: &Text) -> Shapes {
    let config = text_config(numbers, "qwen3_moe", "Qwen3MoeForCausalLM");
    Shapes { config, tensors: language(numbers, "model.") }.with_split_experts()
}
