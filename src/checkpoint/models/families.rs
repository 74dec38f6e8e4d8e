//! Model families whose layers are known, from the config alone.

use crate::config::Config;

/// `model_type` and the name that people use; the shapes of each are planned in the tests.
const FAMILIES: &[(&str, &str)] = &[
    ("deepseek_v3", "DeepSeek-V3"),
    ("gemma3", "Gemma 3"),
    ("llama", "Llama"),
    ("mistral", "Mistral"),
    ("qwen2", "Qwen2.5"),
    ("qwen2_5_vl", "Qwen2.5-VL"),
    ("qwen3", "Qwen3"),
    ("qwen3_5", "Qwen3.5"),
    ("qwen3_moe", "Qwen3-MoE"),
    ("qwen3_next", "Qwen3-Next"),
    ("qwen3_vl", "Qwen3-VL"),
    ("qwen3_vl_moe", "Qwen3-VL-MoE"),
];

/// Returns the family's name for people, or `None` for a family whose layers are not known.
pub fn family(config: &Config) -> Option<&'static str> {
    let model_type = config.model_type()?;
    FAMILIES.iter().find(|(known, _)| *known == model_type).map(|(_, name)| *name)
}
