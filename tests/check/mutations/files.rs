//! The files themselves.

use super::*;

pub(super) static MUTATIONS: &[Mutation] = &[
    files("a truncated shard", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| bytes.truncate(bytes.len() - 1))
    }),
    files("bytes after the last tensor", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| bytes.extend([0; 8]))
    }),
    files("an empty shard", "Q001", STRUCTURE, |dir| edit_bytes(&first_shard(dir), Vec::clear)),
    files("a lost shard", "Q001", STRUCTURE, |dir| fs::remove_file(first_shard(dir)).unwrap()),
    files("a shifted offset in a header", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let at = text.find("\"data_offsets\":[0,").unwrap() + "\"data_offsets\":[".len();
            bytes[at] = b'2';
        });
    }),
    files("an index entry to another shard", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| {
            let other = index["weight_map"]["lm_head.weight"].clone();
            let map = index["weight_map"].as_object_mut().unwrap();
            *map.values_mut().find(|shard| **shard != other).unwrap() = other.clone();
        });
    }),
    files("a tensor that is not in the index", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| drop(index["weight_map"].as_object_mut().unwrap().remove(NORM)));
    }),
    files("a ghost in the index", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| {
            index["weight_map"]["ghost.weight"] = index["weight_map"][NORM].clone();
        });
    }),
    files("no index", "Q001", STRUCTURE, |dir| fs::remove_file(dir.join(INDEX)).unwrap()),
    files("a tensor in two shards", "Q001", STRUCTURE, |dir| {
        let mut folder = Folder::read(dir);
        let (norm, holder) = (folder.tensor(NORM).clone(), folder.shard_of(NORM));
        let other = folder.shards.keys().find(|shard| **shard != holder).unwrap().clone();
        folder.shards.get_mut(&other).unwrap().insert(NORM.to_owned(), norm);
        folder.write(dir);
    }),
    files("a cut config.json", "Q001", STRUCTURE, |dir| {
        edit_bytes(&dir.join("config.json"), |text| text.truncate(text.len() / 2))
    }),
    files("no config.json", "Q001", STRUCTURE, |dir| fs::remove_file(dir.join("config.json")).unwrap()),
    files("a wrong `total_size`", "Q002", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| index["metadata"]["total_size"] = json!(7));
    }),
    files("a shard of another run", "Q003", STRUCTURE, |dir| {
        fs::copy(first_shard(dir), dir.join("model-00009-of-00009.safetensors")).unwrap();
    }),
    files("a lost tokenizer", "Q509", CONTENT, |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap()),
    files("a chat template that was put beside the weights", "Q512", CONTENT, |dir| {
        fs::write(dir.join("chat_template.jinja"), "{{ messages }}").unwrap();
    }),
    files("another tokenizer", "Q510", CONTENT, |dir| {
        edit_bytes(&dir.join("tokenizer.json"), |bytes| bytes.push(b'\n'))
    }),
];
