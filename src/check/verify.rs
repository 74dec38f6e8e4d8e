//! `verify`: the proof that a result is sound, and that it was made from its source.

mod kinds;
mod verdict;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::content::ContentPass;
use crate::decode::Shards;
use crate::open::{self, CheckError, judged};
use crate::report::{Finding, Threshold, locate};
use crate::rules::q3_tensors::siblings;
use crate::rules::q5_source::{folder, threshold};
use crate::source::{CheckedTensor, RecordedActions};
use crate::structure;
use qwen_fp8_checkpoint::CheckpointPlace;
use qwen_fp8_checkpoint::adapter::Adapter;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::text::Sample;

pub use kinds::KindQuality;
pub use verdict::Verdict;

/// The outcome of a proof.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Verification {
    /// The directory of the result, or its address elsewhere.
    #[schemars(with = "PathBuf")]
    pub output: CheckpointPlace,
    /// The directory or address of the source, where there was one to compare with.
    #[schemars(with = "Option<PathBuf>")]
    pub source: Option<CheckpointPlace>,
    /// Set where the manifest named the source, and nobody else did.
    pub source_recorded: bool,
    /// Number of layers of the source that the result was cut to, according to its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_layers: Option<u64>,
    pub verdict: Verdict,
    /// The parts of the result that were not proven, each with the reason.
    pub unproven: Vec<String>,
    /// Every rule that the result breaks.
    pub findings: Vec<Finding>,
    /// Quality by kind of layer.
    pub kinds: Vec<KindQuality>,
    /// The tensors in order of name; those with findings may be absent.
    pub tensors: Vec<CheckedTensor>,
}

impl Verification {
    /// Returns the tensors that were measured, the lowest signal-to-noise ratio first and those without noise last.
    pub fn noisiest(&self) -> Vec<&CheckedTensor> {
        let noise = |tensor: &&CheckedTensor| tensor.figures.and_then(|it| it.sqnr_db).unwrap_or(f64::INFINITY);
        let mut tensors: Vec<_> = self.tensors.iter().filter(|tensor| tensor.figures.is_some()).collect();
        tensors.sort_by(|a, b| noise(a).total_cmp(&noise(b)));
        tensors
    }
}

/// Verifies the result in the directory `output`, as [`verify_at`].
///
/// # Errors
/// Those of [`verify_at`].
pub fn verify(
    output: &Path,
    source: Option<&Path>,
    thresholds: &[Threshold],
    progress: &dyn ProgressSink,
) -> Result<Verification, CheckError> {
    let source = source.map(CheckpointPlace::from);
    verify_at(&output.into(), source.as_ref(), thresholds, progress)
}

/// Verifies the result at `output`, against the checkpoint at `source` where that is given.
///
/// # Errors
/// A file cannot be read, or the source is not a checkpoint, is quantized and not FP8, or is the result itself. What
/// is wrong with the result is a finding.
pub fn verify_at(
    output: &CheckpointPlace,
    source: Option<&CheckpointPlace>,
    thresholds: &[Threshold],
    progress: &dyn ProgressSink,
) -> Result<Verification, CheckError> {
    verify_merged(output, source, &[], thresholds, progress)
}

/// Verifies the result at `output`, as [`verify_at`], against the checkpoint at `source` with these adapters merged into it.
///
/// # Errors
/// Those of [`verify_at`]; an adapter changes what the source does not have; the manifest names adapters, and there are none.
pub fn verify_merged(
    output: &CheckpointPlace,
    source: Option<&CheckpointPlace>,
    adapters: &[Adapter],
    thresholds: &[Threshold],
    progress: &dyn ProgressSink,
) -> Result<Verification, CheckError> {
    let mut findings = Vec::new();
    let recorded = RecordedActions::read(output);
    // The source first: without one that can be read there is no proof, and an error says so before any work.
    let named: Sample = recorded.source().iter().flat_map(|source| &source.adapters).map(|named| &named.name).collect();
    if source.is_some() && adapters.is_empty() && !named.is_empty() {
        return Err(CheckError::NoAdapters { adapters: named });
    }
    let source_checkpoint = source.map(|source| open::source_of(output, source, recorded.layers())).transpose()?;
    let source_checkpoint = source_checkpoint.map(|checkpoint| checkpoint.with_adapters(adapters.to_vec()));
    let original = source_checkpoint.as_ref().map(open::source).transpose()?;
    let (mut tensors, mut unproven) = (Vec::new(), Vec::new());
    if let Some(checkpoint) = judged(output, &mut findings)? {
        let shards = Shards::open(&checkpoint)?;
        let structure = structure::check(&checkpoint, &shards, &mut findings)?;
        siblings::allow_for_source(&mut findings, |name| recorded.is_lacked_by_source(name));
        if let Some(original) = &original {
            folder::check(&checkpoint, original.checkpoint, &mut findings)?;
        }
        let content = ContentPass::new(&checkpoint, &shards, original.as_ref(), &structure, &recorded);
        tensors = content.check(progress, &mut findings)?;
        // Bounds apply to figures alone; a tensor that could not be compared has a finding in their place.
        threshold::check(&tensors, thresholds, &mut findings);
        locate(&mut findings, &checkpoint);
        unproven = verdict::unproven(&checkpoint, source_checkpoint.as_ref(), &recorded, &tensors, &findings);
    }
    let findings: Vec<Finding> = findings.into_iter().map(Finding::strict).collect();
    let verdict = Verdict::of(&findings, &tensors, source.is_some(), &unproven);
    if verdict == Verdict::NothingToProve {
        unproven.push("no tensor is quantized".to_owned());
    }
    Ok(Verification {
        output: output.clone(),
        source: source.cloned(),
        source_recorded: false,
        source_layers: source_checkpoint.and_then(|checkpoint| checkpoint.cut_to),
        verdict,
        unproven,
        findings,
        kinds: kinds::by_kind(&tensors),
        tensors,
    })
}
