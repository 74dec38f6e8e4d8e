//! Parameter names of quantization tensors, as three readers need them.
//!
//! The lists differ on purpose: each answers another question, and a name too many in one of them would call an
//! unquantized checkpoint quantized, or lose a tensor of a quantized one.

/// Parameters that occur in quantized checkpoints only, by which one without a `quantization_config` is recognized.
pub const ONLY_OF_QUANTIZED_LAYERS: &[&str] = &[
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "weight_packed",
    "weight_zero_point",
    "qweight",
    "qzeros",
    "gate_up_proj_scale",
    "gate_up_proj_scale_inv",
    "down_proj_scale",
    "down_proj_scale_inv",
];

/// Parameters beside the weights of a quantized source; the planner takes them together with the weight they belong to.
pub const BESIDE_FP8_WEIGHTS: &[&str] = &[
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "weight_zero_point",
    "weight_packed",
    "weight_shape",
    "weight_g_idx",
    "input_scale",
    "input_global_scale",
    "output_scale",
    "k_scale",
    "v_scale",
];

/// Parameters that the checks put beside the weight of a module, in any of the layouts that they read or report.
pub const BESIDE_CODES: &[&str] = &[
    "weight_scale",
    "weight_scale_inv",
    "input_scale",
    "weight_packed",
    "weight_shape",
    "weight_zero_point",
    "weight_global_scale",
    "weight_scale_2",
    "weight_g_idx",
    "input_zero_point",
    "input_global_scale",
    "qweight",
    "qzeros",
    "scales",
    "g_idx",
];
