//! Writes a checkpoint with the names and shapes of Qwen3-VL-8B-Instruct, as many layers of it as you like, and random
//! values: something of a realistic size to measure with.
//!
//! ```sh
//! cargo run --release --example synth_checkpoint -- /tmp/qwen3-vl-12 --layers 12    # 8.3 GB
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Parser;
use serde_json::{Map, Value, json};

/// Writes a synthetic Qwen3-VL-8B checkpoint.
#[derive(Parser)]
struct Args {
    /// The directory to make.
    output: PathBuf,
    /// Language layers; the model has 36.
    #[arg(long, default_value_t = 36)]
    layers: usize,
    /// Give each layer so many experts instead of its MLP, stacked as on the hub, each of them 768 wide.
    #[arg(long)]
    experts: Option<usize>,
    /// Leave the vision tower out.
    #[arg(long)]
    no_vision: bool,
    /// Rows of the two embedding matrices; the model has 151,936.
    #[arg(long, default_value_t = 151_936)]
    vocabulary: usize,
    /// Bytes of a shard at most, unless one tensor is larger.
    #[arg(long, default_value_t = 5_000_000_000)]
    max_shard_size: u64,
    /// Write headers alone: the weights are holes, which read as zeros and take no space.
    #[arg(long)]
    headers_only: bool,
    /// Other seeds give other values.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const HIDDEN: usize = 4096;
const INTERMEDIATE: usize = 12_288;
const EXPERT: usize = 768;
const KEY_VALUE: usize = 1024;
const HEAD: usize = 128;
const VISION_BLOCKS: usize = 27;
const VISION: usize = 1152;
const VISION_INTERMEDIATE: usize = 4304;
const MERGED: usize = 4 * VISION;

/// Bytes that a thread makes and writes at a time.
const CHUNK: usize = 1 << 20;

type Shapes = Vec<(String, Vec<usize>)>;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut shapes = language(args.layers, args.vocabulary, args.experts);
    if !args.no_vision {
        shapes.extend(vision());
    }
    fs::create_dir(&args.output)?;
    let shards = split(shapes, args.max_shard_size);
    let mut weight_map = Map::new();
    let mut total = 0;
    for (number, shapes) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        let seed = (!args.headers_only).then_some(args.seed ^ (number as u64) << 32);
        total += write_shard(&args.output.join(&name), shapes, seed)?;
        weight_map.extend(shapes.iter().map(|(tensor, _)| (tensor.clone(), Value::from(name.as_str()))));
    }
    weight_map.sort_keys();
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    let document = |name: &str, value: &Value| -> Result<(), Box<dyn Error>> {
        Ok(fs::write(args.output.join(name), serde_json::to_string_pretty(value)? + "\n")?)
    };
    document("model.safetensors.index.json", &index)?;
    document("config.json", &config(&args))?;
    document("generation_config.json", &json!({"do_sample": true, "temperature": 0.7, "top_p": 0.8}))?;
    document("tokenizer_config.json", &json!({"tokenizer_class": "Qwen2Tokenizer"}))?;
    document("tokenizer.json", &json!({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}))?;
    writeln!(io::stderr(), "{} bytes of tensors in {} shards", total, shards.len())?;
    Ok(())
}

fn language(layers: usize, vocabulary: usize, experts: Option<usize>) -> Shapes {
    let mut shapes = vec![
        ("lm_head.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("model.language_model.embed_tokens.weight".to_owned(), vec![vocabulary, HIDDEN]),
        ("model.language_model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.k_norm", vec![HEAD]),
            ("self_attn.k_proj", vec![KEY_VALUE, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.q_norm", vec![HEAD]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.v_proj", vec![KEY_VALUE, HIDDEN]),
        ] {
            shapes.push((format!("model.language_model.layers.{layer}.{name}.weight"), shape));
        }
        let mut mlp = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.language_model.layers.{layer}.mlp.{name}"), shape.to_vec()));
        };
        match experts {
            Some(experts) => {
                mlp("experts.down_proj", &[experts, EXPERT, HIDDEN]);
                mlp("experts.gate_up_proj", &[experts, HIDDEN, 2 * EXPERT]);
                mlp("gate.weight", &[experts, HIDDEN]);
            }
            None => {
                mlp("down_proj.weight", &[HIDDEN, INTERMEDIATE]);
                mlp("gate_proj.weight", &[INTERMEDIATE, HIDDEN]);
                mlp("up_proj.weight", &[INTERMEDIATE, HIDDEN]);
            }
        }
    }
    shapes
}

