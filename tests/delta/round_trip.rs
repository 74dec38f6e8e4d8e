//! Every kind of change comes back byte for byte.

use std::fs;

use proptest::prelude::*;
use qwen_fp8::delta::DeltaFigures;
use serde_json::json;

use super::{nudge, small, tensor, trip, weight};
use crate::support::folder::{Base, Folder, INDEX, source};

const O_PROJ: &str = "model.layers.0.self_attn.o_proj.weight";

fn of(old: &Folder, new: &Folder) -> DeltaFigures {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("old"), dir.path().join("new"));
    old.write(&a);
    new.write(&b);
    trip(&a, &b)
}

#[test]
fn nothing_changed_is_a_delta() {
    let figures = of(&small(), &small());
    assert_eq!((figures.unchanged_tensors, figures.changed_pieces, figures.new_tensors), (5, 0, 0));
    assert_eq!((figures.changed_tensors, figures.renamed_tensors, figures.removed_tensors), (0, 0, 0));
}

#[test]
fn changed_words_cost_little() {
    let old = source();
    let mut new = Folder::read(&old);
    let changed = "model.language_model.layers.1.self_attn.q_proj.weight";
    nudge(new.tensor(changed), 50);
    let dir = tempfile::tempdir().unwrap();
    new.write(dir.path());
    let figures = trip(&old, dir.path());
    assert_eq!((figures.changed_tensors, figures.new_tensors), (1, 0));
    assert_eq!(figures.unchanged_tensors, 69);
}

#[test]
fn tensors_larger_than_a_piece_come_back() {
    let (mut old, mut new) = (small(), small());
    let large = weight(700, 1000, 9);
    old.add("model.layers.2.mlp.up_proj.weight", large.clone());
    new.add("model.layers.2.mlp.up_proj.weight", large);
    // In the second piece alone.
    let bytes = &mut new.tensor("model.layers.2.mlp.up_proj.weight").bytes;
    bytes[1_300_000] ^= 1;
    let figures = of(&old, &new);
    assert_eq!((figures.changed_tensors, figures.unchanged_tensors), (1, 5));
    // That piece, the headers and the index are all that changed.
    assert!(figures.delta_bytes < 3_000, "{figures:?}");
    assert_eq!(figures.changed_pieces, 1);
}

#[test]
fn new_removed_and_renamed_tensors_come_back() {
    let (old, mut new) = (small(), small());
    new.remove("model.norm.weight");
    new.rename(O_PROJ, "model.language_model.layers.0.self_attn.o_proj.weight");
    nudge(new.tensor("model.language_model.layers.0.self_attn.o_proj.weight"), 9);
    new.add("model.extra.weight", weight(5, 7, 11));
    let figures = of(&old, &new);
    assert_eq!((figures.new_tensors, figures.removed_tensors, figures.renamed_tensors), (1, 1, 1));
}

#[test]
fn other_dtypes_and_shapes_come_back() {
    let (old, mut new) = (small(), small());
    let flat = new.tensor(O_PROJ);
    flat.shape = vec![24 * 24];
    let wide = new.tensor("model.layers.1.self_attn.o_proj.weight");
    wide.dtype = "F32".to_owned();
    wide.bytes = wide.bytes.as_chunks::<2>().0.iter().flat_map(|word| [0, 0, word[0], word[1]]).collect();
    let halved = new.tensor("model.layers.0.mlp.down_proj.weight");
    (halved.shape, halved.bytes) = (vec![12, 32], halved.bytes[..12 * 32 * 2].to_vec());
    let figures = of(&old, &new);
    // One that has another shape alone is the same bytes.
    assert_eq!((figures.unchanged_tensors, figures.changed_tensors, figures.new_tensors), (3, 2, 0));
}

#[test]
fn other_shards_and_a_single_file_come_back() {
    let old = small();
    let mut new = small();
    let all = new.shards.values().flatten().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    new.shards = [("model.safetensors".to_owned(), all)].into();
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("old"), dir.path().join("new"));
    old.write(&a);
    new.write(&b);
    fs::remove_file(b.join(INDEX)).unwrap();
    for (old, new) in [(&a, &b), (&b, &a), (&b, &b)] {
        let figures = trip(old, new);
        assert_eq!((figures.unchanged_tensors, figures.changed_tensors, figures.new_tensors), (5, 0, 0));
    }
}

