//! A directory with a small checkpoint that is in order, which a case then spoils.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub(crate) const FIRST: &str = "model-00001-of-00002.safetensors";
pub(crate) const SECOND: &str = "model-00002-of-00002.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The weight that cases spoil; it lies in the second shard.
pub(crate) const VICTIM: &str = "model.layers.0.mlp.up_proj.weight";
pub(crate) const CONFIG: &str = r#"{"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3","hidden_size":16,"num_hidden_layers":1,"tie_word_embeddings":false}"#;
pub(crate) const RECIPE: &str = "scheme: FP8_DYNAMIC\ntargets: [Linear]\nignore: [lm_head]\n";

/// A tensor as it goes into a shard.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

/// What a case may change before the program runs.
pub(crate) struct Scene {
    root: TempDir,
    /// `--model`, below the root.
    pub(crate) model: OsString,
    /// `--output`, below the root.
    pub(crate) output: OsString,
    /// The command line in place of `apply`'s, in the root.
    pub(crate) command: Option<Vec<OsString>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let scene = Self { root, model: "model".into(), output: "out".into(), command: None };
        fs::create_dir(scene.at("model")).unwrap();
        fs::create_dir(scene.at("outside")).unwrap();
        scene.write("outside/canary.txt", "untouched");
        scene.recipe(RECIPE);
        scene.write("model/config.json", CONFIG);
        scene.write("model/tokenizer.json", r#"{"version":"1.0"}"#);
        scene.write("model/tokenizer_config.json", "{}");
        let (first, second) = (first(), second());
        scene.write(format!("model/{FIRST}"), file(&first));
        scene.write(format!("model/{SECOND}"), file(&second));
        scene.index(&map());
        scene
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(path), bytes).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.at(path)).unwrap();
    }

    pub(crate) fn link(&self, target: impl AsRef<Path>, path: &str) {
        let path = self.at(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    pub(crate) fn fifo(&self, path: &str) {
        let path = self.at(path);
        let _ = fs::remove_file(&path);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    }

    pub(crate) fn dir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    /// Puts these bytes in place of the second shard.
    pub(crate) fn shard(&self, bytes: impl AsRef<[u8]>) {
        self.write(format!("model/{SECOND}"), bytes);
    }

    /// Whether the index names this shard; without an index every file is one.
    pub(crate) fn is_shard(&self, name: &str) -> bool {
        let index = fs::read_to_string(self.at(&self.model).join(INDEX)).unwrap_or_default();
        index.is_empty() || index.contains(&format!("\"{name}\""))
    }

    /// A second shard of these tensors, and an index that names them all.
    pub(crate) fn tensors(&self, tensors: &[Tensor]) {
        self.shard(file(tensors));
        let mut map: BTreeMap<String, String> = first().into_iter().map(|t| (t.name, FIRST.to_owned())).collect();
        map.extend(tensors.iter().map(|t| (t.name.clone(), SECOND.to_owned())));
        self.index(&map);
    }

    /// One tensor more in the second shard.
    pub(crate) fn extra(&self, name: &str, dtype: &'static str, shape: &[usize], data: &[u8]) {
        self.tensors(&[second(), vec![tensor(name, dtype, shape, data)]].concat());
    }

    /// Other content for the victim.
    pub(crate) fn victim(&self, dtype: &'static str, shape: &[usize], data: &[u8]) {
        let mut tensors = second();
        *tensors.iter_mut().find(|t| t.name == VICTIM).unwrap() = tensor(VICTIM, dtype, shape, data);
        self.tensors(&tensors);
    }

    /// The second shard with one entry more, at offsets that count from the end of the others.
    pub(crate) fn entry(&self, entry: fn(u64) -> String, data: &[u8]) {
        let tensors = second();
        let end = tensors.iter().map(|t| t.data.len() as u64).sum();
        self.shard(raw(
            &object(&[entries(&tensors), vec![entry(end)]].concat()),
            &[bytes(&tensors), data.to_vec()].concat(),
        ));
    }

    pub(crate) fn index(&self, map: &BTreeMap<String, String>) {
        self.index_text(serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string());
    }

    pub(crate) fn index_text(&self, text: impl AsRef<[u8]>) {
        self.write(format!("model/{INDEX}"), text);
    }

    /// An index that sends the victim to this shard.
    pub(crate) fn send(&self, shard: &str) {
        let mut map = map();
        map.insert(VICTIM.to_owned(), shard.to_owned());
        self.index(&map);
    }

    pub(crate) fn config(&self, text: impl AsRef<[u8]>) {
        self.write("model/config.json", text);
    }

    /// The config with these keys at its end.
    pub(crate) fn config_with(&self, keys: &str) {
        self.config(format!("{},{keys}}}", CONFIG.strip_suffix('}').unwrap()));
    }

    /// The recipe of `apply`, in the format that has scales per row.
    pub(crate) fn recipe(&self, text: &str) {
        self.write("recipe.yaml", format!("{text}format: compressed-tensors\n"));
    }

    /// The program is to check one recipe of this name and text.
    pub(crate) fn validate(&mut self, name: &str, text: impl AsRef<[u8]>) {
        self.write(name, text);
        self.command = Some(vec!["validate".into(), name.into()]);
    }
}

pub(crate) fn tensor(name: &str, dtype: &'static str, shape: &[usize], data: &[u8]) -> Tensor {
    Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data: data.to_vec() }
}

