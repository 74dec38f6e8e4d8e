//! Checkpoints of real shapes that take no room: names and shapes by formula, headers on disk, and holes for data.

pub(crate) mod deepseek;
pub(crate) mod gemma;
pub(crate) mod hybrid;
pub(crate) mod llama;
pub(crate) mod published;
pub(crate) mod qwen2_5_vl;
pub(crate) mod qwen3;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A tensor as a header describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
}

/// A checkpoint without data.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<Shape>,
}

/// The numbers of a language model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) tied: bool,
    /// Number and width of the experts of a layer.
    pub(crate) experts: Option<(usize, usize)>,
}

/// The numbers of a vision tower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vision {
    pub(crate) hidden: usize,
    pub(crate) depth: usize,
    pub(crate) intermediate: usize,
}

const HEAD: usize = 128;
const VOCABULARY: usize = 151_936;
const SMALL: Vision = Vision { hidden: 1024, depth: 24, intermediate: 4096 };
const LARGE: Vision = Vision { hidden: 1152, depth: 27, intermediate: 4304 };

const fn text(hidden: usize, layers: usize, intermediate: usize, heads: usize, kv_heads: usize, tied: bool) -> Text {
    Text { hidden, layers, intermediate, heads, kv_heads, tied, experts: None }
}

/// Qwen3-VL-2B, whose head is tied.
pub(crate) fn qwen3_vl_2b() -> Shapes {
    qwen3_vl(text(2048, 28, 6144, 16, 8, true), SMALL)
}

/// Qwen3-VL-4B, whose head is tied.
pub(crate) fn qwen3_vl_4b() -> Shapes {
    qwen3_vl(text(2560, 36, 9728, 32, 8, true), SMALL)
}

/// Qwen3-VL-8B.
pub(crate) fn qwen3_vl_8b() -> Shapes {
    qwen3_vl(text(4096, 36, 12288, 32, 8, false), LARGE)
}

/// Qwen3-VL-32B.
pub(crate) fn qwen3_vl_32b() -> Shapes {
    qwen3_vl(text(5120, 64, 25600, 64, 8, false), LARGE)
}

const A3B: Text = Text { experts: Some((128, 768)), ..text(2048, 48, 6144, 32, 4, false) };

/// Qwen3-VL-30B-A3B as the hub has it: the experts of a layer stacked in two tensors, transposed.
pub(crate) fn qwen3_vl_30b_stacked() -> Shapes {
    qwen3_vl(A3B, LARGE)
}

/// Qwen3-VL-30B-A3B with a matrix for each projection of each expert, as FP8 checkpoints have it.
pub(crate) fn qwen3_vl_30b_per_expert() -> Shapes {
    qwen3_vl_30b_stacked().with_split_experts()
}

/// Qwen3-8B, which has no vision tower.
pub(crate) fn qwen3_8b() -> Shapes {
    let numbers = text(4096, 36, 12288, 32, 8, false);
    Shapes { config: text_config(&numbers, "qwen3", "Qwen3ForCausalLM"), tensors: language(&numbers, "model.") }
}

/// A checkpoint with these tensors, all BF16, and a config of one language layer.
pub(crate) fn of_tensors<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Shapes {
    let numbers = text(256, 1, 384, 2, 2, false);
    let tensors = tensors.into_iter().map(|(name, shape)| bf16(name, shape)).collect();
    Shapes { config: text_config(&numbers, "qwen3", "Qwen3ForCausalLM"), tensors }
}

/// A Qwen3-VL of two layers and two vision blocks, each as small as blocks of 128 allow.
pub(crate) fn small_vl() -> Shapes {
    qwen3_vl(text(256, 2, 512, 2, 2, false), Vision { hidden: 128, depth: 2, intermediate: 256 })
}

/// A Qwen3 of two layers, as small as blocks of 128 allow.
pub(crate) fn small_text() -> Shapes {
    let numbers = text(256, 2, 512, 2, 2, false);
    Shapes { config: text_config(&numbers, "qwen3", "Qwen3ForCausalLM"), tensors: language(&numbers, "model.") }
}

