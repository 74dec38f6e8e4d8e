//! Opening checkpoints: a fault of the one to be judged is a finding, a fault of the machine an error.

use std::path::PathBuf;

use crate::decode::Shards;
use crate::report::Finding;
use crate::rules::{q0_container, q1_config};
use crate::source::{AdapterFault, OpenedSource};
use crate::structure;
use qwen_fp8_checkpoint::header::HeaderError;
use qwen_fp8_checkpoint::side_files::SideFileError;
use qwen_fp8_checkpoint::smoke::SmokeError;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::{Sample, shown_path};
use qwen_fp8_checkpoint::{Checkpoint, CheckpointError, CheckpointPlace};

/// The reasons why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Open(CheckpointError),
    #[error(transparent)]
    Read(#[from] SourceError),
    #[error("the source is not a checkpoint: {0}")]
    Source(CheckpointError),
    #[error("the source is quantized already: {0}")]
    QuantizedSource(String),
    #[error("the manifest says that the output was made from the first layers of its source: {0}")]
    Layers(#[from] SmokeError),
    #[error("{} is its own source, which would prove nothing", shown_path(.0))]
    OwnSource(PathBuf),
    #[error(transparent)]
    Adapter(#[from] AdapterFault),
    #[error("the output was made with {adapters} merged into its source, and nothing is to be compared without")]
    NoAdapters { adapters: Sample },
    #[error("interrupted")]
    Cancelled,
}

/// Opens a checkpoint that is to be judged; `None`, with a finding, where it is too faulty to be opened.
pub(crate) fn judged(place: &CheckpointPlace, findings: &mut Vec<Finding>) -> Result<Option<Checkpoint>, CheckError> {
    match Checkpoint::open_at(place) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) if is_of_machine(&error) => Err(CheckError::Open(error)),
        Err(error) => {
            findings.push(q0_container::unreadable(&error));
            Ok(None)
        }
    }
}

/// Opens what a result was made from, cut to as many layers as were taken.
pub(crate) fn source_of(
    output: &CheckpointPlace,
    source: &CheckpointPlace,
    layers: Option<u64>,
) -> Result<Checkpoint, CheckError> {
    // A result would follow from itself, tensor by tensor.
    if output.is_same(source) {
        return Err(CheckError::OwnSource(source.path().to_owned()));
    }
    let checkpoint = Checkpoint::open_at(source).map_err(CheckError::Source)?;
    Ok(match layers {
        None => checkpoint,
        Some(layers) => checkpoint.first_layers(layers)?,
    })
}

/// Prepares a source that is not quantized, or is in a form that can be decoded.
///
/// # Errors
/// It is quantized in a way that is not known, or cannot be read.
pub(crate) fn source(checkpoint: &Checkpoint) -> Result<OpenedSource<'_>, CheckError> {
    let shards = Shards::open(checkpoint)?;
    // What is wrong with a source is for `lint` to say. Only what is not checked at all would leave the proof blind.
    let mut findings = Vec::new();
    let structure = structure::check(checkpoint, &shards, &mut findings)?;
    if let Some(how) = &checkpoint.quantized {
        let is_known = findings.iter().all(|finding| *finding.rule != q1_config::UNKNOWN_METHOD);
        if !is_known || structure.weights.is_empty() && structure.stacks.is_empty() {
            return Err(CheckError::QuantizedSource(how.clone()));
        }
    }
    Ok(OpenedSource::new(checkpoint, shards, structure.weights, structure.stacks)?)
}

/// Reports whether an error says nothing of the checkpoint: it is not there, or the machine cannot read it.
fn is_of_machine(error: &CheckpointError) -> bool {
    let unreadable = |error: &SourceError| {
        matches!(error, SourceError::Io { .. } | SourceError::Changed { .. } | SourceError::Remote { .. })
    };
    match error {
        CheckpointError::Missing { .. } | CheckpointError::NotDirectory { .. } | CheckpointError::Unreadable { .. } => {
            true
        }
        CheckpointError::Source(error)
        | CheckpointError::SideFile(SideFileError::Source(error))
        | CheckpointError::Header { error: HeaderError::Source(error), .. } => unreadable(error),
        _ => false,
    }
}
