//! Indexes that point elsewhere, and shards that are no files.

use std::collections::BTreeMap;
use std::fs;

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse, Then};
use crate::support::scene::{FIRST, INDEX, SECOND, Scene, VICTIM, file, first, map, second, tensor};

const NOT_PLAIN: &[&str] = &[INDEX, VICTIM, "not a plain file name"];

/// The index with more keys in its map.
fn more(scene: &Scene, extra: impl Iterator<Item = (String, String)>) {
    scene.index(&map().into_iter().chain(extra).collect());
}

/// A shard that the index could reach outside of the checkpoint.
fn outside(scene: &Scene) -> String {
    scene.write("outside/evil.safetensors", file(&second()));
    scene.at("outside/evil.safetensors").to_str().unwrap().to_owned()
}

/// The shards under other names.
fn rename(scene: &Scene, names: [&str; 2]) {
    for (old, new) in [FIRST, SECOND].iter().zip(names) {
        fs::rename(scene.at("model").join(old), scene.at("model").join(new)).unwrap();
    }
    let renamed = |shard: &str| names[usize::from(shard == SECOND)].to_owned();
    scene.index(&map().into_iter().map(|(tensor, shard)| (tensor, renamed(&shard))).collect());
}

/// The directory as `huggingface_hub` lays it out: links into a folder of blobs.
fn hub(scene: &mut Scene) {
    scene.dir("hub/blobs");
    scene.dir("hub/snapshots/0123");
    for entry in fs::read_dir(scene.at("model")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        fs::rename(scene.at("model").join(&name), scene.at("hub/blobs").join(&name)).unwrap();
        scene.link(format!("../../blobs/{name}"), &format!("hub/snapshots/0123/{name}"));
    }
    scene.model = "hub/snapshots/0123".into();
}

