//! Checkpoints of a few random tensors, and what the program makes of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::support::program::program;

/// A tensor as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A directory that goes when the test ends.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
}

/// Random numbers, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Bell-shaped around zero, of either sign, some of them much larger than others.
    pub(crate) fn weight(&mut self) -> f32 {
        let sum: f32 = (0..6).map(|_| self.next() as f32 / (1u32 << 31) as f32 - 0.5).sum();
        if self.next().is_multiple_of(500) { sum } else { sum * 0.03 }
    }

    /// A BF16 tensor.
    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let elements = shape.iter().product();
        let bytes = (0..elements).flat_map(|_| bf16::from_f32(self.weight()).to_le_bytes()).collect();
        Tensor { dtype: Dtype::BF16, shape: shape.to_vec(), bytes }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a checkpoint: a shard for each map of tensors, and a config with these keys besides.
    pub(crate) fn checkpoint(&self, name: &str, shards: &[Tensors], config: Value) -> PathBuf {
        let dir = self.path(name);
        std::fs::create_dir(&dir).unwrap();
        let mut all = json!({ "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe" });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        std::fs::write(dir.join("config.json"), all.to_string()).unwrap();
        let mut map = BTreeMap::new();
        for (index, tensors) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
            let views = tensors.iter().map(|(name, tensor)| {
                (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
            });
            std::fs::write(dir.join(&file), safetensors::serialize(views, None).unwrap()).unwrap();
            map.extend(tensors.keys().map(|name| (name.clone(), file.clone())));
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        dir
    }

    /// Runs the program with a recipe; its standard output, or what it says on failure.
    pub(crate) fn run(&self, command: &str, recipe: &str, more: &[&str]) -> Result<String, String> {
        let path = self.path("recipe.yaml");
        std::fs::write(&path, recipe).unwrap();
        self.tool(&[command, path.to_str().unwrap()], more)
    }

    /// Runs the program; its standard output, or what it says on failure.
    pub(crate) fn tool(&self, arguments: &[&str], more: &[&str]) -> Result<String, String> {
        let done = Command::new(program()).args(arguments).args(more).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
    }

    /// Applies a recipe, which must succeed, and reads the result.
    pub(crate) fn apply(&self, recipe: &str, source: &Path, output: &str, more: &[&str]) -> Output {
        let dir = self.path(output);
        let model = ["--model", source.to_str().unwrap(), "--output", dir.to_str().unwrap()];
        self.run("apply", recipe, &[&model, more].concat()).unwrap_or_else(|error| panic!("{recipe}\n{error}"));
        Output::read(&dir)
    }

    /// What the program says when it refuses to apply a recipe; nothing is written then.
    pub(crate) fn refused(&self, recipe: &str, source: &Path) -> String {
        let dir = self.path("refused");
        let model = ["--model", source.to_str().unwrap(), "--output", dir.to_str().unwrap()];
        let said = self.run("apply", recipe, &model).unwrap_err();
        assert!(!dir.exists());
        said
    }
}

/// A checkpoint that the program has written.
#[derive(Debug, PartialEq)]
pub(crate) struct Output {
    /// By name, with the file that holds it.
    pub(crate) tensors: BTreeMap<String, (String, Tensor)>,
    pub(crate) config: Value,
}

impl Output {
    pub(crate) fn read(dir: &Path) -> Self {
        let mut tensors = BTreeMap::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "safetensors") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
                assert!(tensors.insert(name, (file.to_owned(), tensor)).is_none());
            }
        }
        let config = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        Self { tensors, config }
    }

    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.tensors.keys())).1
    }
}
