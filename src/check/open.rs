//! Opening what is to be judged: a fault of the checkpoint is a finding, a fault of the machine an error.

use std::path::Path;

use super::finding::Finding;
use super::rules;
use qwen_fp8_checkpoint::header::HeaderError;
use qwen_fp8_checkpoint::side_files::SideFileError;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, CheckpointError};

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Open(CheckpointError),
    #[error(transparent)]
    Read(#[from] SourceError),
    #[error("the source is no source: {0}")]
    Source(CheckpointError),
    #[error("the source is quantized already: {0}")]
    QuantizedSource(String),
}

/// Opens a checkpoint that may be at fault.
pub(super) fn judged(dir: &Path, findings: &mut Vec<Finding>) -> Result<Option<Checkpoint>, CheckError> {
    match Checkpoint::open(dir) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) if is_machine(&error) => Err(CheckError::Open(error)),
        Err(error) => {
            let mut finding = Finding::new(&rules::CONTAINER, error.to_string());
            if let CheckpointError::Header { shard, .. } = &error {
                finding = finding.file(shard);
            }
            findings.push(finding);
            Ok(None)
        }
    }
}

/// Whether nothing can be said of the checkpoint.
fn is_machine(error: &CheckpointError) -> bool {
    let unreadable = |error: &SourceError| matches!(error, SourceError::Io { .. } | SourceError::Changed { .. });
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
