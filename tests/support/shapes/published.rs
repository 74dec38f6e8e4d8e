//! Layers of models of published size: names of transformers' classes, widths as large as those of the models, which nobody has
//! compared with the Hub's files. Four layers stand for all, since a plan treats layers of one form alike.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};

use super::{Shapes, bf16};

/// The tensors `<name>.weight` of each layer, in which `*` stands for each expert.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    name: &'static str,
    shape: &'static [usize],
    /// `Linear` takes it.
    taken: bool,
}

/// A form that `Linear` takes.
const fn taken(name: &'static str, shape: &'static [usize]) -> Form {
    Form { name, shape, taken: true }
}

/// A form that stays unquantized.
const fn kept(name: &'static str, shape: &'static [usize]) -> Form {
    Form { name, shape, taken: false }
}

/// A published model.
pub(crate) struct Published {
    config: Value,
    /// The beginning of names, the numbers behind it, and what each of them has; without numbers the names are whole.
    stacks: Vec<(&'static str, Range<usize>, Vec<Form>)>,
    experts: usize,
}

impl Published {
    fn of(class: &str, model_type: &str, numbers: Value) -> Self {
        let mut config = json!({ "architectures": [class], "model_type": model_type });
        for (key, value) in numbers.as_object().unwrap() {
            config[key] = value.clone();
        }
        Self { config, stacks: Vec::new(), experts: 0 }
    }

    fn with(mut self, prefix: &'static str, numbers: Range<usize>, forms: &[&[Form]]) -> Self {
        self.stacks.push((prefix, numbers, forms.concat()));
        self
    }

    fn outside(self, forms: &[Form]) -> Self {
        self.with("", 0..0, &[forms])
    }

    fn with_experts(self, experts: usize) -> Self {
        Self { experts, ..self }
    }

    /// Each tensor's name with a star for each number, its own name, and its form.
    fn tensors(&self) -> Vec<(String, String, Form)> {
        let mut tensors = Vec::new();
        for (prefix, numbers, forms) in &self.stacks {
            for &form in forms {
                let each = if form.name.contains('*') { self.experts } else { 1 };
                for index in 0..each {
                    let name = form.name.replace('*', &index.to_string());
                    if numbers.is_empty() {
                        tensors.push((form.name.to_owned(), name, form));
                        continue;
                    }
                    for layer in numbers.clone() {
                        tensors.push((format!("{prefix}.*.{}", form.name), format!("{prefix}.{layer}.{name}"), form));
                    }
                }
            }
        }
        tensors
    }

    pub(crate) fn shapes(&self) -> Shapes {
        let tensors = self.tensors().into_iter().map(|(_, name, form)| bf16(format!("{name}.weight"), form.shape));
        Shapes { config: self.config.clone(), tensors: tensors.collect() }
    }