pub(crate) const CASES: &[Case] = &[
    Case(
        "shard missing",
        |s| s.send("model-00009-of-00002.safetensors"),
        Refuse(&[INDEX, "model-00009-of-00002", "missing"]),
    ),
    Case("shard removed", |s| s.remove("model/model-00002-of-00002.safetensors"), Refuse(&[INDEX, SECOND, "missing"])),
    Case(
        "above the checkpoint",
        |s| {
            outside(s);
            s.send("../outside/evil.safetensors")
        },
        Refuse(NOT_PLAIN),
    ),
    Case(
        "above by way of a folder",
        |s| {
            outside(s);
            s.send("x/../../outside/evil.safetensors")
        },
        Refuse(NOT_PLAIN),
    ),
    Case("absolute", |s| s.send(&outside(s)), Refuse(NOT_PLAIN)),
    Case("backslashes", |s| s.send("..\\outside\\evil.safetensors"), Refuse(NOT_PLAIN)),
    Case("drive letter", |s| s.send("C:evil.safetensors"), Refuse(NOT_PLAIN)),
    Case("network path", |s| s.send("//host/share/evil.safetensors"), Refuse(NOT_PLAIN)),
    Case("device", |s| s.send("/dev/zero"), Refuse(NOT_PLAIN)),
    Case("process", |s| s.send("../../../../../proc/self/environ"), Refuse(NOT_PLAIN)),
    Case("NUL in the name", |s| s.send("model\0.safetensors"), Refuse(NOT_PLAIN)),
    Case("newline in the name", |s| s.send("a\nb.safetensors"), Refuse(NOT_PLAIN)),
    Case("no name", |s| s.send(""), Refuse(NOT_PLAIN)),
    Case("dot", |s| s.send("."), Refuse(NOT_PLAIN)),
    Case("two dots", |s| s.send(".."), Refuse(NOT_PLAIN)),
    Case("hidden", |s| s.send(".hidden.safetensors"), Refuse(NOT_PLAIN)),
    Case(
        "in a folder",
        |s| {
            s.dir("model/sub");
            s.write("model/sub/a.safetensors", file(&second()));
            s.send("sub/a.safetensors")
        },
        Refuse(NOT_PLAIN),
    ),
    Case(
        "pickle by name",
        |s| {
            s.write("model/pytorch_model.bin", b"\x80\x02.");
            s.send("pytorch_model.bin")
        },
        Refuse(NOT_PLAIN),
    ),
    Case(
        "directory",
        |s| {
            s.dir("model/d.safetensors");
            s.send("d.safetensors")
        },
        Refuse(&["d.safetensors", "directory"]),
    ),
    Case("name of 300 bytes", |s| s.send(&("m".repeat(300) + ".safetensors")), Refuse(&["mmm", "missing"])),
    Case(
        "number",
        |s| s.index_text(format!(r#"{{"weight_map":{{"{VICTIM}":7}}}}"#)),
        Refuse(&[INDEX, VICTIM, "expected a string"]),
    ),
    Case(
        "null",
        |s| s.index_text(format!(r#"{{"weight_map":{{"{VICTIM}":null}}}}"#)),
        Refuse(&[INDEX, VICTIM, "expected a string"]),
    ),
    Case(
        "list",
        |s| s.index_text(format!(r#"{{"weight_map":{{"{VICTIM}":["a","b"]}}}}"#)),
        Refuse(&[INDEX, VICTIM, "expected a string"]),
    ),
    Case("wrong shard", |s| s.send(FIRST), Refuse(&[VICTIM, FIRST, SECOND, "does not hold it"])),
    Case("FIFO", |s| s.fifo("model/model-00002-of-00002.safetensors"), Refuse(&[SECOND, "FIFO"])),
    Case(
        "link to a device",
        |s| s.link("/dev/zero", "model/model-00002-of-00002.safetensors"),
        Refuse(&[SECOND, "device"]),
    ),
    Case(
        "link to itself",
        |s| s.link(SECOND, "model/model-00002-of-00002.safetensors"),
        Refuse(&[SECOND, "symlink loop"]),
    ),
    Case(
        "link to nothing",
        |s| s.link("../blobs/deadbeef", "model/model-00002-of-00002.safetensors"),
        Refuse(&[SECOND, "dangling symlink", "blobs/deadbeef"]),
    ),
    Case("link to a folder", |s| s.link("/", "model/model-00002-of-00002.safetensors"), Refuse(&[SECOND, "directory"])),
    Case("index as a FIFO", |s| s.fifo("model/model.safetensors.index.json"), Refuse(&[INDEX, "FIFO"])),
    Case(
        "index as a device",
        |s| s.link("/dev/zero", "model/model.safetensors.index.json"),
        Refuse(&[INDEX, "device"]),
    ),
    Case(
        "index of 300 MB",
        |s| fs::File::create(s.at("model").join(INDEX)).unwrap().set_len(300 << 20).unwrap(),
        Refuse(&[INDEX, "is too large"]),
    ),
    Case(
        "Hugging Face cache",
        hub,
        Then(|s| assert!(fs::symlink_metadata(s.at("out").join(SECOND)).unwrap().is_file())),
    ),
    Case(
        "cache with a lost blob",
        |s| {
            hub(s);
            s.remove("hub/blobs/model-00002-of-00002.safetensors")
        },
        Refuse(&[SECOND, "dangling symlink"]),
    ),
    Case(
        "shard that is a link outside",
        |s| {
            fs::rename(s.at("model").join(SECOND), s.at("outside/b.safetensors")).unwrap();
            s.link("../outside/b.safetensors", "model/model-00002-of-00002.safetensors");
        },
        Accept,
    ),
    Case(
        "checkpoint that is a link",
        |s| {
            s.link("model", "link");
            s.model = "link".into()
        },
        Accept,
    ),
    Case(
        "tensor in two shards",
        |s| s.write(format!("model/{FIRST}"), file(&[first(), vec![tensor(VICTIM, "BF16", &[1], b"12")]].concat())),
        Refuse(&[VICTIM, FIRST, SECOND, "duplicate"]),
    ),
    Case(
        "tensor in two shards with the same bytes",
        |s| {
            let victim = second().into_iter().filter(|tensor| tensor.name == VICTIM);
            s.write(format!("model/{FIRST}"), file(&first().into_iter().chain(victim).collect::<Vec<_>>()))
        },
        Refuse(&[VICTIM, FIRST, SECOND, "duplicate"]),
    ),
    Case("name that ends in a dot and a space", |s| s.send("aux.safetensors. "), Refuse(&[INDEX, "aux.safetensors. "])),
    Case(
        "tensor that the index does not name",
        |s| s.shard(file(&[second(), vec![tensor("ghost", "U8", &[1], b"1")]].concat())),
        Refuse(&[INDEX, "`ghost`", "no server would load it"]),
    ),
    Case(
        "tensor that no shard holds",
        |s| more(s, [("ghost".to_owned(), SECOND.to_owned())].into_iter()),
        Refuse(&[INDEX, "`ghost`", "missing from the shards"]),
    ),
    Case(
        "a hundred thousand ghosts",
        |s| more(s, (0..100_000).map(|i| (format!("ghost.{i}"), SECOND.to_owned()))),
        Refuse(&["100000 tensors missing", "99997 more"]),
    ),
    Case(
        "a hundred thousand shards",
        |s| more(s, (0..100_000).map(|i| (format!("g.{i}"), format!("m-{i}.safetensors")))),
        Refuse(&["100000 shards", "99997 more"]),
    ),
    Case("empty file", |s| s.index_text(""), Refuse(&[INDEX, "JSON"])),
    Case("no JSON", |s| s.index_text("{weight_map"), Refuse(&[INDEX, "JSON", "line 1"])),
    Case("array", |s| s.index_text("[]"), Refuse(&[INDEX, "an object with a `weight_map`"])),
    Case("no map", |s| s.index_text(r#"{"metadata":{}}"#), Refuse(&[INDEX, "missing field `weight_map`"])),
    Case("map as an array", |s| s.index_text(r#"{"weight_map":["a"]}"#), Refuse(&[INDEX, "an object of strings"])),
    Case("map without tensors", |s| s.index_text(r#"{"weight_map":{}}"#), Refuse(&[INDEX, "`weight_map` is empty"])),
    Case("two maps", |s| s.index_text(r#"{"weight_map":{},"weight_map":{}}"#), Refuse(&[INDEX, "duplicate field"])),
    Case(
        "tensor named twice",
        |s| s.index_text(format!(r#"{{"weight_map":{{"{VICTIM}":"{FIRST}","{VICTIM}":"{SECOND}"}}}}"#)),
        Refuse(&[INDEX, VICTIM, "duplicate"]),
    ),
    Case("UTF-16", |s| s.index_text(b"\xff\xfe{\0"), Refuse(&[INDEX, "UTF-8"])),
    Case(
        "mark before the text",
        |s| s.index_text(format!("\u{feff}{}", serde_json::json!({ "weight_map": map() }))),
        Accept,
    ),
    Case("nested", |s| s.index_text(format!("{{\"metadata\":{}", "[".repeat(200_000))), Refuse(&[INDEX, "JSON"])),
    Case(
        "odd total size",
        |s| {
            s.index_text(
                serde_json::json!({ "metadata": { "total_size": "-1e9" }, "weight_map": map(), "z": [1.5] })
                    .to_string(),
            )
        },
        Accept,
    ),
    Case(
        "single file and index",
        |s| s.write("model/model.safetensors", file(&second())),
        Refuse(&["`model.safetensors`", INDEX]),
    ),
    Case(
        "single file",
        |s| {
            s.remove("model/model.safetensors.index.json");
            s.write("model/model.safetensors", file(&[first(), second()].concat()));
            s.remove("model/model-00001-of-00002.safetensors");
            s.remove("model/model-00002-of-00002.safetensors")
        },
        Accept,
    ),
    Case(
        "shards without an index",
        |s| s.remove("model/model.safetensors.index.json"),
        Refuse(&[FIRST, SECOND, INDEX]),
    ),
    Case(
        "no weights",
        |s| {
            for name in [INDEX, FIRST, SECOND] {
                s.remove(&format!("model/{name}"))
            }
        },
        Refuse(&["holds no safetensors weights"]),
    ),
    Case(
        "pickles only",
        |s| {
            for name in [INDEX, FIRST, SECOND] {
                s.remove(&format!("model/{name}"))
            }
            s.write("model/pytorch_model.bin", b"\x80\x02.")
        },
        Refuse(&["pytorch_model.bin", "save_pretrained"]),
    ),
    Case(
        "empty folder",
        |s| {
            s.dir("empty");
            s.model = "empty".into()
        },
        Refuse(&["empty", "holds no safetensors"]),
    ),
    Case("a file", |s| s.model = "recipe.yaml".into(), Refuse(&["recipe.yaml", "not a directory"])),
    Case("nothing there", |s| s.model = "./nowhere".into(), Refuse(&["nowhere", "does not exist"])),
    Case(
        "FIFO for a checkpoint",
        |s| {
            s.fifo("pipe");
            s.model = "./pipe".into()
        },
        Refuse(&["pipe", "not a directory"]),
    ),
    Case("empty model", |s| s.model = "".into(), Refuse(&["empty"])),
    Case(
        "weights beside the index",
        |s| s.write("model/consolidated.safetensors", "not even a shard"),
        Then(|s| assert!(!s.at("out/consolidated.safetensors").exists())),
    ),
    Case("names that differ by case", |s| rename(s, ["Part.safetensors", "part.safetensors"]), Accept),
    Case("reserved names", |s| rename(s, ["CON.safetensors", "aux.safetensors"]), Accept),
    Case(
        "numbers that do not add up",
        |s| rename(s, ["model-00001-of-00007.safetensors", "model-00005-of-00003.safetensors"]),
        Accept,
    ),
    Case(
        "more shards than open files",
        |s| {
            let mut map: BTreeMap<_, _> = map();
            for i in 0..300 {
                s.write(
                    format!("model/part-{i}.safetensors"),
                    file(&[tensor(&format!("extra.{i}"), "BF16", &[1], b"12")]),
                );
                map.insert(format!("extra.{i}"), format!("part-{i}.safetensors"));
            }
            s.index(&map);
        },
        Accept,
    ),
];
