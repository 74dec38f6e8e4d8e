//! The reasons for which a directory is refused as an adapter.

use std::path::PathBuf;

use super::names::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use crate::header::HeaderError;
use crate::source::SourceError;
use crate::text::{sentence, shown, shown_path};

/// A reason for which an adapter cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error("{} is no adapter: it holds no `{ADAPTER_CONFIG}`", shown_path(dir))]
    NoConfig { dir: PathBuf },
    #[error(
        "{} holds no `{ADAPTER_WEIGHTS}`{}",
        shown_path(dir),
        other.map_or_else(String::new, |other| format!(", only `{other}`"))
    )]
    NoWeights { dir: PathBuf, other: Option<&'static str> },
    #[error("`{ADAPTER_CONFIG}`: {}", sentence(reason))]
    Config { reason: String },
    /// An option under which the merged model is another one than this program computes.
    #[error("`{ADAPTER_CONFIG}`: {} is not merged here", sentence(what))]
    NotMerged { what: String },
    #[error("`{ADAPTER_WEIGHTS}`: {error}")]
    Header { error: HeaderError },
    #[error("`{ADAPTER_WEIGHTS}`: the tensor {} {}", shown(tensor), sentence(reason))]
    Tensor { tensor: String, reason: String },
    #[error("`{ADAPTER_WEIGHTS}` holds no tensors")]
    Empty,
    #[error(transparent)]
    Source(SourceError),
}

impl AdapterError {
    /// Returns what to do about the error, one line each.
    pub fn help(&self) -> Vec<String> {
        const MERGE: &str = "merge it with PEFT (`PeftModel.from_pretrained`, `merge_and_unload`, `save_pretrained`), and give \
                             the result as `model` without this adapter";
        let line = match self {
            Self::NoConfig { .. } => "an adapter is the directory that PEFT's `save_pretrained` writes",
            Self::NoWeights { other: Some(_), .. } => {
                "load it with PEFT and save it with `save_pretrained(..., safe_serialization=True)`"
            }
            Self::NotMerged { .. } => MERGE,
            Self::NoWeights { other: None, .. } | Self::Empty | Self::Header { .. } => {
                "the download may be incomplete: get the file again"
            }
            Self::Source(error) => return error.help(),
            Self::Config { .. } | Self::Tensor { .. } => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}
