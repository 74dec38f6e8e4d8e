//! Llama and Mistral: numbers of the Hub's `config.json`, names of transformers' `modeling_llama.py`.

use serde_json::json;

use super::{Shapes, bf16, mlp};

/// Llama-3.1-8B.
pub(crate) fn llama_3_1_8b() -> Shapes {
    llama("llama", "LlamaForCausalLM", 128_256)
}

/// Mistral-7B-v0.3, which differs in its vocabulary only.
pub(crate) fn mistral_7b() -> Shapes {
    llama("mistral", "MistralForCausalLM", 32_768)
}

fn llama(model_type: &str, class: &str, vocabulary: usize) -> Shapes {
    let (hidden, layers, intermediate, keys) = (4096, 32, 14_336, 1024);
    let mut tensors =
        vec![bf16("lm_head.weight", &[vocabulary, hidden]), bf16("model.embed_tokens.weight", &[vocabulary, hidden])];
    for layer in (0..layers).map(|layer| format!("model.layers.{layer}")) {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.push(bf16(format!("{layer}.{norm}.weight"), &[hidden]));
        }
        for (part, rows) in [("q", hidden), ("k", keys), ("v", keys), ("o", hidden)] {
            tensors.push(bf16(format!("{layer}.self_attn.{part}_proj.weight"), &[rows, hidden]));
        }
        tensors.extend(mlp(&format!("{layer}.mlp"), hidden, intermediate));
    }
    tensors.push(bf16("model.norm.weight", &[hidden]));
    let config = json!({
        "architectures": [class],
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": 32,
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "tie_word_embeddings": false,
        "vocab_size": vocabulary,
    });
    Shapes { config, tensors }
}
