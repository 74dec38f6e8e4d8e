//! The type of an open checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapter::Adapter;
use crate::config::Config;
use crate::hub::{ModelName, model_of};
use crate::models::Model;
use crate::place::CheckpointPlace;
use crate::remote::Repository;
use crate::shard::Shard;
use crate::side_files::{SideFile, is_of_weights};
use crate::source::SourceError;
use crate::tensor::Tensor;

/// A checkpoint whose headers, index and config were read and checked; no tensor data is held.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The directory as it was named, or the address of its repository.
    pub dir: PathBuf,
    /// The safetensors files in order of name; each holds the tensors that the index names for it.
    pub shards: Vec<Shard>,
    /// All stored tensors in order of (shard, offset, name); names are unique over all shards.
    pub tensors: Vec<Tensor>,
    /// `config.json` as it was read.
    pub config: Config,
    /// What is known of the model.
    pub model: Model,
    /// The sign that the checkpoint is quantized already, such as ``tensor `a.weight` is F8_E4M3``; `None` where it is
    /// not.
    pub quantized: Option<String>,
    /// Set where it was made of headers, without a file of weights.
    pub headers_only: bool,
    /// The repository elsewhere that its files are read from; `None` where they lie on this machine.
    pub repository: Option<Arc<dyn Repository>>,
    /// Number of layers that it was cut to; `None` where it is whole.
    pub cut_to: Option<u64>,
    /// Adapters that are merged into its weights, one after the other.
    pub adapters: Vec<Adapter>,
    /// Files that belong to the model and are copied byte for byte.
    pub side_files: Vec<SideFile>,
    /// The text of the model card, which is one of them; `None` where there is none that can be read as text.
    pub card: Option<String>,
    /// Files that a run leaves out, each with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

impl Checkpoint {
    /// Returns the checkpoint with these adapters, which are merged into its weights one after the other.
    #[must_use]
    pub fn with_adapters(self, adapters: Vec<Adapter>) -> Self {
        Self { adapters, ..self }
    }

    /// Returns where it lies.
    pub fn place(&self) -> CheckpointPlace {
        match &self.repository {
            Some(repository) => CheckpointPlace::Repository(Arc::clone(repository)),
            None => CheckpointPlace::Directory(self.dir.clone()),
        }
    }

    /// The name of the model, as far as its directory or its repository tells it.
    pub fn model_name(&self) -> ModelName {
        match &self.repository {
            Some(repository) => repository.name(),
            None => model_of(&self.dir),
        }
    }

    /// Reports whether a copy of the checkpoint is to have the file of this name in its repository: all but weights that a run
    /// leaves out, and folders that the model does not name.
    pub fn has_use_of(&self, name: &str) -> bool {
        let is_left_out =
            || name.contains('/') || self.left_out.iter().any(|(out, why)| out == name && is_of_weights(why));
        self.shards.iter().any(|shard| shard.name == name)
            || self.side_files.iter().any(|file| file.name == name)
            || !is_left_out()
    }

    /// Reads the whole of a small file beside the weights; `None` where there is none of this name.
    ///
    /// # Errors
    /// The file is larger than `limit`, or cannot be read.
    pub fn read_small(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self.place().file(name) {
            Err(SourceError::Missing { .. }) => Ok(None),
            file => file?.read_small(limit).map(Some),
        }
    }

    /// Reads the elements of a small I64 tensor, such as the shape of a packed weight; no more than eight of them.
    ///
    /// # Errors
    /// Its shard cannot be read, or changed since it was opened.
    pub fn integers(&self, tensor: &Tensor) -> Result<Vec<i64>, SourceError> {
        if self.headers_only {
            return Err(SourceError::HeadersOnly { path: self.dir.clone() });
        }
        let mut bytes = vec![0; tensor.len.min(8 * 8) as usize];
        self.shards[tensor.shard].open()?.read_exact_at(&mut bytes, tensor.offset)?;
        Ok(bytes.as_chunks().0.iter().map(|&raw| i64::from_le_bytes(raw)).collect())
    }
}