#[test]
fn side_files_and_metadata_come_back() {
    let (old, mut new) = (small(), small());
    new.others.remove("README.md");
    new.others.insert("LICENSE".to_owned(), b"Apache".to_vec());
    new.others.insert("merges.txt".to_owned(), Vec::new());
    new.others.get_mut("tokenizer.json").unwrap()[3] ^= 1;
    new.config["model_type"] = json!("qwen3_moe");
    let modules = r#"[{"idx":0,"name":"0","path":"1_Pooling","type":"t"}]"#;
    new.others.insert("modules.json".to_owned(), modules.into());
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("old"), dir.path().join("new"));
    old.write(&a);
    new.write(&b);
    fs::create_dir(b.join("1_Pooling")).unwrap();
    fs::write(b.join("1_Pooling/config.json"), "{}").unwrap();
    let index = fs::read_to_string(b.join(INDEX)).unwrap();
    fs::write(b.join(INDEX), format!("{index}\n")).unwrap();
    assert_eq!(trip(&a, &b).unchanged_tensors, 5);
    // What is no part of the model is named, and in no delta.
    fs::write(b.join("optimizer.pt"), "x").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let figures = super::make(&a, &b, &scratch.path().join("d"));
    assert_eq!(figures.left_out.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["optimizer.pt"]);
}

#[test]
fn quantized_results_come_back() {
    for (old, new) in [
        (source().as_path(), Base::Block.dir()),
        (Base::Block.dir(), Base::BlockF32.dir()),
        (Base::Block.dir(), Base::Channel.dir()),
        (Base::Channel.dir(), Base::Searched.dir()),
        (Base::Packed.dir(), Base::Nvfp4.dir()),
        (Base::Nvfp4.dir(), source().as_path()),
    ] {
        trip(old, new);
    }
}

#[test]
fn empty_tensors_and_values_that_are_no_numbers_come_back() {
    let (mut old, mut new) = (small(), small());
    let odd: Vec<u8> = [0x7f80u16, 0xff80, 0x7fc0, 0xffff, 0x8000, 0, 1, 0x8001].map(u16::to_le_bytes).concat();
    let turned: Vec<u8> = odd.iter().rev().copied().collect();
    old.add("model.odd.weight", tensor("BF16", &[8], odd.clone()));
    new.add("model.odd.weight", tensor("BF16", &[8], turned));
    old.add("model.none.weight", tensor("BF16", &[0, 4], Vec::new()));
    new.add("model.none.weight", tensor("BF16", &[0, 4], Vec::new()));
    new.add("model.nothing.weight", tensor("F8_E4M3", &[0], Vec::new()));
    new.add("model.number", tensor("I64", &[], 7i64.to_le_bytes().to_vec()));
    new.add("model.eight", tensor("F8_E4M3", &[16], odd));
    of(&old, &new);
}

/// A change of a checkpoint, by numbers that choose what and where.
fn change(folder: &mut Folder, (kind, place, value): (u8, u16, u8)) {
    let names: Vec<_> = folder.shards.values().flat_map(|shard| shard.keys().cloned()).collect();
    let name = names[usize::from(place) % names.len()].clone();
    let tensor = folder.tensor(&name);
    let at = usize::from(place) * 31 % tensor.bytes.len().max(1);
    match kind % 7 {
        0 | 1 if !tensor.bytes.is_empty() => tensor.bytes[at] ^= value,
        2 => tensor.bytes.iter_mut().skip(at).step_by(2).for_each(|byte| *byte = byte.wrapping_add(value)),
        3 => folder.rename(&name, &format!("model.renamed.{value}.{}", name.rsplit('.').next().unwrap())),
        4 if names.len() > 1 => drop(folder.remove(&name)),
        5 => folder.add(&format!("model.added.{value}.weight"), weight(3, usize::from(value), place.into())),
        _ => drop(folder.others.insert("tokenizer.json".to_owned(), vec![value; usize::from(place) % 300])),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_changes_come_back(
        before in prop::collection::vec(any::<(u8, u16, u8)>(), 0..3),
        changes in prop::collection::vec(any::<(u8, u16, u8)>(), 0..8),
    ) {
        let mut old = small();
        before.into_iter().for_each(|one| change(&mut old, one));
        let mut new = old.clone();
        changes.into_iter().for_each(|one| change(&mut new, one));
        // A shard without tensors is in no index, and no part of the model.
        [&mut old, &mut new].into_iter().for_each(|folder| folder.shards.retain(|_, tensors| !tensors.is_empty()));
        of(&old, &new);
    }
}
