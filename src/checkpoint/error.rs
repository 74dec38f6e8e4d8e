//! The reasons for which a directory is refused as a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::header::{HeaderError, Impostor};
use crate::hf_quant_config::HF_QUANT_CONFIG;
use crate::index::IndexError;
use crate::layout::INDEX_FILE;
use crate::side_files::SideFileError;
use crate::source::SourceError;
use crate::text::os_hints;
use crate::text::{Sample, sentence, shown, shown_path};

/// A reason for which a directory is refused as a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint {} does not exist", shown_path(dir))]
    Missing { dir: PathBuf },
    #[error("the checkpoint {} is not a directory", shown_path(dir))]
    NotDirectory { dir: PathBuf },
    #[error("the checkpoint {} cannot be read: {error}", shown_path(dir))]
    Unreadable { dir: PathBuf, error: io::Error },
    #[error("{} is not a checkpoint: it holds no safetensors weights", shown_path(dir))]
    NoWeights { dir: PathBuf, meant: Option<String> },
    #[error("{} is a LoRA adapter, not a model", shown_path(dir))]
    Adapter { dir: PathBuf },
    #[error(
        "{} holds a model in Mistral's own form (`params.json`, {files}), without the `config.json` of the Hugging Face form",
        shown_path(dir)
    )]
    MistralForm { dir: PathBuf, files: Sample },
    #[error("{} of a LoRA that was not merged {} among the model's: {tensors}", tensors.count("tensor"), if tensors.is_one() { "is" } else { "are" })]
    UnmergedLora { tensors: Sample },
    #[error("{} holds weights in another format ({files}) and no safetensors", shown_path(dir))]
    OtherWeights { dir: PathBuf, files: Sample },
    #[error(
        "{} holds several safetensors files ({files}) and no `{INDEX_FILE}` that says which belong together",
        shown_path(dir)
    )]
    NoIndex { dir: PathBuf, files: Sample },
    #[error("{} holds both `model.safetensors` and `{INDEX_FILE}`, which does not name it", shown_path(dir))]
    SingleAndIndex { dir: PathBuf },
    #[error("{} is no file of headers: {}", shown_path(path), sentence(reason))]
    NoHeaders { path: PathBuf, reason: String },
    #[error("`{INDEX_FILE}`: {0}")]
    Index(IndexError),
    #[error("`{INDEX_FILE}` names {} that {} missing: {shards}", shards.count("shard"), if shards.is_one() { "is" } else { "are" })]
    MissingShards { shards: Sample },
    #[error("{}: {error}", shown(shard))]
    Header { shard: String, error: HeaderError },
    #[error("{} over several shards; tensor {} is in {} and also in {}", tensors.count("duplicate tensor"), shown(tensor), shown(first), shown(second))]
    Duplicates { tensors: Sample, tensor: String, first: String, second: String },
    #[error(
        "`{INDEX_FILE}` sends tensor {} to {}, which does not hold it; {} does",
        shown(tensor),
        shown(named),
        shown(actual)
    )]
    WrongShard { tensor: String, named: String, actual: String },
    #[error("`{INDEX_FILE}` names {} missing from the shards: {tensors}", tensors.count("tensor"))]
    GhostTensors { tensors: Sample },
    #[error("{} of the shards {} not in `{INDEX_FILE}`, so that no server would load {}: {tensors}", tensors.count("tensor"), if tensors.is_one() { "is" } else { "are" }, if tensors.is_one() { "it" } else { "them" })]
    Unlisted { tensors: Sample },
    #[error("the checkpoint holds no tensors")]
    NoTensors,
    #[error("`hf_quant_config.json`: {0}")]
    HfQuantConfig(ConfigError),
    #[error("`config.json`: {0}")]
    Config(ConfigError),
    #[error(transparent)]
    SideFile(SideFileError),
    #[error(transparent)]
    Source(SourceError),
}

