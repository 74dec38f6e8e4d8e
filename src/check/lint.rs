//! `lint`: the structure of anybody's checkpoint, and the values of its scales.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::decode::{QuantizedWeight, Shards};
use crate::open::{CheckError, judged};
use crate::report::{Finding, locate, log};
use crate::rules::q3_tensors::siblings;
use crate::rules::{RULES, q4_values};
use crate::source::{RecordedActions, scan};
use crate::structure;
use qwen_fp8_checkpoint::CheckpointPlace;
use qwen_fp8_checkpoint::progress::ProgressSink;

/// Checks the checkpoint in `dir`, as [`lint_at`].
///
/// # Errors
/// Those of [`lint_at`].
pub fn lint(dir: &Path, progress: &dyn ProgressSink) -> Result<Vec<Finding>, CheckError> {
    lint_at(&dir.into(), progress)
}

/// Checks the checkpoint at `place`, and returns a finding for every rule that it breaks. No weight is read.
///
/// # Errors
/// The checkpoint cannot be read. What is wrong with it is a finding.
pub fn lint_at(place: &CheckpointPlace, progress: &dyn ProgressSink) -> Result<Vec<Finding>, CheckError> {
    let mut findings = Vec::new();
    let Some(checkpoint) = judged(place, &mut findings)? else { return Ok(findings) };
    let shards = Shards::open(&checkpoint)?;
    let recorded = RecordedActions::read(place);
    let structure = structure::check(&checkpoint, &shards, &mut findings)?;
    siblings::allow_for_source(&mut findings, |name| recorded.is_lacked_by_source(name));
    // Values of scales are read too: they are a small part of the bytes, and a bad one spoils a whole group.
    progress.reading("reading scales", structure.weights.iter().map(QuantizedWeight::qparams_bytes).sum());
    let of_scales = structure
        .weights
        .par_iter()
        .map(|weight| {
            progress.at(&weight.scale.name);
            let mut findings = Vec::new();
            let scan = scan(weight, &shards)?;
            q4_values::qparams(weight, &scan, &recorded, &mut findings);
            progress.advanced(weight.qparams_bytes());
            Ok((scan.least, findings))
        })
        .collect::<Result<Vec<_>, CheckError>>()?;
    let least = of_scales.iter().map(|(least, _)| *least);
    q4_values::too_large(structure.weights.iter().zip(least), &mut findings);
    findings.extend(of_scales.into_iter().flat_map(|(_, findings)| findings));
    q4_values::stacks(&structure.stacks, &shards, &mut findings)?;
    q4_values::global_scales(&checkpoint.model, &structure.weights, &mut findings);
    shards.check_unchanged()?;
    locate(&mut findings, &checkpoint);
    Ok(findings)
}

/// Writes findings about the checkpoint at `place` as a SARIF 2.1.0 log.
pub fn sarif(findings: &[Finding], place: &CheckpointPlace) -> Value {
    log(findings, place, RULES)
}
