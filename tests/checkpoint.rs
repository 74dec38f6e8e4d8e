//! Opening whole directories: the fixture, and small broken ones made on the spot.

mod pattern;
mod python_patterns;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use qwen_fp8::checkpoint::layout::{ShardLayout, TensorEntry, index_json};
use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::{Checkpoint, CheckpointError};
use qwen_fp8::schemes::Dtype;
use tempfile::TempDir;

const CONFIG: &str = r#"{"model_type":"qwen3","architectures":["Qwen3ForCausalLM"]}"#;
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A directory with a config and two shards under an index.
struct Model {
    dir: TempDir,
}

impl Model {
    fn new() -> Self {
        let model = Self { dir: tempfile::tempdir().unwrap() };
        model.write("config.json", CONFIG);
        let shards = [model.shard(FIRST, &["a.weight", "b.weight"]), model.shard(SECOND, &["c.weight"])];
        model.write(INDEX, &index_json(&shards));
        model
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    /// Writes a shard of BF16 `[2, 2]` tensors.
    fn shard(&self, file: &str, names: &[&str]) -> ShardLayout {
        let entry = |name: &&str| TensorEntry { name: (*name).into(), dtype: Dtype::BF16, shape: vec![2, 2] };
        let layout = ShardLayout::new(file, names.iter().map(entry).collect()).unwrap();
        let mut bytes = layout.header.clone();
        bytes.resize(layout.size as usize, 7);
        fs::write(self.dir.path().join(file), bytes).unwrap();
        layout
    }

    fn index(&self, weight_map: &[(&str, &str)]) {
        let weight_map: BTreeMap<_, _> = weight_map.iter().copied().collect();
        self.write(INDEX, &serde_json::json!({ "weight_map": weight_map }).to_string());
    }

    fn open(&self) -> Checkpoint {
        Checkpoint::open(self.dir.path()).unwrap()
    }

    /// The message that refuses the directory, which must be refused.
    fn refusal(&self) -> String {
        let error = Checkpoint::open(self.dir.path()).unwrap_err();
        error.to_string().replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

#[test]
fn the_fixture_opens() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3-vl");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!((checkpoint.shards.len(), checkpoint.tensors.len()), (4, 70));
    assert_eq!((checkpoint.side_files.len(), &checkpoint.left_out, &checkpoint.quantized), (7, &Vec::new(), &None));
    assert_eq!(checkpoint.config.model_type().as_deref(), Some("qwen3_vl"));
    assert_eq!(checkpoint.config.text_number("num_hidden_layers"), Some(2));

    let kinds = checkpoint.by_layer_kind();
    assert!(kinds.iter().all(|summary| summary.dtype == Dtype::BF16 && summary.bytes == 2 * summary.parameters));
    let counts: Vec<_> = kinds.iter().map(|summary| (summary.kind, summary.tensors)).collect();
    assert_eq!(
        counts,
        [
            (LayerKind::Linear, 28),
            (LayerKind::LmHead, 1),
            (LayerKind::Embedding, 1),
            (LayerKind::PositionEmbedding, 1),
            (LayerKind::Conv, 1),
            (LayerKind::Norm, 16),
            (LayerKind::Bias, 22),
        ]
    );
    let index = fs::read_to_string(dir.join(INDEX)).unwrap();
    let total = kinds.iter().map(|summary| summary.bytes).sum::<u64>();
    assert!(index.contains(&format!("\"total_size\": {total}\n")));

    // Every shard is what its layout says, so that a copy of all tensors is the same file.
    for (position, shard) in checkpoint.shards.iter().enumerate() {
        let tensors = checkpoint.tensors.iter().filter(|tensor| tensor.shard == position);
        let entries = tensors.clone().map(|tensor| TensorEntry {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        });
        let layout = ShardLayout::new(shard.name.as_str(), entries.collect()).unwrap();
        assert!(fs::read(&shard.path).unwrap().starts_with(&layout.header));
        assert_eq!(layout.size, shard.size);
        for (tensor, placed) in tensors.zip(&layout.tensors) {
            assert_eq!((&tensor.name, tensor.offset, tensor.len), (&placed.entry.name, placed.offset, placed.len));
        }
    }
}

#[test]
fn tensors_are_read_where_they_lie() {
    let model = Model::new();
    let checkpoint = model.open();
    let names: Vec<_> = checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shard)).collect();
    assert_eq!(names, [("a.weight", 0), ("b.weight", 0), ("c.weight", 1)]);
    let tensor = &checkpoint.tensors[2];
    let mut bytes = vec![0; tensor.len as usize];
    let file = checkpoint.shards[tensor.shard].open().unwrap();
    file.read_exact_at(&mut bytes, tensor.offset).unwrap();
    assert_eq!(bytes, [7; 8]);
    file.check_unchanged().unwrap();
}

#[test]
fn a_shard_that_changed_since_is_refused() {
    let model = Model::new();
    let checkpoint = model.open();
    let shard = &checkpoint.shards[1];
    let open = shard.open().unwrap();
    fs::File::options().append(true).open(&shard.path).unwrap().write_all(b"x").unwrap();
    for error in [shard.open().unwrap_err(), open.check_unchanged().unwrap_err()] {
        assert!(error.to_string().ends_with("changed while it was being read: its size is another one"), "{error}");
    }
    model.remove(SECOND);
    assert!(shard.open().unwrap_err().to_string().ends_with("is missing"));
}