/// A BF16 tensor of small numbers of both signs.
fn bf16(name: &str, shape: &[usize]) -> Tensor {
    let elements = shape.iter().product::<usize>();
    let data = (0..elements).flat_map(|i| [(i * 37 % 256) as u8, if i % 3 == 0 { 0xbc } else { 0x3c }]);
    tensor(name, "BF16", shape, &data.collect::<Vec<_>>())
}

pub(crate) fn first() -> Vec<Tensor> {
    let mut tensors = vec![bf16("model.embed_tokens.weight", &[32, 16])];
    for projection in ["q", "k", "v", "o"] {
        tensors.push(bf16(&format!("model.layers.0.self_attn.{projection}_proj.weight"), &[16, 16]));
    }
    tensors
}

pub(crate) fn second() -> Vec<Tensor> {
    vec![
        bf16("model.layers.0.mlp.gate_proj.weight", &[16, 16]),
        bf16(VICTIM, &[16, 16]),
        bf16("model.layers.0.mlp.down_proj.weight", &[16, 16]),
        bf16("model.norm.weight", &[16]),
        bf16("lm_head.weight", &[32, 16]),
    ]
}

/// Which shard holds which tensor.
pub(crate) fn map() -> BTreeMap<String, String> {
    let shards = [(first(), FIRST), (second(), SECOND)];
    shards.into_iter().flat_map(|(tensors, shard)| tensors.into_iter().map(|t| (t.name, shard.to_owned()))).collect()
}

/// A shard with these bytes as header and data.
pub(crate) fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    with_length(header.len() as u64, &[header.as_bytes(), data].concat())
}

/// A shard that says this of the length of its header.
pub(crate) fn with_length(length: u64, rest: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes(), rest].concat()
}

/// A shard in order.
pub(crate) fn file(tensors: &[Tensor]) -> Vec<u8> {
    raw(&object(&entries(tensors)), &bytes(tensors))
}

pub(crate) fn bytes(tensors: &[Tensor]) -> Vec<u8> {
    tensors.iter().flat_map(|t| t.data.clone()).collect()
}

pub(crate) fn object(entries: &[String]) -> String {
    format!("{{{}}}", entries.join(","))
}

/// The entries of a header, one tensor after the other.
pub(crate) fn entries(tensors: &[Tensor]) -> Vec<String> {
    let mut end = 0;
    let entry = |t: &Tensor| {
        let begin = end;
        end += t.data.len() as u64;
        entry(&t.name, t.dtype, &t.shape, begin, end)
    };
    tensors.iter().map(entry).collect()
}

pub(crate) fn entry(name: &str, dtype: &str, shape: &[usize], begin: u64, end: u64) -> String {
    let name = serde_json::Value::from(name);
    format!(r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
}
