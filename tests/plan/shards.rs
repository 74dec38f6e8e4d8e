//! Into which files the tensors go.

use std::collections::BTreeMap;

use qwen_fp8::plan::Plan;
use serde_json::Value;

use super::{plan, try_plan_in};
use crate::support::shapes::{self, Shapes};

const CHANNELS: &str = "format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n";

fn with_size(size: u64) -> String {
    format!("max_shard_size: {size}B\n{CHANNELS}")
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.shards.iter().map(|shard| shard.file_name.as_str()).collect()
}

/// The index, after proof that it says what the shards hold.
fn index(plan: &Plan) -> Option<Value> {
    let (_, text) = plan.documents.iter().find(|(name, _)| name == "model.safetensors.index.json")?;
    let index: Value = serde_json::from_slice(text).unwrap();
    let held: BTreeMap<&str, &str> = plan
        .shards
        .iter()
        .flat_map(|shard| shard.tensors.iter().map(|placed| (placed.entry.name.as_str(), shard.file_name.as_str())))
        .collect();
    let listed: BTreeMap<&str, &str> = index["weight_map"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, file)| (name.as_str(), file.as_str().unwrap()))
        .collect();
    assert_eq!(listed, held);
    let bytes: u64 = plan.shards.iter().map(|shard| shard.data_len()).sum();
    assert_eq!(index["metadata"]["total_size"], bytes);
    Some(index)
}

/// Four weights of 1000 bytes once quantized: 992 of weight and eight of scale.
fn four() -> Shapes {
    shapes::of_tensors(["a.weight", "b.weight", "c.weight", "d.weight"].map(|name| (name, &[4, 248][..])))
        .with_config("tie_word_embeddings", true.into())
}

#[test]
fn shards_are_filled_to_the_byte() {
    for (size, tensors) in [
        (3999, &[6, 2][..]),
        (4000, &[8]),
        (2000, &[4, 4]),
        (1999, &[2, 2, 2, 2]),
        // A larger tensor has a shard of its own.
        (1, &[2, 2, 2, 2]),
        (2999, &[4, 4]),
        (3000, &[6, 2]),
    ] {
        let plan = plan(&with_size(size), &four());
        assert_eq!(plan.shards.iter().map(|shard| shard.tensors.len()).collect::<Vec<_>>(), tensors, "{size}");
        let count = tensors.len();
        if count == 1 {
            assert_eq!((names(&plan), index(&plan)), (vec!["model.safetensors"], None));
        } else {
            let expected: Vec<String> =
                (1..=count).map(|at| format!("model-{at:05}-of-{count:05}.safetensors")).collect();
            assert_eq!(names(&plan), expected);
            index(&plan).unwrap();
        }
    }
}

#[test]
fn without_a_size_the_shards_are_those_of_the_source() {
    let dir = four().write(4000);
    let as_source = try_plan_in(CHANNELS, dir.path()).unwrap();
    assert_eq!(names(&as_source), ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    index(&as_source).unwrap();
    // Other names stay other names.
    for (old, new) in [("model-00001-of-00002", "x-first"), ("model-00002-of-00002", "x-second")] {
        std::fs::rename(dir.path().join(format!("{old}.safetensors")), dir.path().join(format!("{new}.safetensors")))
            .unwrap();
        let path = dir.path().join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&path).unwrap().replace(old, new);
        std::fs::write(path, text).unwrap();
    }
    let plan = try_plan_in(CHANNELS, dir.path()).unwrap();
    assert_eq!(names(&plan), ["x-first.safetensors", "x-second.safetensors"]);
    // Unless they are cut anew.
    let plan = try_plan_in(&with_size(4000), dir.path()).unwrap();
    assert_eq!((names(&plan), index(&plan)), (vec!["model.safetensors"], None));
}

#[test]
fn a_single_shard_has_the_usual_name_and_no_index() {
    let dir = four().write_single();
    std::fs::rename(dir.path().join("model.safetensors"), dir.path().join("weights.safetensors")).unwrap();
    let plan = try_plan_in(CHANNELS, dir.path()).unwrap();
    assert_eq!((names(&plan), index(&plan)), (vec!["model.safetensors"], None));
    assert_eq!(plan.documents.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["README.md", "config.json"]);
}

#[test]
fn the_8b_model_in_shards_of_five_gigabytes() {
    let plan = plan(&format!("max_shard_size: 5GB\n{}", super::BLOCKS), &shapes::qwen3_vl_8b());
    assert_eq!(
        names(&plan),
        ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"]
    );
    assert!(plan.shards.iter().all(|shard| shard.data_len() <= 5_000_000_000));
    assert_eq!(index(&plan).unwrap()["metadata"]["total_size"], 10_589_327_840_u64);
}
