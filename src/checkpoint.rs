//! A checkpoint: a directory of safetensors shards, its `config.json`, and the files beside them.

use std::path::PathBuf;

use safetensors::Dtype;

use crate::layer::{self, LayerKind};

pub mod config;
pub mod header;
pub mod index;
pub mod layout;
pub mod shown;
pub mod source;

/// A checkpoint whose headers, index and config were read and checked; no tensor data is held.
#[derive(Debug)]
pub struct Checkpoint {
    pub dir: PathBuf,
    pub shards: Vec<Shard>,
    /// In order of (shard, offset, name).
    pub tensors: Vec<Tensor>,
    /// `config.json` as it was read.
    pub config: config::Config,
    /// Files that belong to the model and are copied byte for byte.
    pub side_files: Vec<PathBuf>,
    /// Files that were left out, and why; for the notices of a run.
    pub left_out: Vec<(String, &'static str)>,
}

/// One safetensors file.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The plain file name, such as `model-00001-of-00004.safetensors`.
    pub name: String,
    pub path: PathBuf,
    /// Bytes of the whole file.
    pub size: u64,
}

/// One tensor of the checkpoint, as its shard's header describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Index into [`Checkpoint::shards`].
    pub shard: usize,
    /// Offset of the first byte in the shard's file.
    pub offset: u64,
    /// Bytes of data.
    pub len: u64,
}

impl Tensor {
    /// The module the tensor belongs to: its name up to the last dot.
    pub fn module(&self) -> &str {
        layer::split_name(&self.name).0
    }

    /// What follows the last dot: `weight`, `bias`, …
    pub fn parameter(&self) -> &str {
        layer::split_name(&self.name).1
    }

    /// What patterns are held against: the module for a weight or bias, else the tensor's own name.
    pub fn target_name(&self) -> &str {
        match layer::split_name(&self.name) {
            (module, "weight" | "bias") if !module.is_empty() => module,
            _ => &self.name,
        }
    }

    pub fn kind(&self) -> LayerKind {
        LayerKind::of(&self.name, self.shape.len())
    }
}
