//! Files and the index.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{By, Mutation, content, files};
use crate::support::folder::INDEX;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

pub(super) const MUTATIONS: &[Mutation] = &[
    files("shard cut", &["Q001"], |_, dir| {
        let bytes = fs::read(dir.join(SECOND)).unwrap();
        fs::write(dir.join(SECOND), &bytes[..bytes.len() - 7]).unwrap();
        Some(())
    }),
    files("shard missing", &["Q001"], |_, dir| {
        fs::remove_file(dir.join(SECOND)).unwrap();
        Some(())
    }),
    files("header spoilt", &["Q001"], |_, dir| {
        let mut bytes = fs::read(dir.join(FIRST)).unwrap();
        bytes[20] = b'}';
        fs::write(dir.join(FIRST), bytes).unwrap();
        Some(())
    }),
    files("index names another file", &["Q001"], |fixture, dir| {
        edit_index(dir, |index| {
            let name = &fixture.middle().scale;
            let file = &mut index["weight_map"][name];
            *file = if *file == FIRST { json!(SECOND) } else { json!(FIRST) };
        })
    }),
    files("index lacks a scale", &["Q001", "Q301"], |fixture, dir| {
        edit_index(dir, |index| {
            index["weight_map"].as_object_mut().unwrap().remove(&fixture.middle().scale);
        })
    }),
    files("index has an entry too many", &["Q001"], |_, dir| {
        edit_index(dir, |index| index["weight_map"]["model.nothing.weight"] = json!(FIRST))
    }),
    files("total_size wrong", &["Q002"], |_, dir| {
        edit_index(dir, |index| index["metadata"]["total_size"] = json!(12_345))
    }),
    files("index missing", &["Q001"], |_, dir| {
        fs::remove_file(dir.join(INDEX)).unwrap();
        Some(())
    }),
    files("a shard of nobody", &["Q003"], |_, dir| {
        fs::copy(dir.join(FIRST), dir.join("model-00003-of-00003.safetensors")).unwrap();
        Some(())
    }),
    files("one file beside the index", &["Q001"], |_, dir| {
        fs::copy(dir.join(FIRST), dir.join("model.safetensors")).unwrap();
        Some(())
    }),
    files("one file and others in the index", &["Q004"], |_, dir| {
        fs::rename(dir.join(FIRST), dir.join("model.safetensors")).unwrap();
        let text = fs::read_to_string(dir.join(INDEX)).unwrap();
        fs::write(dir.join(INDEX), text.replace(FIRST, "model.safetensors")).unwrap();
        Some(())
    }),
    content("a tensor in two shards", &["Q001"], By::Lint, |fixture, folder| {
        let name = &fixture.middle().scale;
        let tensor = folder.tensor(name).clone();
        folder.shards.values_mut().for_each(|shard| drop(shard.insert(name.clone(), tensor.clone())));
        Some(())
    }),
    files("config.json missing", &["Q001"], |_, dir| {
        fs::remove_file(dir.join("config.json")).unwrap();
        Some(())
    }),
];

fn edit_index(dir: &Path, edit: impl FnOnce(&mut Value)) -> Option<()> {
    let mut index = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
    edit(&mut index);
    fs::write(dir.join(INDEX), index.to_string()).unwrap();
    Some(())
}
