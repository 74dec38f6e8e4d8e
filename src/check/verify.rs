//! `verify`: the proof that a result is sound, and that it is the source's.

mod folder;
mod summary;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::content::{CheckedTensor, Content};
use super::finding::{self, Finding};
use super::open::{CheckError, judged};
use super::recorded::Recorded;
use super::rules;
use super::shards::Shards;
use super::source::Source;
use super::structure;
use super::threshold::Threshold;
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::text::shown;

pub use summary::KindQuality;

/// What was proven of a result, and what was not.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub output: PathBuf,
    pub source: Option<PathBuf>,
    /// Whether the source is the one that the manifest names, and nobody else named one.
    pub source_recorded: bool,
    /// Whether no finding is an error.
    pub sound: bool,
    pub findings: Vec<Finding>,
    /// Quality by kind of layer.
    pub kinds: Vec<KindQuality>,
    /// In order of name; those with findings may be absent.
    pub tensors: Vec<CheckedTensor>,
}

/// Verifies the result in `output`, against the checkpoint in `source` where that is given.
///
/// # Errors
/// A file cannot be read, or the source is no source. What is wrong with the result is a finding.
pub fn verify(output: &Path, source: Option<&Path>, thresholds: &[Threshold]) -> Result<Verification, CheckError> {
    let mut findings = Vec::new();
    let checkpoint = source.map(|dir| Checkpoint::open(dir).map_err(CheckError::Source)).transpose()?;
    let original = checkpoint.as_ref().map(Source::open).transpose()?;
    let mut tensors = Vec::new();
    if let Some(checkpoint) = judged(output, &mut findings)? {
        let shards = Shards::open(&checkpoint)?;
        let structure = structure::check(&checkpoint, &shards, &mut findings)?;
        if let Some(original) = &original {
            folder::check(&checkpoint, original.checkpoint, &mut findings)?;
        }
        let recorded = Recorded::of(output);
        let content = Content::of(&checkpoint, &shards, original.as_ref(), &structure, &recorded);
        tensors = content.check(&mut findings)?;
        hold(&tensors, thresholds, &mut findings);
        finding::locate(&mut findings, &checkpoint);
    }
    let findings: Vec<Finding> = findings.into_iter().map(Finding::strict).collect();
    Ok(Verification {
        output: output.to_owned(),
        source: source.map(Path::to_owned),
        source_recorded: false,
        sound: !finding::at_fault(&findings),
        findings,
        kinds: summary::by_kind(&tensors),
        tensors,
    })
}

fn hold(tensors: &[CheckedTensor], thresholds: &[Threshold], findings: &mut Vec<Finding>) {
    for tensor in tensors {
        let Some(figures) = &tensor.figures else { continue };
        for threshold in thresholds {
            if let Some(value) = threshold.broken(figures) {
                let message = format!("{}: {value}, which `{threshold}` does not allow", shown(&tensor.name));
                findings.push(Finding::new(&rules::THRESHOLD, message).tensor(&tensor.name));
            }
        }
    }
}
