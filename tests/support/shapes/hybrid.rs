//! Hybrids, three of whose four layers have linear attention: numbers of the Hub's `config.json`, names of transformers'
//! `modeling_qwen3_next.py` and `modeling_qwen3_5.py`.

use serde_json::{Value, json};

use super::{LARGE, Shape, Shapes, bf16, mlp, tower};

/// The numbers of a hybrid.
struct Hybrid {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    /// Heads of linear attention, of 128 each.
    value_heads: usize,
    vocabulary: usize,
    /// Number of experts and width of the MLP.
    experts: Option<usize>,
    intermediate: usize,
}

const HEAD: usize = 256;
const KEYS: usize = 16 * 128;

/// Qwen3-Next-80B-A3B: 512 experts, one that all tokens share, and one layer that predicts further tokens.
pub(crate) fn qwen3_next_80b_a3b() -> Shapes {
    let hybrid = Hybrid {
        hidden: 2048,
        layers: 48,
        heads: 16,
        kv_heads: 2,
        value_heads: 32,
        vocabulary: 151_936,
        experts: Some(512),
        intermediate: 512,
    };
    let mut config = hybrid.config("qwen3_next");
    config["architectures"] = json!(["Qwen3NextForCausalLM"]);
    config["num_experts"] = 512.into();
    Shapes { config, tensors: hybrid.tensors("model") }
}

/// Qwen3.5-27B: no experts, and a vision tower without deepstack mergers.
pub(crate) fn qwen3_5_27b() -> Shapes {
    let hybrid = Hybrid {
        hidden: 5120,
        layers: 64,
        heads: 24,
        kv_heads: 4,
        value_heads: 48,
        vocabulary: 248_320,
        experts: None,
        intermediate: 17_408,
    };
    let config = json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "text_config": hybrid.config("qwen3_5_text"),
        "tie_word_embeddings": false,
        "vision_config": { "hidden_size": LARGE.hidden, "depth": LARGE.depth },
    });
    let mut tensors = hybrid.tensors("model.language_model");
    tensors.extend(tower(&LARGE, hybrid.hidden).into_iter().filter(|tensor| !tensor.name.contains("deepstack")));
    Shapes { config, tensors }
}

impl Hybrid {
    fn config(&self, model_type: &str) -> Value {
        json!({
            "model_type": model_type,
            "full_attention_interval": 4,
            "head_dim": HEAD,
            "hidden_size": self.hidden,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_num_key_heads": KEYS / 128,
            "linear_num_value_heads": self.value_heads,
            "linear_value_head_dim": 128,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "tie_word_embeddings": false,
            "vocab_size": self.vocabulary,
        })
    }

    fn tensors(&self, prefix: &str) -> Vec<Shape> {
        let Self { hidden, vocabulary, .. } = *self;
        let mut tensors = vec![
            bf16("lm_head.weight", &[vocabulary, hidden]),
            bf16(format!("{prefix}.embed_tokens.weight"), &[vocabulary, hidden]),
        ];
        for index in 0..self.layers {
            let layer = format!("{prefix}.layers.{index}");
            match index % 4 == 3 {
                true => tensors.extend(self.attention(&layer)),
                false => tensors.extend(self.linear_attention(&layer)),
            }
            tensors.extend(self.rest(&layer));
        }
        tensors.push(bf16(format!("{prefix}.norm.weight"), &[hidden]));
        tensors.push(bf16("mtp.fc.weight", &[hidden, 2 * hidden]));
        for norm in ["norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"] {
            tensors.push(bf16(format!("mtp.{norm}.weight"), &[hidden]));
        }
        tensors.extend(self.attention("mtp.layers.0"));
        tensors.extend(self.rest("mtp.layers.0"));
        tensors
    }

    /// Attention whose queries carry a gate of their own size.
    fn attention(&self, layer: &str) -> Vec<Shape> {
        let (queries, keys) = (self.heads * HEAD, self.kv_heads * HEAD);
        let shapes: [(&str, &[usize]); 6] = [
            ("q_proj", &[2 * queries, self.hidden]),
            ("k_proj", &[keys, self.hidden]),
            ("v_proj", &[keys, self.hidden]),
            ("o_proj", &[self.hidden, queries]),
            ("q_norm", &[HEAD]),
            ("k_norm", &[HEAD]),
        ];
        shapes.into_iter().map(|(name, shape)| bf16(format!("{layer}.self_attn.{name}.weight"), shape)).collect()
    }

    /// Qwen3-Next has its projections in two matrices, Qwen3.5 in four.
    fn linear_attention(&self, layer: &str) -> Vec<Shape> {
        let Self { hidden, value_heads, .. } = *self;
        let values = value_heads * 128;
        let mixed = 2 * KEYS + values;
        let fused = self.experts.is_some();
        let projections: &[(&str, usize)] = match fused {
            true => &[("in_proj_qkvz", mixed + values), ("in_proj_ba", 2 * value_heads)],
            false => {
                &[("in_proj_qkv", mixed), ("in_proj_z", values), ("in_proj_b", value_heads), ("in_proj_a", value_heads)]
            }
        };
        let mut tensors: Vec<Shape> = projections
            .iter()
            .map(|(name, rows)| bf16(format!("{layer}.linear_attn.{name}.weight"), &[*rows, hidden]))
            .collect();
        let others: [(&str, &[usize]); 5] = [
            ("out_proj.weight", &[hidden, values]),
            ("conv1d.weight", &[mixed, 1, 4]),
            ("norm.weight", &[128]),
            ("A_log", &[value_heads]),
            ("dt_bias", &[value_heads]),
        ];
        tensors.extend(others.map(|(name, shape)| bf16(format!("{layer}.linear_attn.{name}"), shape)));
        tensors
    }

    /// The norms and the MLP of a layer.
    fn rest(&self, layer: &str) -> Vec<Shape> {
        let Self { hidden, intermediate, .. } = *self;
        let norms = ["input_layernorm", "post_attention_layernorm"];
        let mut tensors: Vec<Shape> =
            norms.iter().map(|norm| bf16(format!("{layer}.{norm}.weight"), &[hidden])).collect();
        let Some(experts) = self.experts else {
            tensors.extend(mlp(&format!("{layer}.mlp"), hidden, intermediate));
            return tensors;
        };
        tensors.push(bf16(format!("{layer}.mlp.gate.weight"), &[experts, hidden]));
        tensors.push(bf16(format!("{layer}.mlp.shared_expert_gate.weight"), &[1, hidden]));
        tensors.extend(mlp(&format!("{layer}.mlp.shared_expert"), hidden, intermediate));
        let expert = |expert| mlp(&format!("{layer}.mlp.experts.{expert}"), hidden, intermediate);
        tensors.extend((0..experts).flat_map(expert));
        tensors
    }
}
