//! The errors of deltas, with what a person can do about each.

use std::io;
use std::path::{Path, PathBuf};

use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::{Sample, exact, os_hints, sentence, shown, shown_path};

/// A reason for which a delta cannot be made or put on.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error("interrupted: nothing was written under the output's name")]
    Cancelled,
    #[error("{} is no delta: it begins with other bytes", shown_path(path))]
    NotDelta { path: PathBuf },
    #[error(
        "{} is a delta of version {version}, and this program reads version {}",
        shown_path(path),
        crate::contents::VERSION
    )]
    Version { path: PathBuf, version: u32 },
    #[error("{} is truncated: it has {} of at least {at}", shown_path(path), exact(*size))]
    Truncated { path: PathBuf, size: u64, at: u64 },
    #[error("{} is damaged at byte {at}: {}", shown_path(path), sentence(what))]
    Damaged { path: PathBuf, at: u64, what: String },
    #[error("the base {} is another one: it lacks {}: {tensors}", shown_path(base), tensors.count("tensor"))]
    MissingTensors { base: PathBuf, tensors: Sample },
    #[error("the base {} is another one: tensor {} has {} of {found} there, and {} of {expected} in the delta", shown_path(base), shown(tensor), exact(*has), exact(*wants))]
    OtherTensor { base: PathBuf, tensor: String, has: u64, found: &'static str, wants: u64, expected: &'static str },
    #[error("the base is another one: {} differs between byte {at} and {}: {}", shown(what), at + *bytes as u64, shown_path(path))]
    OtherBase { what: String, path: PathBuf, at: u64, bytes: usize },
    #[error("the base is another one: {} is missing there, or has fewer bytes than {at}", shown_path(path))]
    MissingFile { path: PathBuf, at: u64 },
    #[error("the table of contents would have {}, and the limit is {}", exact(*size), exact(crate::contents::MAX_CONTENTS))]
    TooManyTensors { size: u64 },
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{} cannot be written: {error}", shown_path(path))]
    Write { path: PathBuf, error: io::Error },
}

impl DeltaError {
    /// Reports whether the delta or the checkpoint is at fault rather than the machine.
    pub fn is_of_input(&self) -> bool {
        !matches!(self, Self::Cancelled | Self::Source(_) | Self::Write { .. })
    }

    /// Reports whether another try may succeed, so that finished files are worth keeping.
    pub fn leaves_use(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Write { .. } | Self::Source(SourceError::Io { .. }))
    }

    /// The file or directory that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::NotDelta { path }
            | Self::Version { path, .. }
            | Self::Truncated { path, .. }
            | Self::Damaged { path, .. }
            | Self::MissingTensors { base: path, .. }
            | Self::OtherTensor { base: path, .. }
            | Self::OtherBase { path, .. }
            | Self::MissingFile { path, .. }
            | Self::Write { path, .. } => Some(path),
            Self::Source(error) => Some(error.path()),
            Self::Cancelled | Self::TooManyTensors { .. } => None,
        }
    }

    /// What can be done about the error, one line each.
    pub fn help(&self) -> Vec<String> {
        let line = match self {
            Self::NotDelta { .. } => "`qwen-fp8 delta OLD NEW --output FILE` makes one",
            Self::Version { .. } => "use the version of this program that made it, or a later one",
            Self::Truncated { .. } | Self::Damaged { .. } => {
                "get the file again, or make it anew with `qwen-fp8 delta`"
            }
            Self::MissingTensors { .. }
            | Self::OtherTensor { .. }
            | Self::OtherBase { .. }
            | Self::MissingFile { .. } => "`--base` must be the checkpoint that the delta was made from, bit for bit",
            Self::Source(error) => return error.help(),
            Self::Write { error, .. } => {
                return os_hints::for_writing(error).map(str::to_owned).into_iter().collect();
            }
            Self::Cancelled | Self::TooManyTensors { .. } => return Vec::new(),
        };
        vec![line.to_owned()]
    }
}
