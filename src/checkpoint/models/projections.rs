//! Linear layers of language models by the last part of their names.

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

/// Returns whether servers build a projection of this name (the last part of a module's) quantized in every language
/// model.
pub(super) fn is_known_projection(last: &str) -> bool {
    KNOWN.contains(&last)
}
