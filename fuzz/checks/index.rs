//! The index reader: what it accepts names plain files only and is what any JSON parser reads.

use qwen_fp8::checkpoint::index::Index;
use qwen_fp8::checkpoint::layout::{ShardLayout, TensorEntry, index_json};
use qwen_fp8::schemes::Dtype;
use serde_json::Value;

use super::message::message;

pub(crate) fn check(bytes: &[u8]) {
    let index = match Index::parse(bytes) {
        Ok(index) => index,
        Err(error) => return drop(message(&error)),
    };
    assert!(!index.weight_map.is_empty());
    for shard in &index.shards {
        let plain = !shard.contains(['/', '\\', ':', '\0']) && !shard.starts_with('.');
        assert!(plain && shard.ends_with(".safetensors"), "{shard:?} is no plain file name");
    }
    check_as_json(&index, bytes);
    check_round_trip(&index);
}

/// A parser that takes the last of two equal keys reads the same, because there are no two.
fn check_as_json(index: &Index, bytes: &[u8]) {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    // The keys beside the map are skipped, numbers that no machine type holds among them.
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let map = value["weight_map"].as_object().expect("`weight_map` is an object");
    assert_eq!(map.len(), index.weight_map.len());
    for (tensor, shard) in map {
        assert_eq!(index.shards[index.weight_map[tensor]].as_str(), shard);
    }
}

/// What we write we read, under whatever names.
fn check_round_trip(index: &Index) {
    let shards: Option<Vec<ShardLayout>> = index
        .shards
        .iter()
        .enumerate()
        .map(|(at, shard)| {
            let tensors = index.weight_map.iter().filter(|&(_, &in_shard)| in_shard == at);
            let entries = tensors.map(|(name, _)| TensorEntry { name: name.clone(), dtype: Dtype::U8, shape: vec![1] });
            ShardLayout::new(shard.as_str(), entries.collect()).ok()
        })
        .collect();
    // A tensor may be called `__metadata__` in an index, though in no header.
    let Some(shards) = shards else { return assert!(index.weight_map.contains_key("__metadata__")) };
    let again = Index::parse(index_json(&shards).as_bytes()).expect("what we write we read");
    let pairs = |index: &Index| {
        let shard = |(name, &at): (&String, &usize)| (name.clone(), index.shards[at].clone());
        let mut pairs: Vec<_> = index.weight_map.iter().map(shard).collect();
        pairs.sort();
        pairs
    };
    assert_eq!(pairs(&again), pairs(index));
}
