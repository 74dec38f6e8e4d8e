//! A LoRA adapter in the layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What is read here is what the adapter changes, by the names of the model's tensors; nothing is computed. What PEFT
//! would merge in another way, or would leave out without a word, is refused.

mod config;
mod error;
mod names;
mod tensors;

use std::path::{Path, PathBuf};

use crate::config::MAX_CONFIG;
use crate::header::{Header, HeaderError, LEAST_GUESS};
use crate::hub::{ModelName, model_of};
use crate::open::tensors_of;
use crate::shard::Shard;
use crate::source::{SourceError, SourceFile, Stamp};
use crate::tensor::Tensor;
use config::AdapterConfig;
use names::spellings;

pub use error::AdapterError;

/// The file of an adapter's options.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The file of an adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

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

/// What an adapter does to one tensor of a model.
#[derive(Clone, Debug)]
pub struct AdapterChange {
    /// The tensor as PEFT's names have it.
    pub tensor: String,
    pub kind: ChangeKind,
}

/// The way in which an adapter changes a tensor.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// This tensor takes its place, rounded to its dtype.
    Replace(Tensor),
    /// Scaling × B × A is added to it.
    LowRank(Box<LowRankTensors>),
    /// This bias of B, scaled, is added to it.
    AddBias { bias: Tensor, scaling: f32 },
}

/// The tensors of a low-rank change.
#[derive(Clone, Debug)]
pub struct LowRankTensors {
    /// Rank × columns; of an embedding, rank × rows.
    pub a: Tensor,
    /// Rows × rank; of an embedding, columns × rank.
    pub b: Tensor,
    /// DoRA's length of each row.
    pub magnitude: Option<Tensor>,
    pub rank: usize,
    pub scaling: f32,
    /// Both factors lie transposed, and PEFT rounds the product to the dtype of the weight before it adds it.
    pub is_embedding: bool,
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

impl AdapterChange {
    /// Returns the names of the tensors that the change may be of, among those that there are: the one of its own name, or those that
    /// other versions of the model's class call so.
    pub fn places(&self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        if is_there(&self.tensor) {
            return vec![self.tensor.clone()];
        }
        spellings(&self.tensor).into_iter().filter(|name| is_there(name)).collect()
    }
}

impl ChangeKind {
    /// Returns the tensor of the adapter that does not go with a tensor of this shape; `None` where all do.
    pub fn misfit(&self, shape: &[usize]) -> Option<&Tensor> {
        let low = match self {
            Self::Replace(tensor) | Self::AddBias { bias: tensor, .. } => {
                return (tensor.shape != shape).then_some(tensor);
            }
            Self::LowRank(low) => low,
        };
        // The side of each factor that is not the rank.
        let of_a = low.a.shape.get(1).copied();
        let of_b = low.b.shape.first().copied();
        let (rows, columns) = if low.is_embedding { (of_a, of_b) } else { (of_b, of_a) };
        let (by_rows, by_columns) = if low.is_embedding { (&low.a, &low.b) } else { (&low.b, &low.a) };
        let &[height, width] = shape else { return Some(&low.a) };
        if rows != Some(height) {
            return Some(by_rows);
        }
        if columns != Some(width) {
            return Some(by_columns);
        }
        low.magnitude.as_ref().filter(|magnitude| magnitude.shape.iter().product::<usize>() != height)
    }

    /// The tensors of the adapter that the change reads.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Replace(tensor) | Self::AddBias { bias: tensor, .. } => vec![tensor],
            Self::LowRank(low) => [&low.a, &low.b].into_iter().chain(&low.magnitude).collect(),
        }
    }

    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Replace(_) => "a tensor of the adapter takes its place".to_owned(),
            Self::AddBias { scaling, .. } => format!("a bias is added, times {scaling}"),
            Self::LowRank(low) => {
                let what = if low.magnitude.is_some() { "DoRA" } else { "LoRA" };
                format!("{what} of rank {}, times {}", low.rank, low.scaling)
            }
        }
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
