//! Names as vLLM spells them.

use std::borrow::Cow;

use super::kind::split_name;

/// Returns the name under which vLLM builds the module that the file calls `name`; a name in vLLM's own spelling stays.
pub fn served_name(name: &str) -> Cow<'_, str> {
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

/// Returns whether the module is an output head.
pub fn is_head(module: &str) -> bool {
    split_name(module).1 == "lm_head"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_become_those_of_vllm() {
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
    }
}