#[test]
fn a_single_file_needs_no_index() {
    for file in ["model.safetensors", "other.safetensors"] {
        let model = Model { dir: tempfile::tempdir().unwrap() };
        model.write("config.json", CONFIG);
        model.shard(file, &["w"]);
        assert_eq!(model.open().shards[0].name, file);
        model.shard("zweites.safetensors", &["w"]);
        match file {
            "model.safetensors" => {
                let left_out = model.open().left_out;
                assert_eq!(left_out, [("zweites.safetensors".to_owned(), "weights that are no part of the model")]);
            }
            _ => assert!(model.refusal().starts_with("`DIR` holds several safetensors files")),
        }
    }
}

#[test]
fn index_and_shards_must_agree() {
    let listed = [("a.weight", FIRST), ("b.weight", FIRST), ("c.weight", SECOND)];
    let with = |extra: &[(&'static str, &'static str)]| [&listed[..], extra].concat();
    let model = Model::new();

    model.index(&with(&[("ghost", FIRST)]));
    assert_eq!(model.refusal(), format!("`{INDEX}` names 1 tensor missing from the shards: `ghost`"));
    model.index(&with(&[("b.weight", SECOND)]));
    assert_eq!(
        model.refusal(),
        format!("`{INDEX}` sends tensor `b.weight` to `{SECOND}`, which does not hold it; `{FIRST}` does")
    );
    model.index(&with(&[("d", "gone.safetensors")]));
    assert_eq!(model.refusal(), format!("`{INDEX}` names 1 shard that is missing: `gone.safetensors`"));
    model.index(&listed[1..]);
    assert_eq!(
        model.refusal(),
        format!("1 tensor of the shards is not in `{INDEX}`, so that no server would load it: `a.weight`")
    );
    model.index(&with(&[("d", "../d.safetensors")]));
    assert!(model.refusal().contains("sends tensor `d` to `../d.safetensors`, which is not a plain file name"));

    model.index(&listed);
    model.shard("consolidated.safetensors", &["a.weight"]);
    assert_eq!(model.open().left_out[0].0, "consolidated.safetensors");
    model.shard("model.safetensors", &["a.weight"]);
    assert!(model.refusal().contains("holds both `model.safetensors` and"));
    model.remove("model.safetensors");

    model.shard(SECOND, &["a.weight", "c.weight"]);
    assert_eq!(
        model.refusal(),
        format!("1 duplicate tensor over several shards; tensor `a.weight` is in `{FIRST}` and also in `{SECOND}`")
    );
}

#[test]
fn many_missing_tensors_make_one_short_message() {
    let model = Model::new();
    let ghosts: BTreeMap<_, _> = (0..100_000).map(|i| (format!("ghost.{i}"), FIRST)).collect();
    model.write(INDEX, &serde_json::json!({ "weight_map": ghosts }).to_string());
    let message = model.refusal();
    assert!(message.contains("100000 tensors missing") && message.ends_with("and 99997 more"), "{message}");
    assert!(message.len() < 300);
}

#[test]
fn more_shards_than_open_files_are_read() {
    let model = Model::new();
    let mut layouts = Vec::new();
    for i in 0..1200 {
        layouts.push(model.shard(&format!("part-{i:04}.safetensors"), &[&format!("w{i}")]));
    }
    model.write(INDEX, &index_json(&layouts));
    let checkpoint = model.open();
    assert_eq!((checkpoint.shards.len(), checkpoint.tensors.len()), (1200, 1200));
    // The shards of the old index are no part of the new one.
    assert_eq!(checkpoint.left_out.len(), 2);
}

#[test]
fn a_checkpoint_with_missing_or_broken_files_is_refused() {
    let model = Model::new();
    model.write("config.json", "[]");
    assert!(model.refusal().starts_with("`config.json`: it is no valid JSON object"));
    model.remove("config.json");
    assert_eq!(model.refusal(), "`DIR/config.json` is missing");
    model.write("config.json", CONFIG);
    model.write(SECOND, "version https://git-lfs.github.com/spec/v1\n");
    assert_eq!(model.refusal(), format!("`{SECOND}`: the file is a git-lfs pointer, not a safetensors file"));
    assert_eq!(Checkpoint::open(model.dir.path()).unwrap_err().help(), ["fetch the real file with `git lfs pull`"]);
    model.remove(SECOND);
    symlink("../blobs/0", model.dir.path().join(SECOND)).unwrap();
    assert_eq!(model.refusal(), format!("`DIR/{SECOND}` is a dangling symlink to `../blobs/0`, which is missing"));
    for name in [FIRST, SECOND, INDEX] {
        model.remove(name);
    }
    assert_eq!(model.refusal(), "`DIR` is not a checkpoint: it holds no safetensors weights");
    model.write("pytorch_model.bin", "");
    assert!(model.refusal().contains("holds weights in another format (`pytorch_model.bin`) and no safetensors"));
    model.shard("model.safetensors", &[]);
    assert_eq!(model.refusal(), "the checkpoint holds no tensors");

    let missing = Checkpoint::open(&model.dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(missing, CheckpointError::Missing { .. }));
    let file = Checkpoint::open(&model.dir.path().join("config.json")).unwrap_err();
    assert!(matches!(file, CheckpointError::NotDirectory { .. }));
}

#[test]
fn a_snapshot_of_links_is_followed() {
    let model = Model::new();
    let hub = tempfile::tempdir().unwrap();
    let snapshot = hub.path().join("snapshots/0123");
    fs::create_dir_all(&snapshot).unwrap();
    fs::rename(model.dir.path(), hub.path().join("blobs")).unwrap();
    for name in ["config.json", INDEX, FIRST, SECOND] {
        symlink(Path::new("../../blobs").join(name), snapshot.join(name)).unwrap();
    }
    symlink(".", snapshot.join("loop")).unwrap();
    let checkpoint = Checkpoint::open(&snapshot).unwrap();
    assert_eq!(checkpoint.tensors.len(), 3);
    assert_eq!(checkpoint.left_out, [("loop".to_owned(), "a folder")]);
}
