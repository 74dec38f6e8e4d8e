//! A checkpoint: a directory of safetensors shards, its `config.json`, and the files beside them.
//!
//! Every byte of the directory is untrusted. Reading takes memory in proportion to the headers, opens one file at a
//! time, and refuses what different readers would understand differently.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::models::LayerKind;

pub mod checksum;
pub mod config;
mod error;
pub mod experts;
pub mod header;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod model_id;
pub mod models;
mod open;
pub mod pattern;
mod quantized;

pub mod side_files;
pub mod smoke;
pub mod source;
mod summary;
pub mod text;

pub use error::CheckpointError;
pub use summary::KindSummary;

/// A checkpoint whose headers, index and config were read and checked; no tensor data is held.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub dir: PathBuf,
    /// In order of name; every one holds what the index says it does.
    pub shards: Vec<Shard>,
    /// In order of (shard, offset, name); names are unique over all shards.
    pub tensors: Vec<Tensor>,
    /// `config.json` as it was read.
    pub config: config::Config,
    /// By what the checkpoint is seen to be quantized already, such as ``tensor `a.weight` is F8_E4M3``.
    pub quantized: Option<String>,
    /// Files that belong to the model and are copied byte for byte.
    pub side_files: Vec<side_files::SideFile>,
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
    /// The state in which the header was read.
    pub stamp: source::Stamp,
}

/// One stored tensor, as its shard's header describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Index into [`Checkpoint::shards`].
    pub shard: usize,
    /// Offset of the first byte in the shard's file.
    pub offset: u64,
    /// Bytes of data, as many as dtype and shape make.
    pub len: u64,
}

impl Checkpoint {
    /// Reads and checks everything about a checkpoint but its tensor data.
    ///
    /// # Errors
    /// The first thing that is wrong with it, naming the file and, where there is one, the tensor.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        open::open(dir)
    }

    /// Counts, bytes and parameters for every kind of layer and dtype that occurs, in this order.
    pub fn by_layer_kind(&self) -> Vec<KindSummary> {
        summary::by_layer_kind(&self.tensors)
    }
}

impl Shard {
    /// Opens the shard for reading its tensors, after proving that it is still the file whose header was read.
    ///
    /// # Errors
    /// The file is gone, unreadable, or changed since.
    pub fn open(&self) -> Result<ShardFile, source::SourceError> {
        let file = source::SourceFile::open(&self.path)?;
        file.check_unchanged(self.stamp)?;
        Ok(ShardFile { file, stamp: self.stamp })
    }
}

/// An open shard.
#[derive(Debug)]
pub struct ShardFile {
    file: source::SourceFile,
    stamp: source::Stamp,
}

impl ShardFile {
    /// Fills `buffer` from the bytes of the file at `offset`; any number of threads may do so at once.
    ///
    /// # Errors
    /// The file became shorter, or cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), source::SourceError> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Proves, after the last read, that what was read is what was planned for.
    ///
    /// # Errors
    /// The file changed since its header was read.
    pub fn check_unchanged(&self) -> Result<(), source::SourceError> {
        self.file.check_unchanged(self.stamp)
    }

    /// The underlying file, for hints such as `posix_fadvise`.
    pub fn file(&self) -> &std::fs::File {
        self.file.file()
    }

    /// The same file opened for reads past the page cache, where its file system can do that.
    pub fn direct(&self) -> Option<std::fs::File> {
        let direct = self.file.open_direct().ok()?;
        // The path may lead elsewhere by now.
        direct.check_unchanged(self.stamp).ok()?;
        Some(direct.into_file())
    }
}

impl Tensor {
    /// The module the tensor belongs to: its name up to the last dot.
    pub fn module(&self) -> &str {
        models::split_name(&self.name).0
    }

    /// What follows the last dot: `weight`, `bias`, …
    pub fn parameter(&self) -> &str {
        models::split_name(&self.name).1
    }

    /// What patterns are held against: the module for a weight or bias, else the tensor's own name.
    pub fn target_name(&self) -> &str {
        models::target_name(&self.name)
    }

    pub fn kind(&self) -> LayerKind {
        LayerKind::of(&self.name, self.shape.len())
    }

    /// How many elements the tensor has.
    pub fn parameters(&self) -> u64 {
        // The header's reader has proven that the product does not overflow.
        self.shape.iter().map(|&dimension| dimension as u64).product()
    }
}
