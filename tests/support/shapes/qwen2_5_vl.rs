//! Qwen2.5-VL-7B, and Qwen2.5-7B which is its language model: numbers of the Hub's `config.json`, names as the Hub has them (`visual.` without `model.`).

use serde_json::json;

use super::{Shapes, bf16, mlp};

/// Qwen2.5-7B.
pub(crate) fn qwen2_5_7b() -> Shapes {
    let mut shapes = qwen2_5_vl_7b();
    shapes.tensors.retain(|tensor| !tensor.name.starts_with("visual."));
    shapes.config.as_object_mut().unwrap().remove("vision_config");
    shapes.with_config("model_type", "qwen2".into()).with_config("architectures", json!(["Qwen2ForCausalLM"]))
}

/// Qwen2.5-VL-7B.
pub(crate) fn qwen2_5_vl_7b() -> Shapes {
    let (hidden, layers, intermediate, keys, vocabulary) = (3584, 28, 18_944, 512, 152_064);
    let mut tensors =
        vec![bf16("lm_head.weight", &[vocabulary, hidden]), bf16("model.embed_tokens.weight", &[vocabulary, hidden])];
    for layer in (0..layers).map(|layer| format!("model.layers.{layer}")) {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push(bf16(format!("{layer}.{norm}.weight"), &[hidden]));
        }
        for (part, rows) in [("q", hidden), ("k", keys), ("v", keys)] {
            tensors.push(bf16(format!("{layer}.self_attn.{part}_proj.weight"), &[rows, hidden]));
            tensors.push(bf16(format!("{layer}.self_attn.{part}_proj.bias"), &[rows]));
        }
        tensors.push(bf16(format!("{layer}.self_attn.o_proj.weight"), &[hidden, hidden]));
        tensors.extend(mlp(&format!("{layer}.mlp"), hidden, intermediate));
    }
    tensors.push(bf16("model.norm.weight", &[hidden]));

    // The tower has a gated MLP of 3420 columns, whose layers are called as those of the language model.
    let (width, inner) = (1280, 3420);
    tensors.push(bf16("visual.patch_embed.proj.weight", &[width, 3, 2, 14, 14]));
    for block in (0..32).map(|block| format!("visual.blocks.{block}")) {
        let mut linears = mlp(&format!("{block}.mlp"), width, inner).to_vec();
        linears.push(bf16(format!("{block}.attn.qkv.weight"), &[3 * width, width]));
        linears.push(bf16(format!("{block}.attn.proj.weight"), &[width, width]));
        let biases = linears.iter().map(|linear| bf16(linear.name.replace(".weight", ".bias"), &linear.shape[..1]));
        tensors.extend(biases);
        tensors.extend(linears);
        tensors.extend(["norm1", "norm2"].map(|norm| bf16(format!("{block}.{norm}.weight"), &[width])));
    }
    tensors.push(bf16("visual.merger.ln_q.weight", &[width]));
    for (index, rows) in [(0, 4 * width), (2, hidden)] {
        tensors.push(bf16(format!("visual.merger.mlp.{index}.weight"), &[rows, 4 * width]));
        tensors.push(bf16(format!("visual.merger.mlp.{index}.bias"), &[rows]));
    }
    let config = json!({
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": 28,
        "num_hidden_layers": layers,
        "num_key_value_heads": 4,
        "tie_word_embeddings": false,
        "vision_config": { "depth": 32, "hidden_size": width, "intermediate_size": inner, "out_hidden_size": hidden },
        "vocab_size": vocabulary,
    });
    Shapes { config, tensors }
}