    /// The modules that `Linear` takes, with a star for each number, and how many there are of each.
    pub(crate) fn taken(&self) -> BTreeMap<String, usize> {
        let mut taken = BTreeMap::new();
        for (starred, _, _) in self.tensors().into_iter().filter(|(_, _, form)| form.taken) {
            *taken.entry(starred).or_default() += 1;
        }
        taken
    }
}

/// GLM-4.5: three dense layers, then experts, and after the last of 92 layers one that predicts the next token but one.
pub(crate) fn glm_4_5() -> Published {
    const HIDDEN: usize = 5120;
    const ATTENTION: &[Form] = &[
        taken("self_attn.q_proj", &[12_288, HIDDEN]),
        taken("self_attn.k_proj", &[1024, HIDDEN]),
        taken("self_attn.v_proj", &[1024, HIDDEN]),
        taken("self_attn.o_proj", &[HIDDEN, 12_288]),
        kept("self_attn.q_norm", &[128]),
        kept("input_layernorm", &[HIDDEN]),
    ];
    const EXPERTS: &[Form] = &[
        kept("mlp.gate", &[160, HIDDEN]),
        taken("mlp.experts.*.gate_proj", &[1536, HIDDEN]),
        taken("mlp.experts.*.up_proj", &[1536, HIDDEN]),
        taken("mlp.experts.*.down_proj", &[HIDDEN, 1536]),
        taken("mlp.shared_experts.gate_proj", &[1536, HIDDEN]),
        taken("mlp.shared_experts.up_proj", &[1536, HIDDEN]),
        taken("mlp.shared_experts.down_proj", &[HIDDEN, 1536]),
    ];
    const NEXT: &[Form] = &[
        kept("eh_proj", &[HIDDEN, 2 * HIDDEN]),
        kept("enorm", &[HIDDEN]),
        kept("embed_tokens", &[151_552, HIDDEN]),
        kept("shared_head.head", &[151_552, HIDDEN]),
    ];
    let numbers = json!({"num_hidden_layers": 92, "num_attention_heads": 96, "num_key_value_heads": 8,
        "num_nextn_predict_layers": 1, "tie_word_embeddings": false});
    Published::of("Glm4MoeForCausalLM", "glm4_moe", numbers)
        .with_experts(160)
        .outside(&[kept("model.embed_tokens", &[151_552, HIDDEN]), kept("lm_head", &[151_552, HIDDEN])])
        .with("model.layers", 0..3, &[ATTENTION, &dense_mlp::<HIDDEN, 12_288>()])
        .with("model.layers", 3..4, &[ATTENTION, EXPERTS])
        .with("model.layers", 92..93, &[ATTENTION, EXPERTS, NEXT])
}

const fn dense_mlp<const HIDDEN: usize, const WIDTH: usize>() -> [Form; 3] {
    [
        taken("mlp.gate_proj", const { &[WIDTH, HIDDEN] }),
        taken("mlp.up_proj", const { &[WIDTH, HIDDEN] }),
        taken("mlp.down_proj", const { &[HIDDEN, WIDTH] }),
    ]
}

/// Kimi-K2: DeepSeek-V3's class with 384 experts and half the heads.
pub(crate) fn kimi_k2() -> Published {
    const HIDDEN: usize = 7168;
    const ATTENTION: &[Form] = &[
        taken("self_attn.q_a_proj", &[1536, HIDDEN]),
        taken("self_attn.q_b_proj", &[64 * 192, 1536]),
        taken("self_attn.kv_a_proj_with_mqa", &[576, HIDDEN]),
        taken("self_attn.kv_b_proj", &[64 * 256, 512]),
        taken("self_attn.o_proj", &[HIDDEN, 64 * 128]),
        kept("self_attn.q_a_layernorm", &[1536]),
    ];
    const EXPERTS: &[Form] = &[
        kept("mlp.gate", &[384, HIDDEN]),
        taken("mlp.experts.*.gate_proj", &[2048, HIDDEN]),
        taken("mlp.experts.*.up_proj", &[2048, HIDDEN]),
        taken("mlp.experts.*.down_proj", &[HIDDEN, 2048]),
        taken("mlp.shared_experts.gate_proj", &[2048, HIDDEN]),
        taken("mlp.shared_experts.up_proj", &[2048, HIDDEN]),
        taken("mlp.shared_experts.down_proj", &[HIDDEN, 2048]),
    ];
    let numbers = json!({"num_hidden_layers": 61, "num_attention_heads": 64, "num_key_value_heads": 64,
        "num_nextn_predict_layers": 0, "tie_word_embeddings": false});
    Published::of("DeepseekV3ForCausalLM", "kimi_k2", numbers)
        .with_experts(384)
        .outside(&[kept("model.embed_tokens", &[163_840, HIDDEN]), kept("lm_head", &[163_840, HIDDEN])])
        .with("model.layers", 0..1, &[ATTENTION, &dense_mlp::<HIDDEN, 18_432>()])
        .with("model.layers", 1..3, &[ATTENTION, EXPERTS])
}

/// MiniMax-M2: experts with names of their own.
pub(crate) fn minimax_m2() -> Published {
    const HIDDEN: usize = 3072;
    const LAYER: &[Form] = &[
        taken("self_attn.q_proj", &[6144, HIDDEN]),
        taken("self_attn.k_proj", &[1024, HIDDEN]),
        taken("self_attn.v_proj", &[1024, HIDDEN]),
        taken("self_attn.o_proj", &[HIDDEN, 6144]),
        kept("self_attn.q_norm", &[6144]),
        kept("block_sparse_moe.gate", &[256, HIDDEN]),
        taken("block_sparse_moe.experts.*.w1", &[1536, HIDDEN]),
        taken("block_sparse_moe.experts.*.w2", &[HIDDEN, 1536]),
        taken("block_sparse_moe.experts.*.w3", &[1536, HIDDEN]),
    ];
    let numbers = json!({"num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8,
        "tie_word_embeddings": false});
    Published::of("MiniMaxM2ForCausalLM", "minimax_m2", numbers)
        .with_experts(256)
        .outside(&[kept("model.embed_tokens", &[200_064, HIDDEN]), kept("lm_head", &[200_064, HIDDEN])])
        .with("model.layers", 0..4, &[LAYER])
}

/// Qwen3-Omni-30B-A3B: a thinker with towers, a talker and a codec.
pub(crate) fn qwen3_omni() -> Published {
    const HIDDEN: usize = 2048;
    const THINKER: &[Form] = &[
        taken("self_attn.q_proj", &[4096, HIDDEN]),
        taken("self_attn.k_proj", &[512, HIDDEN]),
        taken("self_attn.v_proj", &[512, HIDDEN]),
        taken("self_attn.o_proj", &[HIDDEN, 4096]),
        kept("mlp.gate", &[128, HIDDEN]),
        taken("mlp.experts.*.gate_proj", &[768, HIDDEN]),
        taken("mlp.experts.*.up_proj", &[768, HIDDEN]),
        taken("mlp.experts.*.down_proj", &[HIDDEN, 768]),
    ];
    const AUDIO: &[Form] = &[
        kept("self_attn.q_proj", &[1280, 1280]),
        kept("self_attn.out_proj", &[1280, 1280]),
        kept("fc1", &[5120, 1280]),
        kept("fc2", &[1280, 5120]),
    ];
    const VISION: &[Form] = &[
        kept("attn.qkv", &[3456, 1152]),
        kept("attn.proj", &[1152, 1152]),
        kept("mlp.linear_fc1", &[4304, 1152]),
        kept("mlp.linear_fc2", &[1152, 4304]),
    ];
    const TALKER: &[Form] = &[
        kept("self_attn.q_proj", &[2048, 1024]),
        kept("self_attn.o_proj", &[1024, 2048]),
        kept("mlp.gate", &[128, 1024]),
        kept("mlp.experts.*.up_proj", &[384, 1024]),
    ];
    let numbers = json!({"thinker_config": {"text_config": {"num_hidden_layers": 48}}, "tie_word_embeddings": false});
    Published::of("Qwen3OmniMoeForConditionalGeneration", "qwen3_omni_moe", numbers)
        .with_experts(128)
        .outside(&[
            kept("thinker.model.embed_tokens", &[152_064, HIDDEN]),
            kept("thinker.lm_head", &[152_064, HIDDEN]),
            kept("talker.codec_head", &[3072, 1024]),
        ])
        .with("thinker.model.layers", 0..4, &[THINKER])
        .with("thinker.audio_tower.layers", 0..2, &[AUDIO])
        .with("thinker.visual.blocks", 0..2, &[VISION])
        .with("talker.model.layers", 0..2, &[TALKER])
}

/// Granite 4.0 Micro: the hybrid's class without Mamba and experts.
pub(crate) fn granite_4_micro() -> Published {
    const HIDDEN: usize = 2560;
    const LAYER: &[Form] = &[
        taken("self_attn.q_proj", &[2560, HIDDEN]),
        taken("self_attn.k_proj", &[512, HIDDEN]),
        taken("self_attn.v_proj", &[512, HIDDEN]),
        taken("self_attn.o_proj", &[HIDDEN, 2560]),
        taken("shared_mlp.input_linear", &[16_384, HIDDEN]),
        taken("shared_mlp.output_linear", &[HIDDEN, 8192]),
        kept("input_layernorm", &[HIDDEN]),
    ];
    let numbers = json!({"num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
        "tie_word_embeddings": true});
    Published::of("GraniteMoeHybridForCausalLM", "granitemoehybrid", numbers)
        .outside(&[kept("model.embed_tokens", &[100_352, HIDDEN])])
        .with("model.layers", 0..4, &[LAYER])
}

/// Nemotron Nano 9B v2: layers of Mamba 2, attention and MLP, each alone.
pub(crate) fn nemotron_nano_9b() -> Published {
    const HIDDEN: usize = 4480;
    const MAMBA: &[Form] = &[
        taken("mixer.in_proj", &[22_656, HIDDEN]),
        taken("mixer.out_proj", &[HIDDEN, 10_240]),
        kept("mixer.conv1d", &[12_288, 1, 4]),
        kept("norm", &[HIDDEN]),
    ];
    const MLP: &[Form] = &[taken("mixer.up_proj", &[15_680, HIDDEN]), taken("mixer.down_proj", &[HIDDEN, 15_680])];
    const ATTENTION: &[Form] = &[
        taken("mixer.q_proj", &[5120, HIDDEN]),
        taken("mixer.k_proj", &[1024, HIDDEN]),
        taken("mixer.v_proj", &[1024, HIDDEN]),
        taken("mixer.o_proj", &[HIDDEN, 5120]),
    ];
    let numbers = json!({"num_hidden_layers": 56, "num_attention_heads": 40, "num_key_value_heads": 8,
        "tie_word_embeddings": false});
    Published::of("NemotronHForCausalLM", "nemotron_h", numbers)
        .outside(&[kept("backbone.embeddings", &[131_072, HIDDEN]), kept("lm_head", &[131_072, HIDDEN])])
        .with("backbone.layers", 0..2, &[MAMBA])
        .with("backbone.layers", 2..3, &[MLP])
        .with("backbone.layers", 3..4, &[ATTENTION])
}

/// Mistral Small 3.2 24B, with Pixtral's tower.
pub(crate) fn mistral_small_3_2() -> Published {
    const HIDDEN: usize = 5120;
    const LAYER: &[Form] = &[
        taken("self_attn.q_proj", &[4096, HIDDEN]),
        taken("self_attn.k_proj", &[1024, HIDDEN]),
        taken("self_attn.v_proj", &[1024, HIDDEN]),
        taken("self_attn.o_proj", &[HIDDEN, 4096]),
    ];
    const VISION: &[Form] = &[
        kept("attention.q_proj", &[1024, 1024]),
        kept("attention.o_proj", &[1024, 1024]),
        kept("feed_forward.gate_proj", &[4096, 1024]),
        kept("feed_forward.up_proj", &[4096, 1024]),
        kept("feed_forward.down_proj", &[1024, 4096]),
    ];
    let numbers = json!({"text_config": {"num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8},
        "tie_word_embeddings": false});
    Published::of("Mistral3ForConditionalGeneration", "mistral3", numbers)
        .outside(&[
            kept("language_model.model.embed_tokens", &[131_072, HIDDEN]),
            kept("language_model.lm_head", &[131_072, HIDDEN]),
            kept("multi_modal_projector.linear_1", &[HIDDEN, 1024]),
            kept("multi_modal_projector.linear_2", &[HIDDEN, HIDDEN]),
            kept("multi_modal_projector.patch_merger.merging_layer", &[1024, 4096]),
        ])
        .with("language_model.model.layers", 0..4, &[LAYER, &dense_mlp::<HIDDEN, 32_768>()])
        .with("vision_tower.transformer.layers", 0..2, &[VISION])
}

/// BGE-M3, an embedding model.
pub(crate) fn bge_m3() -> Published {
    bge("XLMRobertaModel", "encoder.layer").outside(&[
        kept("embeddings.word_embeddings", &[250_002, 1024]),
        kept("embeddings.position_embeddings", &[8194, 1024]),
        kept("pooler.dense", &[1024, 1024]),
    ])
}

/// BGE-Reranker-v2-M3, the same with a class head.
pub(crate) fn bge_reranker_v2_m3() -> Published {
    bge("XLMRobertaForSequenceClassification", "roberta.encoder.layer").outside(&[
        kept("roberta.embeddings.word_embeddings", &[250_002, 1024]),
        kept("classifier.dense", &[1024, 1024]),
        kept("classifier.out_proj", &[1, 1024]),
    ])
}

fn bge(class: &str, layers: &'static str) -> Published {
    const LAYER: &[Form] = &[
        taken("attention.self.query", &[1024, 1024]),
        taken("attention.self.key", &[1024, 1024]),
        taken("attention.self.value", &[1024, 1024]),
        taken("attention.output.dense", &[1024, 1024]),
        kept("attention.output.LayerNorm", &[1024]),
        taken("intermediate.dense", &[4096, 1024]),
        taken("output.dense", &[1024, 4096]),
    ];
    let numbers = json!({"num_hidden_layers": 24, "num_attention_heads": 16, "tie_word_embeddings": true});
    Published::of(class, "xlm-roberta", numbers).with(layers, 0..4, &[LAYER])
}
