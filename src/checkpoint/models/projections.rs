//! Linear layers of language models by the last part of their names.

use super::split_name;

/// Projections that servers build as quantizable layers in every language model.
const KNOWN: &[&str] = &[
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "gate_up_proj",
    "down_proj",
    "w1",
    "w2",
    "w3",
];

/// Returns whether servers build a projection of this name (the last part of a module's) quantized in every language model.
pub fn is_known_projection(last: &str) -> bool {
    KNOWN.contains(&last)
}

/// Returns whether the module is a projection of linear attention with a few rows for each head, too small to quantize.
pub fn is_gate_of_linear_attention(module: &str) -> bool {
    let (parent, last) = split_name(module);
    parent.ends_with(".linear_attn") && matches!(last, "in_proj_a" | "in_proj_b" | "in_proj_ba")
}
