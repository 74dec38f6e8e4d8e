//! The kind of layer that a tensor belongs to, decided from its name and rank alone.

use std::fmt;

use super::lora::is_lora_factor;

/// The kind of layer, in the words that recipes use as class names where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerKind {
    /// The two-dimensional weight of a plain linear layer: what `Linear` takes.
    Linear,
    /// A fused three-dimensional stack of expert weights.
    Experts,
    /// The gate that routes tokens to experts, or gates a shared expert.
    Router,
    /// The output head.
    LmHead,
    /// A token embedding.
    Embedding,
    /// A position embedding.
    PositionEmbedding,
    /// A convolution, patch embeddings included.
    Conv,
    /// A normalization.
    Norm,
    /// A bias of any layer.
    Bias,
    /// Anything else.
    #[default]
    Other,
}

impl LayerKind {
    /// The kind of the tensor called `name` with this many dimensions; `known` is what the catalogue says of its module.
    pub(super) fn of(name: &str, rank: usize, known: Option<Self>) -> Self {
        let (module, parameter) = split_name(name);
        let last = module.rsplit('.').next().unwrap_or(module);
        if parameter == "bias" {
            return Self::Bias;
        }
        if is_norm(last) {
            return Self::Norm;
        }
        if let Some(Self::Experts) = known {
            return Self::Experts;
        }
        if parameter != "weight" || is_lora_factor(name) {
            return Self::Other;
        }
        match known {
            Some(Self::Linear) | None if rank == 2 => Self::Linear,
            Some(Self::Linear) | None if rank > 2 => Self::Conv,
            Some(Self::Linear) | None => Self::Other,
            Some(kind) => kind,
        }
    }

    /// The name for people and, where recipes know it, for recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "Linear",
            Self::Experts => "Experts",
            Self::Router => "Router",
            Self::LmHead => "LmHead",
            Self::Embedding => "Embedding",
            Self::PositionEmbedding => "PositionEmbedding",
            Self::Conv => "Conv",
            Self::Norm => "Norm",
            Self::Bias => "Bias",
            Self::Other => "Other",
        }
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `model.layers.0.mlp.up_proj.weight` → (`model.layers.0.mlp.up_proj`, `weight`); a name without a dot is all
/// parameter.
pub fn split_name(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// The name that patterns are matched with: the module of a weight or bias, else the tensor's own name.
pub fn target_name(name: &str) -> &str {
    match split_name(name) {
        (module, "weight" | "bias") if !module.is_empty() => module,
        _ => name,
    }
}

fn is_norm(last: &str) -> bool {
    let stem = last.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    stem.ends_with("norm")
        || stem == "ln"
        || stem.ends_with("_ln")
        || stem.starts_with("layer_norm")
        || stem.starts_with("layernorm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;

    #[test]
    fn names_and_ranks_of_real_tensors_give_their_layer_kinds() {
        for (name, rank, kind) in [
            ("model.language_model.layers.0.mlp.gate_proj.weight", 2, LayerKind::Linear),
            ("model.language_model.layers.0.mlp.gate.weight", 2, LayerKind::Router),
            ("model.layers.3.mlp.shared_expert_gate.weight", 2, LayerKind::Router),
            ("model.language_model.layers.0.mlp.experts.gate_up_proj", 3, LayerKind::Experts),
            ("model.layers.0.mlp.experts.17.down_proj.weight", 2, LayerKind::Linear),
            ("model.layers.3.moe.gate_proj.weight", 3, LayerKind::Experts),
            ("model.layers.3.mlp.input_linear.weight", 3, LayerKind::Experts),
            ("model.layers.3.mlp.experts.w13_weight", 3, LayerKind::Experts),
            ("model.layers.3.shared_mlp.input_linear.weight", 2, LayerKind::Linear),
            ("model.language_model.layers.0.self_attn.q_norm.weight", 1, LayerKind::Norm),
            ("model.visual.blocks.0.norm1.weight", 1, LayerKind::Norm),
            ("model.visual.blocks.0.attn.qkv.weight", 2, LayerKind::Linear),
            ("model.visual.blocks.0.attn.qkv.bias", 1, LayerKind::Bias),
            ("model.visual.patch_embed.proj.weight", 5, LayerKind::Conv),
            ("model.visual.pos_embed.weight", 2, LayerKind::PositionEmbedding),
            ("model.language_model.embed_tokens.weight", 2, LayerKind::Embedding),
            ("lm_head.weight", 2, LayerKind::LmHead),
            ("model.layers.0.linear_attn.conv1d.weight", 3, LayerKind::Conv),
            ("model.layers.0.linear_attn.A_log", 1, LayerKind::Other),
            ("model.layers.0.input_layernorm.weight", 1, LayerKind::Norm),
            ("model.layers.0.mlp.down_proj.lora_A.vision.weight", 2, LayerKind::Other),
            ("model.layers.0.mlp.down_proj.base_layer.weight", 2, LayerKind::Linear),
        ] {
            assert_eq!(Model::default().layer(name, rank).kind, kind, "{name}");
        }
    }
}
