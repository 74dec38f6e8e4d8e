//! Routers that servers build unquantized, whatever a list of kept layers says.

/// Beginnings of the model types whose routers servers never quantize.
const NEVER_QUANTIZED: [&str; 6] = ["deepseek_", "kimi_k2", "minimax", "glm4_moe", "glm_moe", "gpt_oss"];

/// Reports whether servers build the routers of a model of this type without a quantization, so that no list has to
/// name them: DeepSeek-V3, R1 and Kimi-K2 have no list at all.
pub fn has_plain_routers(model_type: &str) -> bool {
    NEVER_QUANTIZED.iter().any(|beginning| model_type.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_the_beginning_of_their_type() {
        assert!(has_plain_routers("deepseek_v3") && has_plain_routers("kimi_k25") && has_plain_routers("minimax_m2"));
        // vLLM gives the router of Qwen3's experts the quantization of the model.
        assert!(!has_plain_routers("qwen3_moe") && !has_plain_routers("mixtral"));
    }
}