/// A Qwen3-MoE of two layers of four experts.
pub(crate) fn small_moe() -> Shapes {
    let numbers = Text { experts: Some((4, 128)), ..text(256, 2, 512, 2, 2, false) };
    let tensors = language(&numbers, "model.");
    Shapes { config: text_config(&numbers, "qwen3_moe", "Qwen3MoeForCausalLM"), tensors }.with_split_experts()
}

/// The weights of a gated MLP.
fn mlp(module: &str, hidden: usize, intermediate: usize) -> [Shape; 3] {
    [
        bf16(format!("{module}.gate_proj.weight"), &[intermediate, hidden]),
        bf16(format!("{module}.up_proj.weight"), &[intermediate, hidden]),
        bf16(format!("{module}.down_proj.weight"), &[hidden, intermediate]),
    ]
}

pub(crate) fn bf16(name: impl Into<String>, shape: &[usize]) -> Shape {
    Shape { name: name.into(), dtype: "BF16", shape: shape.to_vec() }
}

impl Shapes {
    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.iter().map(Shape::bytes).sum()
    }

    /// The names of the tensors, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The tensor called `name`.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut Shape {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of this name")
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, before);
        self
    }

    pub(crate) fn with(mut self, name: &str, shape: &[usize]) -> Self {
        self.tensors.push(bf16(name, shape));
        self
    }

    pub(crate) fn with_config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Writes the checkpoint into a new directory, in shards of at most so many bytes of data.
    pub(crate) fn write(&self, shard_bytes: u64) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.write_into(dir.path(), shard_bytes);
        dir
    }

    /// A checkpoint of one shard.
    pub(crate) fn write_single(&self) -> TempDir {
        self.write(u64::MAX)
    }

    pub(crate) fn write_into(&self, dir: &Path, shard_bytes: u64) {
        fs::write(dir.join("config.json"), format!("{:#}\n", self.config)).unwrap();
        let mut shards: Vec<Vec<&Shape>> = Vec::new();
        let mut filled = u64::MAX;
        for tensor in &self.tensors {
            filled = filled.saturating_add(tensor.bytes());
            if filled > shard_bytes || shards.is_empty() {
                shards.push(Vec::new());
                filled = tensor.bytes();
            }
            shards.last_mut().unwrap().push(tensor);
        }
        if let [only] = &shards[..] {
            return write_shard(&dir.join("model.safetensors"), only);
        }
        let mut map = Map::new();
        for (index, shard) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
            map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.as_str().into())));
            write_shard(&dir.join(file), shard);
        }
        let index = json!({ "metadata": { "total_size": self.bytes() }, "weight_map": map });
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    fn with_split_experts(mut self) -> Self {
        self.tensors = self.tensors.into_iter().flat_map(split_experts).collect();
        self
    }
}

impl Shape {
    pub(crate) fn bytes(&self) -> u64 {
        let size = match self.dtype {
            "F64" | "I64" => 8,
            "F32" => 4,
            "BF16" | "F16" => 2,
            "F8_E4M3" | "U8" => 1,
            other => panic!("no size for {other}"),
        };
        self.shape.iter().map(|&dimension| dimension as u64).product::<u64>() * size
    }
}

