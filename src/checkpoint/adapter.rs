//! A LoRA adapter in the layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What is read here is what the adapter changes, by the names of the model's tensors; nothing is computed. What PEFT
//! would merge in another way, or would leave out without a word, is refused.

mod change;
mod config;
mod error;
mod names;
mod tensors;

use std::path::{Path, PathBuf};

use crate::config::MAX_CONFIG;
use crate::header::{Header, HeaderError, LEAST_GUESS};
use crate::hub::{ModelName, model_of};
use crate::shard::Shard;
use crate::source::{SourceError, SourceFile, Stamp};
use crate::tensor::tensors_of;
use config::AdapterConfig;

pub use change::{AdapterChange, ChangeKind, LowRankTensors};
pub use error::AdapterError;
pub use names::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};

/// An adapter whose options and header were read; no tensor data is held.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The directory as it was named.
    pub dir: PathBuf,
    /// The name of the adapter, as far as its directory tells it.
    pub name: ModelName,
    /// The model that it was trained on, as it was named then.
    pub base: Option<String>,
    /// The file of its tensors.
    pub weights: Shard,
    /// The state in which its options were read.
    pub config: Stamp,
    /// What it changes, in the order of its file.
    pub changes: Vec<AdapterChange>,
}

impl Adapter {
    /// Reads everything about the adapter in a directory but its tensor data.
    ///
    /// # Errors
    /// The first thing that is wrong with it, or that cannot be merged, by file and tensor.
    pub fn open(dir: &Path) -> Result<Self, AdapterError> {
        let options = SourceFile::open(&dir.join(ADAPTER_CONFIG)).map_err(|error| without_config(dir, error))?;
        let config = AdapterConfig::parse(&options.read_small(MAX_CONFIG).map_err(AdapterError::Source)?)?;
        let path = dir.join(ADAPTER_WEIGHTS);
        let file = SourceFile::open(&path).map_err(|error| without_weights(dir, error))?;
        let (header, digest) = Header::read(&file, LEAST_GUESS).map_err(|error| match error {
            HeaderError::Source(error) => AdapterError::Source(error),
            error => AdapterError::Header { error },
        })?;
        // What was read is one state of the files.
        file.check_unchanged(file.stamp()).map_err(AdapterError::Source)?;
        let changes = tensors::changes(&config, tensors_of(header, 0))?;
        let weights = Shard {
            name: ADAPTER_WEIGHTS.to_owned(),
            path,
            size: file.size(),
            header: digest,
            stamp: file.stamp(),
            remote: None,
        };
        let (name, base) = (model_of(dir), config.base);
        Ok(Self { dir: dir.to_owned(), name, base, weights, config: options.stamp(), changes })
    }
}

fn without_config(dir: &Path, error: SourceError) -> AdapterError {
    match error {
        SourceError::Missing { .. } => AdapterError::NoConfig { dir: dir.to_owned() },
        error => AdapterError::Source(error),
    }
}

fn without_weights(dir: &Path, error: SourceError) -> AdapterError {
    match error {
        SourceError::Missing { .. } => {
            let other = ["adapter_model.bin", "adapter_model.pt"].into_iter().find(|name| dir.join(name).is_file());
            AdapterError::NoWeights { dir: dir.to_owned(), other }
        }
        error => AdapterError::Source(error),
    }
}
