//! Numbered layers of the language model, and the layers that predict further tokens (MTP).

use super::{is_vision, split_name};

/// Returns whether the module belongs to the layers that predict further tokens.
pub fn is_next_token_layer(module: &str) -> bool {
    let (parent, last) = split_name(module);
    mtp_part(module).is_some() || last == "eh_proj" || parent.ends_with(".shared_head")
}

/// Returns the module's name up to its part `mtp`, which holds the layers that predict further tokens.
pub fn mtp_part(module: &str) -> Option<&str> {
    let mut end = 0;
    for part in module.split('.') {
        end += part.len();
        if part == "mtp" {
            return Some(&module[..end]);
        }
        end += 1;
    }
    None
}

/// Returns the number of the language-model layer that a tensor belongs to; `None` for tensors of other parts.
pub fn layer_number(name: &str) -> Option<u64> {
    if is_vision(name) || name.split('.').any(|part| matches!(part, "mtp" | "audio_tower" | "encoder")) {
        return None;
    }
    let mut parts = name.split('.');
    parts.find(|part| *part == "layers")?;
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_the_language_model_alone_are_numbered() {
        assert_eq!(layer_number("model.language_model.layers.12.mlp.up_proj.weight"), Some(12));
        assert_eq!(layer_number("model.layers.3.mlp.experts.7.up_proj.weight"), Some(3));
        for name in [
            "model.visual.blocks.3.attn.qkv.weight",
            "vision_tower.encoder.layers.3.q.weight",
            "lm_head.weight",
            "mtp.layers.0.x",
        ] {
            assert_eq!(layer_number(name), None, "{name}");
        }
    }
}
