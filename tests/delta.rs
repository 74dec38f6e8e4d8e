//! Deltas: made of two checkpoints, put on, refused.

mod command;
mod interrupted;
mod refused;
mod round_trip;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::progress::ProgressSink;
use qwen_fp8::delta::{DeltaFigures, OpenDelta};
use qwen_fp8::run::{PutOn, RunError, apply_delta, make_delta};
use serde_json::json;

use crate::support::folder::{Folder, Tensor};

fn make(old: &Path, new: &Path, delta: &Path) -> DeltaFigures {
    make_delta(&Checkpoint::open(old).unwrap(), &Checkpoint::open(new).unwrap(), delta, &()).unwrap()
}

fn put_on(delta: &Path, base: &Path, output: &Path, progress: &dyn ProgressSink) -> Result<PutOn, RunError> {
    let delta = OpenDelta::open(delta)?;
    apply_delta(&delta, &Checkpoint::open(base).unwrap(), output, false, &(), progress)
}

/// All files below a directory, by path.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// Holds two directories against each other, and names the files that differ.
fn assert_same(made: &Path, new: &Path) {
    let (made, new) = (files(made), files(new));
    assert_eq!(made.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    let differing: Vec<_> = made.iter().filter(|(name, bytes)| new[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// A delta there and back: what it says of itself.
fn trip(old: &Path, new: &Path) -> DeltaFigures {
    let scratch = tempfile::tempdir().unwrap();
    let (delta, output) = (scratch.path().join("changes.qdelta"), scratch.path().join("out"));
    let figures = make(old, new, &delta);
    assert_eq!(fs::metadata(&delta).unwrap().len(), figures.delta_bytes);
    let done = put_on(&delta, old, &output, &()).unwrap();
    assert_same(&output, new);
    assert_eq!((done.files, done.output_bytes, done.shards_resumed), (figures.files, figures.new_bytes, 0));
    // Neither staging nor locks.
    assert_eq!(files(scratch.path()).keys().filter(|name| !name.starts_with("out/")).count(), 1);
    figures
}

fn tensor(dtype: &str, shape: &[usize], bytes: Vec<u8>) -> Tensor {
    Tensor { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes }
}

/// BF16 words that are those of a weight, more or less.
fn weight(rows: usize, columns: usize, seed: u32) -> Tensor {
    let word = |at: usize| {
        let mixed = (at as u32 ^ seed).wrapping_mul(0x9e37_79b9).rotate_left(15).wrapping_mul(0x85eb_ca6b);
        ((mixed >> 31 << 15) as u16)
            | (0x3c00 - 0x80 * (mixed >> 8 & 0x7).trailing_zeros() as u16)
            | (mixed & 0x7f) as u16
    };
    let bytes = (0..rows * columns).flat_map(|at| word(at).to_le_bytes()).collect();
    tensor("BF16", &[rows, columns], bytes)
}

/// Two shards of a few small tensors, and some side files.
fn small() -> Folder {
    let mut folder = Folder { shards: BTreeMap::new(), config: serde_json::Map::new(), others: BTreeMap::new() };
    folder.config.insert("model_type".to_owned(), json!("qwen3"));
    folder.config.insert("architectures".to_owned(), json!(["Qwen3ForCausalLM"]));
    let first = [
        ("model.embed_tokens.weight", weight(16, 24, 1)),
        ("model.layers.0.self_attn.o_proj.weight", weight(24, 24, 2)),
        ("model.layers.0.mlp.down_proj.weight", weight(24, 32, 3)),
    ];
    let second = [
        ("model.layers.1.self_attn.o_proj.weight", weight(24, 24, 4)),
        (
            "model.norm.weight",
            tensor("F32", &[24], (0..24u32).flat_map(|at| (1.0 + at as f32).to_le_bytes()).collect()),
        ),
    ];
    let named = |tensors: &[(&str, Tensor)]| {
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
    };
    folder.shards.insert("model-00001-of-00002.safetensors".to_owned(), named(&first));
    folder.shards.insert("model-00002-of-00002.safetensors".to_owned(), named(&second));
    folder.others.insert("tokenizer.json".to_owned(), br#"{"vocab": {"a": 1}}"#.repeat(20));
    folder.others.insert("README.md".to_owned(), b"# A model\n".to_vec());
    folder
}

/// Moves every `step`-th word of a BF16 tensor by an ulp.
fn nudge(tensor: &mut Tensor, step: usize) {
    tensor.bytes.as_chunks_mut::<2>().0.iter_mut().step_by(step).for_each(|word| word[0] ^= 1);
}