/// Writes a header, and a hole where the data would be.
fn write_shard(path: &Path, tensors: &[&Shape]) {
    let mut entries = Map::new();
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes();
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end] });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(entries).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = File::create_new(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

fn qwen3_vl(numbers: Text, vision: Vision) -> Shapes {
    let moe = numbers.experts.is_some();
    let (model_type, class) = match moe {
        true => ("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration"),
        false => ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
    };
    let config = json!({
        "architectures": [class],
        "model_type": model_type,
        "text_config": text_config(&numbers, "qwen3_vl_text", class),
        "tie_word_embeddings": numbers.tied,
        "vision_config": { "hidden_size": vision.hidden, "depth": vision.depth },
    });
    let mut tensors = language(&numbers, "model.language_model.");
    tensors.extend(tower(&vision, numbers.hidden));
    Shapes { config, tensors }
}

fn text_config(numbers: &Text, model_type: &str, class: &str) -> Value {
    json!({
        "architectures": [class],
        "model_type": model_type,
        "head_dim": HEAD,
        "hidden_size": numbers.hidden,
        "num_attention_heads": numbers.heads,
        "num_hidden_layers": numbers.layers,
        "num_key_value_heads": numbers.kv_heads,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": numbers.tied,
    })
}

fn language(numbers: &Text, prefix: &str) -> Vec<Shape> {
    let &Text { hidden, layers, intermediate, heads, kv_heads, tied, experts } = numbers;
    let (queries, keys) = (heads * HEAD, kv_heads * HEAD);
    let mut tensors = Vec::new();
    if !tied {
        tensors.push(bf16("lm_head.weight", &[VOCABULARY, hidden]));
    }
    tensors.push(bf16(format!("{prefix}embed_tokens.weight"), &[VOCABULARY, hidden]));
    for layer in 0..layers {
        let mut push =
            |name: &str, shape: &[usize]| tensors.push(bf16(format!("{prefix}layers.{layer}.{name}"), shape));
        push("input_layernorm.weight", &[hidden]);
        push("post_attention_layernorm.weight", &[hidden]);
        push("self_attn.q_norm.weight", &[HEAD]);
        push("self_attn.k_norm.weight", &[HEAD]);
        push("self_attn.q_proj.weight", &[queries, hidden]);
        push("self_attn.k_proj.weight", &[keys, hidden]);
        push("self_attn.v_proj.weight", &[keys, hidden]);
        push("self_attn.o_proj.weight", &[hidden, queries]);
        match experts {
            None => {
                push("mlp.gate_proj.weight", &[intermediate, hidden]);
                push("mlp.up_proj.weight", &[intermediate, hidden]);
                push("mlp.down_proj.weight", &[hidden, intermediate]);
            }
            Some((count, width)) => {
                push("mlp.gate.weight", &[count, hidden]);
                push("mlp.experts.gate_up_proj", &[count, hidden, 2 * width]);
                push("mlp.experts.down_proj", &[count, width, hidden]);
            }
        }
    }
    tensors.push(bf16(format!("{prefix}norm.weight"), &[hidden]));
    tensors
}

fn tower(vision: &Vision, out: usize) -> Vec<Shape> {
    let &Vision { hidden, depth, intermediate } = vision;
    let merged = 4 * hidden;
    let mut tensors = Vec::new();
    let mut layer = |name: String, shape: &[usize]| {
        tensors.push(bf16(format!("model.visual.{name}.weight"), shape));
        tensors.push(bf16(format!("model.visual.{name}.bias"), &shape[..1]));
    };
    layer("patch_embed.proj".into(), &[hidden, 3, 2, 16, 16]);
    for block in 0..depth {
        let mut layer = |name: &str, shape: &[usize]| layer(format!("blocks.{block}.{name}"), shape);
        layer("norm1", &[hidden]);
        layer("norm2", &[hidden]);
        layer("attn.qkv", &[3 * hidden, hidden]);
        layer("attn.proj", &[hidden, hidden]);
        layer("mlp.linear_fc1", &[intermediate, hidden]);
        layer("mlp.linear_fc2", &[hidden, intermediate]);
    }
    let mergers = std::iter::once(("merger".to_owned(), hidden))
        .chain((0..3).map(|index| (format!("deepstack_merger_list.{index}"), merged)));
    for (merger, normed) in mergers {
        layer(format!("{merger}.norm"), &[normed]);
        layer(format!("{merger}.linear_fc1"), &[merged, merged]);
        layer(format!("{merger}.linear_fc2"), &[out, merged]);
    }
    tensors.push(bf16("model.visual.pos_embed.weight", &[2304, hidden]));
    tensors
}

fn split_experts(tensor: Shape) -> Vec<Shape> {
    let (Some((experts, stacked)), &[count, rows, columns]) = (tensor.name.rsplit_once('.'), &tensor.shape[..]) else {
        return vec![tensor];
    };
    let parts: &[(&str, [usize; 2])] = match stacked {
        "gate_up_proj" => &[("gate_proj", [columns / 2, rows]), ("up_proj", [columns / 2, rows])],
        _ => &[("down_proj", [columns, rows])],
    };
    let expert = |index| parts.iter().map(move |(part, shape)| bf16(format!("{experts}.{index}.{part}.weight"), shape));
    (0..count).flat_map(expert).collect()
}
