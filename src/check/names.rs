//! Names as the file spells them, as vLLM does, and the parts that servers merge.

use std::borrow::Cow;

/// The parts that servers merge into one layer.
pub(super) const FUSED: &[&[&str]] = &[
    &["q_proj", "k_proj", "v_proj"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
    &["in_proj_qkv", "in_proj_z"],
    &["in_proj_a", "in_proj_b"],
];

/// The merged name of parts that some lists use, and the parts.
pub(super) const MERGED: &[(&str, &[&str])] =
    &[("qkv_proj", &["q_proj", "k_proj", "v_proj", "qkv"]), ("gate_up_proj", &["gate_proj", "up_proj"])];

/// The name under which vLLM builds what the file calls so; one that it spells its own way already stays.
pub(super) fn served_name(name: &str) -> Cow<'_, str> {
    const PREFIXES: [(&str, &str); 3] = [
        ("model.visual.", "visual."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    ];
    if name == "lm_head" {
        return Cow::Borrowed("language_model.lm_head");
    }
    for (file, served) in PREFIXES {
        if let Some(rest) = name.strip_prefix(file) {
            return Cow::Owned(format!("{served}{rest}"));
        }
    }
    Cow::Borrowed(name)
}

/// `a.mlp.experts.17.up_proj` → `a.mlp.experts`.
pub(super) fn expert_stack(module: &str) -> Option<&str> {
    module.find(".experts.").map(|at| &module[..at + ".experts".len()])
}

/// Whether `prefix` ends at a dot of `name` or at its end.
pub(super) fn is_dotted_prefix(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_vllm_spells_them() {
        for (file, served) in [
            ("model.visual.blocks.0.attn.qkv", "visual.blocks.0.attn.qkv"),
            ("visual.blocks.0.attn.qkv", "visual.blocks.0.attn.qkv"),
            ("model.language_model.layers.0.mlp.up_proj", "language_model.model.layers.0.mlp.up_proj"),
            ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
            ("lm_head", "language_model.lm_head"),
            ("model.visual", "model.visual"),
        ] {
            assert_eq!(served_name(file), served);
        }
        assert_eq!(expert_stack("a.mlp.experts.17.up_proj"), Some("a.mlp.experts"));
        assert!(is_dotted_prefix("a.b", "a.b.c") && is_dotted_prefix("a.b", "a.b") && !is_dotted_prefix("a.b", "a.bc"));
    }
}
