//! Gemma 3 with its SigLIP tower: numbers of the Hub's `config.json`, names as the Hub has them (`language_model.model.`).

use serde_json::json;

use super::{Shape, Shapes, bf16, mlp};

/// gemma-3-4b-it.
pub(crate) fn gemma_3_4b() -> Shapes {
    gemma_3(2560, 34, 10_240, 8, 4)
}

/// gemma-3-12b-it.
pub(crate) fn gemma_3_12b() -> Shapes {
    gemma_3(3840, 48, 15_360, 16, 8)
}

fn gemma_3(hidden: usize, layers: usize, intermediate: usize, heads: usize, kv_heads: usize) -> Shapes {
    const HEAD: usize = 256;
    let prefix = "language_model.model";
    let mut tensors = vec![bf16(format!("{prefix}.embed_tokens.weight"), &[262_208, hidden])];
    for layer in (0..layers).map(|layer| format!("{prefix}.layers.{layer}")) {
        for norm in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
            tensors.push(bf16(format!("{layer}.{norm}_layernorm.weight"), &[hidden]));
        }
        tensors.extend(["q", "k"].map(|part| bf16(format!("{layer}.self_attn.{part}_norm.weight"), &[HEAD])));
        for (part, heads) in [("q", heads), ("k", kv_heads), ("v", kv_heads)] {
            tensors.push(bf16(format!("{layer}.self_attn.{part}_proj.weight"), &[heads * HEAD, hidden]));
        }
        tensors.push(bf16(format!("{layer}.self_attn.o_proj.weight"), &[hidden, heads * HEAD]));
        tensors.extend(mlp(&format!("{layer}.mlp"), hidden, intermediate));
    }
    tensors.push(bf16(format!("{prefix}.norm.weight"), &[hidden]));
    tensors.push(bf16("multi_modal_projector.mm_input_projection_weight", &[1152, hidden]));
    tensors.push(bf16("multi_modal_projector.mm_soft_emb_norm.weight", &[1152]));
    tensors.extend(siglip());
    // The config says nothing of the head: Gemma ties it by default.
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "head_dim": HEAD,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_attention_heads": heads,
            "num_hidden_layers": layers,
            "num_key_value_heads": kv_heads,
        },
        "vision_config": { "model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27 },
    });
    Shapes { config, tensors }
}

/// SigLIP-So400m: 27 layers of 1152, an image of 896 in patches of 14.
fn siglip() -> Vec<Shape> {
    let (tower, width, inner) = ("vision_tower.vision_model", 1152, 4304);
    let mut tensors = vec![bf16(format!("{tower}.embeddings.position_embedding.weight"), &[4096, width])];
    let mut layer = |name: String, shape: &[usize]| {
        tensors.push(bf16(format!("{tower}.{name}.weight"), shape));
        tensors.push(bf16(format!("{tower}.{name}.bias"), &shape[..1]));
    };
    layer("embeddings.patch_embedding".into(), &[width, 3, 14, 14]);
    for block in (0..27).map(|block| format!("encoder.layers.{block}")) {
        for part in ["k_proj", "q_proj", "v_proj", "out_proj"] {
            layer(format!("{block}.self_attn.{part}"), &[width, width]);
        }
        layer(format!("{block}.mlp.fc1"), &[inner, width]);
        layer(format!("{block}.mlp.fc2"), &[width, inner]);
        layer(format!("{block}.layer_norm1"), &[width]);
        layer(format!("{block}.layer_norm2"), &[width]);
    }
    layer("post_layernorm".into(), &[width]);
    tensors
}
