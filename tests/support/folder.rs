//! A checkpoint in memory that can be spoilt and written out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::support::program::program;

pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// What every result here is made from.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3-vl")
}

const HALF_SEARCHED: &str = "format: fp8
rules:
  - {scheme: FP8_BLOCK, scale_dtype: f32, scale_search: mse, targets: \"re:.*language_model.layers.0.*_proj\"}
  - {scheme: FP8_BLOCK, scale_dtype: f32, targets: \"re:.*language_model.layers.1.*_proj\"}
";

const MIXED: &str = "format: compressed-tensors
rules:
  - {scheme: NVFP4A16, targets: \"re:.*self_attn.*\"}
  - {scheme: W4A16, targets: \"re:.*language_model.*mlp.*\"}
";

/// The results that are spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// `format: fp8`, blocks of 128, BF16 scales.
    Block,
    /// The same with F32 scales.
    BlockF32,
    /// `format: compressed-tensors`, a scale per row.
    Channel,
    /// The same, each scale the one of the least error.
    Searched,
    /// Blocks of 128 with F32 scales of the least error, in one layer of two.
    HalfSearched,
    /// `W8A8`: bytes, a scale per row.
    Int8,
    /// `W4A8` with zero points, in bytes.
    Int4,
    /// `W4A16`: words, a scale per 128 columns.
    Packed,
    /// `W4A16_ASYM`: the same with packed zero points.
    Shifted,
    Mxfp8,
    Mxfp6,
    Mxfp4,
    Nvfp4,
    /// The same with quantized activations.
    Nvfp4Inputs,
    /// Attention in NVFP4, the rest in packed integers.
    Mixed,
}

impl Base {
    /// The result as `apply` wrote it, once for all tests.
    pub(crate) fn dir(self) -> &'static Path {
        static RESULTS: OnceLock<tempfile::TempDir> = OnceLock::new();
        let root = RESULTS.get_or_init(|| {
            let root = tempfile::tempdir().unwrap();
            for (name, recipe) in [
                ("Block", "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\n"),
                ("BlockF32", "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\nscale_dtype: f32\n"),
                ("Channel", "format: compressed-tensors\nscheme: FP8_DYNAMIC\n"),
                ("Searched", "format: compressed-tensors\nscheme: FP8_DYNAMIC\nscale_search: mse\n"),
                ("HalfSearched", HALF_SEARCHED),
                ("Int8", "format: compressed-tensors\nscheme: W8A8\n"),
                ("Int4", "format: compressed-tensors\nscheme: W4A8\nsymmetric: false\n"),
                ("Packed", "format: compressed-tensors\nscheme: W4A16\n"),
                ("Shifted", "format: compressed-tensors\nscheme: W4A16_ASYM\n"),
                ("Mxfp8", "format: compressed-tensors\nscheme: MXFP8\n"),
                ("Mxfp6", "format: compressed-tensors\nscheme: MXFP6A8\n"),
                ("Mxfp4", "format: compressed-tensors\nscheme: MXFP4\n"),
                ("Nvfp4", "format: compressed-tensors\nscheme: NVFP4A16\n"),
                ("Nvfp4Inputs", "format: compressed-tensors\nscheme: NVFP4\ninput_scale: 1.0\n"),
                ("Mixed", MIXED),
            ] {
                let rest =
                    if recipe.contains("rules:") { "" } else { "targets: Linear\nignore: [\"re:.*visual.*\"]\n" };
                let recipe = format!("{recipe}{rest}");
                apply(&recipe, &source(), &root.path().join(name));
            }
            root
        });
        // The directory outlives the tests, which never end the static.
        Box::leak(root.path().join(format!("{self:?}")).into_boxed_path())
    }
}

/// Carries a recipe out in the way that everybody does.
pub(crate) fn apply(recipe: &str, source: &Path, output: &Path) {
    let path = output.with_extension("yaml");
    fs::write(&path, format!("version: 1\n{recipe}")).unwrap();
    let apply = Command::new(program())
        .args(["apply", "--quiet", "--model"])
        .args([source, Path::new("--output"), output, &path])
        .output()
        .unwrap();
    assert!(apply.status.success(), "{recipe}: {}", String::from_utf8_lossy(&apply.stderr));
}

/// One tensor of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Shard → name → tensor.
    pub(crate) shards: BTreeMap<String, BTreeMap<String, Tensor>>,
    pub(crate) config: Map<String, Value>,
    /// Files beside, as they are.
    pub(crate) others: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    pub(crate) fn read(dir: &Path) -> Self {
        let mut folder = Self { shards: BTreeMap::new(), config: Map::new(), others: BTreeMap::new() };
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (name, bytes) = (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
            if name == "config.json" {
                folder.config = serde_json::from_slice(&bytes).unwrap();
            } else if name.ends_with(".safetensors") {
                folder.shards.insert(name, parse(&bytes));
            } else if name != INDEX {
                folder.others.insert(name, bytes);
            }
        }
        folder
    }

    /// Writes everything, headers and index made anew.
    pub(crate) fn write(&self, dir: &Path) {
        self.write_after(dir, None);
    }

    /// Writes everything, but for shards that another folder holds as well: these are links to its files. They must not be
    /// written to.
    pub(crate) fn write_beside(&self, dir: &Path, other: &Self, written: &Path) {
        self.write_after(dir, Some((other, written)));
    }

    fn write_after(&self, dir: &Path, other: Option<(&Self, &Path)>) {
        fs::create_dir_all(dir).unwrap();
        for (name, bytes) in &self.others {
            fs::write(dir.join(name), bytes).unwrap();
        }
        let (mut weight_map, mut total) = (Map::new(), 0);
        for (shard, tensors) in &self.shards {
            match other.filter(|(other, _)| other.shards.get(shard) == Some(tensors)) {
                Some((_, written)) => fs::hard_link(written.join(shard), dir.join(shard)).unwrap(),
                None => fs::write(dir.join(shard), bytes(tensors)).unwrap(),
            }
            for (name, tensor) in tensors {
                weight_map.insert(name.clone(), json!(shard));
                total += tensor.bytes.len();
            }
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        fs::write(dir.join(INDEX), index.to_string()).unwrap();
        fs::write(dir.join("config.json"), Value::from(self.config.clone()).to_string()).unwrap();
    }

    pub(crate) fn shard_of(&self, name: &str) -> String {
        let found = self.shards.iter().find(|(_, tensors)| tensors.contains_key(name));
        found.unwrap_or_else(|| panic!("no tensor {name}")).0.clone()
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        let shard = self.shard_of(name);
        self.shards.get_mut(&shard).unwrap().get_mut(name).unwrap()
    }

    pub(crate) fn remove(&mut self, name: &str) -> Tensor {
        let shard = self.shard_of(name);
        self.shards.get_mut(&shard).unwrap().remove(name).unwrap()
    }

    /// Puts a tensor into the first shard.
    pub(crate) fn add(&mut self, name: &str, tensor: Tensor) {
        self.shards.values_mut().next().unwrap().insert(name.to_owned(), tensor);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.remove(from);
        self.add(to, tensor);
    }

    /// Exchanges the bytes of two tensors.
    pub(crate) fn swap(&mut self, a: &str, b: &str) {
        let of_a = self.tensor(a).bytes.clone();
        let of_b = std::mem::replace(&mut self.tensor(b).bytes, of_a);
        self.tensor(a).bytes = of_b;
    }

    pub(crate) fn quantization(&mut self) -> &mut Map<String, Value> {
        self.config.get_mut("quantization_config").unwrap().as_object_mut().unwrap()
    }

    /// Changes the list of what stays, under each key that holds it.
    pub(crate) fn edit_list(&mut self, edit: impl Fn(&mut Vec<Value>)) {
        for key in ["ignored_layers", "modules_to_not_convert", "ignore"] {
            if let Some(list) = self.quantization().get_mut(key) {
                edit(list.as_array_mut().unwrap());
            }
        }
    }
}

fn parse(bytes: &[u8]) -> BTreeMap<String, Tensor> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let tensor = |entry: &Value| {
        let offset = |index: usize| entry["data_offsets"][index].as_u64().unwrap() as usize;
        Tensor {
            dtype: entry["dtype"].as_str().unwrap().to_owned(),
            shape: serde_json::from_value(entry["shape"].clone()).unwrap(),
            bytes: data[offset(0)..offset(1)].to_vec(),
        }
    };
    let entries = header.iter().filter(|(name, _)| *name != "__metadata__");
    entries.map(|(name, entry)| (name.clone(), tensor(entry))).collect()
}

/// A safetensors file of these tensors.
pub(crate) fn bytes(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    for (name, tensor) in tensors {
        let begin = data.len();
        data.extend(&tensor.bytes);
        let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = Value::from(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
