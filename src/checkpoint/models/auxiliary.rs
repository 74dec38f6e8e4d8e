//! Parameter names of quantization tensors.
//!
//! Names of weights follow a rule, so that a storage form with new ones is recognized without an entry here. The
//! readers ask different questions on purpose: a name too many in one answer would call an unquantized checkpoint
//! quantized, or lose a tensor of a quantized one.

/// Beginnings of what follows `weight_` in the name of a quantization tensor: `weight_scale_inv`, `weight_packed`, …
const PARTS: [&str; 4] = ["scale", "global_scale", "packed", "zero_point"];

/// Parameters that scale activations or that place columns; models without quantization have some too.
const BESIDE_WEIGHTS: [&str; 5] = ["weight_shape", "weight_g_idx", "input_scale", "input_global_scale", "output_scale"];

/// Parameters that scale a KV cache, by the names that vLLM 0.33 knows under every method: llm-compressor has `self_attn.k_scale`, and
/// ModelOpt `self_attn.k_proj.k_scale`.
const OF_CACHE: [&str; 4] = ["k_scale", "v_scale", "q_scale", "kv_scale"];

/// Parameters that no storage form of the checks has, of AWQ, GPTQ and ModelOpt.
const OF_OTHER_TOOLS: [&str; 7] =
    ["activation_scale", "input_scale", "input_zero_point", "input_global_scale", "weight_g_idx", "scales", "g_idx"];

/// Reports whether the parameter occurs in quantized checkpoints only, by which one without a `quantization_config` is
/// recognized.
pub fn is_only_of_quantized_layers(parameter: &str) -> bool {
    is_part_of_quantized_weight(parameter)
        || ["gate_up_proj_", "down_proj_"].iter().any(|stack| is_part(parameter, stack))
}

/// Reports whether the parameter stands beside the weights of a quantized source, where the planner takes it together
/// with the weight.
pub fn is_beside_quantized_weight(parameter: &str) -> bool {
    is_part_of_quantized_weight(parameter) || BESIDE_WEIGHTS.contains(&parameter)
}

/// Reports whether the parameter scales a KV cache.
pub fn is_scale_of_cache(parameter: &str) -> bool {
    OF_CACHE.contains(&parameter)
}

/// Reports whether the checks take the parameter as belonging to the weight of its module, in a layout that they read
/// or one that they only report.
pub fn is_beside_codes(parameter: &str) -> bool {
    is_part_of_quantized_weight(parameter) || OF_OTHER_TOOLS.contains(&parameter)
}

fn is_part_of_quantized_weight(parameter: &str) -> bool {
    matches!(parameter, "qweight" | "qzeros") || is_part(parameter, "weight_")
}

fn is_part(parameter: &str, owner: &str) -> bool {
    parameter.strip_prefix(owner).is_some_and(|rest| PARTS.iter().any(|part| rest.starts_with(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_their_quantization_tensors_by_rule() {
        let of_weight = ["weight_scale", "weight_scale_inv", "weight_scale_2", "weight_packed", "weight_zero_point"];
        for parameter in of_weight.into_iter().chain(["weight_global_scale", "qweight", "qzeros"]) {
            assert!(is_only_of_quantized_layers(parameter), "{parameter}");
            assert!(is_beside_quantized_weight(parameter) && is_beside_codes(parameter), "{parameter}");
        }
        // The scale of a stack belongs to the stack, not to the module of experts.
        assert!(is_only_of_quantized_layers("gate_up_proj_scale_inv") && !is_beside_codes("gate_up_proj_scale_inv"));
        // Recurrent layers and weight norm have these, quantized or not.
        for parameter in ["weight", "bias", "weight_ih_l0", "weight_hh_l0", "weight_g", "weight_v", "k_scale", "scales"]
        {
            assert!(!is_only_of_quantized_layers(parameter), "{parameter}");
        }
    }
}