impl CheckpointError {
    /// Returns the directory or file that is at fault, a file of the checkpoint by its name alone; `None` where no one
    /// file is.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing { dir }
            | Self::NotDirectory { dir }
            | Self::Unreadable { dir, .. }
            | Self::NoWeights { dir, .. }
            | Self::OtherWeights { dir, .. }
            | Self::NoIndex { dir, .. }
            | Self::SingleAndIndex { dir } => Some(dir),
            Self::NoHeaders { path, .. } => Some(path),
            Self::Index(_)
            | Self::MissingShards { .. }
            | Self::WrongShard { .. }
            | Self::GhostTensors { .. }
            | Self::Unlisted { .. } => Some(Path::new(INDEX_FILE)),
            Self::Header { error: HeaderError::Source(error), .. }
            | Self::SideFile(SideFileError::Source(error))
            | Self::Source(error) => Some(error.path()),
            Self::Header { shard, .. } => Some(Path::new(shard)),
            Self::Config(_) => Some(Path::new("config.json")),
            Self::HfQuantConfig(_) => Some(Path::new(HF_QUANT_CONFIG)),
            Self::Adapter { dir } | Self::MistralForm { dir, .. } => Some(dir),
            Self::Duplicates { .. } | Self::NoTensors | Self::SideFile(_) | Self::UnmergedLora { .. } => None,
        }
    }

    /// Returns what to do about the error, one line each.
    pub fn help(&self) -> Vec<String> {
        const LFS: &str = "fetch the real file with `git lfs pull`";
        const AGAIN: &str = "the download may be incomplete: get the file again";
        const CONVERT: &str = "load the model with transformers and `save_pretrained(..., safe_serialization=True)`";
        let line = match self {
            Self::NoWeights { meant, .. } => {
                return meant.iter().map(|meant| format!("did you mean {}?", shown(meant))).collect();
            }
            Self::OtherWeights { .. } => CONVERT,
            Self::NoHeaders { .. } => "`qwen-fp8 inspect DIR --headers` writes one of a checkpoint",
            Self::Adapter { .. } => {
                "give its base as `model`, which `adapter_config.json` names, and this directory in `adapters`: it is merged while the base is quantized"
            }
            Self::UnmergedLora { .. } => {
                "merge it first (PEFT: `model.merge_and_unload()`, then `save_pretrained`), or give the base as `model` and the adapter, as PEFT saves it, in `adapters`: no server loads the two parts of a layer"
            }
            Self::MistralForm { .. } => {
                "take the repository's Hugging Face form, or convert it with transformers' script for the family (`convert_mistral_weights_to_hf.py`, ...)"
            }
            Self::Header { error: HeaderError::NotSafetensors { what }, .. } => match what {
                Impostor::LfsPointer => LFS,
                Impostor::Html => AGAIN,
                Impostor::Zip | Impostor::Pickle => CONVERT,
                Impostor::Gguf => "take the BF16 safetensors that the GGUF was made from",
            },
            Self::SideFile(SideFileError::LfsPointer { .. }) => LFS,
            Self::Header {
                error: HeaderError::Truncated { .. } | HeaderError::PastEnd { .. } | HeaderError::TooShort { .. },
                ..
            }
            | Self::MissingShards { .. } => AGAIN,
            Self::SingleAndIndex { .. } => {
                "transformers reads the single file, vLLM the shards: move the one you do not want away"
            }
            Self::NoIndex { .. } => "name the one file `model.safetensors`, or add the index",
            Self::Unlisted { .. } | Self::GhostTensors { .. } | Self::WrongShard { .. } => {
                "the index does not belong to these shards: get both from one place"
            }
            Self::Unreadable { error, .. } => {
                return os_hints::for_reading(error).map(str::to_owned).into_iter().collect();
            }
            Self::Source(error)
            | Self::SideFile(SideFileError::Source(error))
            | Self::Header { error: HeaderError::Source(error), .. } => {
                return error.help();
            }
            _ => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}