fn vision() -> Shapes {
    let mut shapes = Shapes::new();
    let mut layer = |name: &str, shape: &[usize]| {
        shapes.push((format!("model.visual.{name}.weight"), shape.to_vec()));
        shapes.push((format!("model.visual.{name}.bias"), shape[..1].to_vec()));
    };
    for block in 0..VISION_BLOCKS {
        layer(&format!("blocks.{block}.attn.proj"), &[VISION, VISION]);
        layer(&format!("blocks.{block}.attn.qkv"), &[3 * VISION, VISION]);
        layer(&format!("blocks.{block}.mlp.linear_fc1"), &[VISION_INTERMEDIATE, VISION]);
        layer(&format!("blocks.{block}.mlp.linear_fc2"), &[VISION, VISION_INTERMEDIATE]);
        layer(&format!("blocks.{block}.norm1"), &[VISION]);
        layer(&format!("blocks.{block}.norm2"), &[VISION]);
    }
    for merger in 0..3 {
        layer(&format!("deepstack_merger_list.{merger}.linear_fc1"), &[MERGED, MERGED]);
        layer(&format!("deepstack_merger_list.{merger}.linear_fc2"), &[HIDDEN, MERGED]);
        layer(&format!("deepstack_merger_list.{merger}.norm"), &[MERGED]);
    }
    layer("merger.linear_fc1", &[MERGED, MERGED]);
    layer("merger.linear_fc2", &[HIDDEN, MERGED]);
    layer("merger.norm", &[VISION]);
    layer("patch_embed.proj", &[VISION, 3, 2, 16, 16]);
    shapes.push(("model.visual.pos_embed.weight".to_owned(), vec![2304, VISION]));
    shapes
}

fn split(shapes: Shapes, max_shard_size: u64) -> Vec<Shapes> {
    let mut shards = vec![Shapes::new()];
    let mut size = 0;
    for (name, shape) in shapes {
        let len = bytes(&shape);
        if size > 0 && size + len > max_shard_size {
            shards.push(Shapes::new());
            size = 0;
        }
        size += len;
        shards.last_mut().expect("there is one from the start").push((name, shape));
    }
    shards
}

fn bytes(shape: &[usize]) -> u64 {
    2 * shape.iter().product::<usize>() as u64
}

/// Writes one shard with all processors and returns the bytes of its tensors.
fn write_shard(path: &Path, shapes: &Shapes, seed: Option<u64>) -> Result<u64, Box<dyn Error>> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += bytes(shape);
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}));
    }
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let file = File::create_new(path)?;
    file.write_all_at(&(json.len() as u64).to_le_bytes(), 0)?;
    file.write_all_at(&json, 8)?;
    let data = 8 + json.len() as u64;
    file.set_len(data + end)?;
    let Some(seed) = seed else { return Ok(end) };
    let next = AtomicUsize::new(0);
    let fill = || -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let at = (number * CHUNK) as u64;
            if at >= end {
                return Ok(());
            }
            randomize(&mut chunk, seed ^ number as u64);
            file.write_all_at(&chunk[..CHUNK.min((end - at) as usize)], data + at)?;
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, |count| count.get());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(fill)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(end)
}

/// Fills with bf16 numbers of a trained layer's spread: about 0.02 on average, one in 4096 up to 64 times as large.
fn randomize(chunk: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for eight in chunk.chunks_exact_mut(8) {
        // xorshift64*: quick, and good enough to be incompressible.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        for (lane, number) in eight.chunks_exact_mut(2).enumerate() {
            let bits = (random >> (16 * lane)) as u16;
            // Sign and mantissa at random; exponents fall off from 2^-5 as leading zeros do.
            let smaller = (bits & 0x7f00).leading_zeros().min(8) as u16;
            number.copy_from_slice(&((bits & 0x807f) | (123 - smaller) << 7).to_le_bytes());
        }
        if random >> 54 == 0 {
            eight[1] = (eight[1] & 0x80) | 0x3f;
        }
    }
}

fn config(args: &Args) -> Value {
    let is_moe = args.experts.is_some();
    let mut text = json!({
        "attention_bias": false,
        "dtype": "bfloat16",
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": 262_144,
        "model_type": if is_moe { "qwen3_vl_moe_text" } else { "qwen3_vl_text" },
        "num_attention_heads": HIDDEN / HEAD,
        "num_hidden_layers": args.layers,
        "num_key_value_heads": KEY_VALUE / HEAD,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5_000_000,
        "vocab_size": args.vocabulary,
    });
    if let Some(experts) = args.experts {
        text["moe_intermediate_size"] = json!(EXPERT);
        text["num_experts"] = json!(experts);
        text["num_experts_per_tok"] = json!(8.min(experts));
    }
    let name = if is_moe { "Qwen3VLMoeForConditionalGeneration" } else { "Qwen3VLForConditionalGeneration" };
    let mut config = json!({
        "architectures": [name],
        "model_type": if is_moe { "qwen3_vl_moe" } else { "qwen3_vl" },
        "text_config": text,
        "tie_word_embeddings": false,
        "transformers_version": "4.57.0.dev0",
    });
    if !args.no_vision {
        config["vision_config"] = json!({
            "deepstack_visual_indexes": [8, 16, 24],
            "depth": VISION_BLOCKS,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": VISION,
            "in_channels": 3,
            "intermediate_size": VISION_INTERMEDIATE,
            "model_type": if is_moe { "qwen3_vl_moe" } else { "qwen3_vl" },
            "num_heads": 16,
            "num_position_embeddings": 2304,
            "out_hidden_size": HIDDEN,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        });
    }
    config
}
