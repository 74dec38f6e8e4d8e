//! DeepSeek-V3 as its `fp8_cast_bf16.py` converts the Hub's FP8 files: the same names and shapes, without scales.

use serde_json::json;

use super::{Shape, Shapes, bf16, mlp};

const HIDDEN: usize = 7168;
const LAYERS: usize = 61;
const DENSE: usize = 3;
const EXPERTS: usize = 256;
const HEADS: usize = 128;

/// DeepSeek-V3.2: the same with a sparse indexer in each layer.
pub(crate) fn deepseek_v32() -> Shapes {
    with_indexer(deepseek_v3(), "DeepseekV32ForCausalLM", "deepseek_v32")
}

/// GLM-5's class with these shapes.
pub(crate) fn glm_5() -> Shapes {
    with_indexer(deepseek_v3(), "GlmMoeDsaForCausalLM", "glm_moe_dsa")
}

fn with_indexer(mut shapes: Shapes, class: &str, model_type: &str) -> Shapes {
    for index in 0..=LAYERS {
        let indexer = format!("model.layers.{index}.self_attn.indexer");
        for (name, shape) in [
            ("wq_b", &[64 * 128, 1536][..]),
            ("wk", &[128, HIDDEN]),
            ("weights_proj", &[64, HIDDEN]),
            ("k_norm", &[128]),
        ] {
            shapes.tensors.push(bf16(format!("{indexer}.{name}.weight"), shape));
        }
    }
    shapes.with_config("architectures", json!([class])).with_config("model_type", model_type.into())
}

/// 61 layers, the first three without experts, and a layer that predicts the next token but one.
pub(crate) fn deepseek_v3() -> Shapes {
    let vocabulary = 129_280;
    let mut tensors =
        vec![bf16("model.embed_tokens.weight", &[vocabulary, HIDDEN]), bf16("lm_head.weight", &[vocabulary, HIDDEN])];
    for index in 0..=LAYERS {
        let layer = format!("model.layers.{index}");
        tensors.extend(attention(&layer));
        match index < DENSE {
            true => tensors.extend(mlp(&format!("{layer}.mlp"), HIDDEN, 18_432)),
            false => tensors.extend(experts(&layer)),
        }
    }
    let next = format!("model.layers.{LAYERS}");
    for (name, shape) in [
        ("embed_tokens", &[vocabulary, HIDDEN][..]),
        ("enorm", &[HIDDEN]),
        ("hnorm", &[HIDDEN]),
        ("eh_proj", &[HIDDEN, 2 * HIDDEN]),
        ("shared_head.norm", &[HIDDEN]),
        ("shared_head.head", &[vocabulary, HIDDEN]),
    ] {
        tensors.push(bf16(format!("{next}.{name}.weight"), shape));
    }
    tensors.push(bf16("model.norm.weight", &[HIDDEN]));
    let config = json!({
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "first_k_dense_replace": DENSE,
        "hidden_size": HIDDEN,
        "kv_lora_rank": 512,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "tie_word_embeddings": false,
        "vocab_size": vocabulary,
    });
    Shapes { config, tensors }
}

/// Latent attention: heads of 128 and 64 for queries and keys, of 128 for values.
fn attention(layer: &str) -> Vec<Shape> {
    let shapes: [(&str, &[usize]); 9] = [
        ("input_layernorm", &[HIDDEN]),
        ("post_attention_layernorm", &[HIDDEN]),
        ("self_attn.q_a_proj", &[1536, HIDDEN]),
        ("self_attn.q_a_layernorm", &[1536]),
        ("self_attn.q_b_proj", &[HEADS * (128 + 64), 1536]),
        ("self_attn.kv_a_proj_with_mqa", &[512 + 64, HIDDEN]),
        ("self_attn.kv_a_layernorm", &[512]),
        ("self_attn.kv_b_proj", &[HEADS * (128 + 128), 512]),
        ("self_attn.o_proj", &[HIDDEN, HEADS * 128]),
    ];
    shapes.into_iter().map(|(name, shape)| bf16(format!("{layer}.{name}.weight"), shape)).collect()
}

fn experts(layer: &str) -> Vec<Shape> {
    let mut tensors = vec![bf16(format!("{layer}.mlp.gate.weight"), &[EXPERTS, HIDDEN])];
    let name = format!("{layer}.mlp.gate.e_score_correction_bias");
    tensors.push(Shape { name, dtype: "F32", shape: vec![EXPERTS] });
    tensors.extend(mlp(&format!("{layer}.mlp.shared_experts"), HIDDEN, 2048));
    tensors.extend((0..EXPERTS).flat_map(|expert| mlp(&format!("{layer}.mlp.experts.{expert}"), HIDDEN, 2048)));
    tensors
}
