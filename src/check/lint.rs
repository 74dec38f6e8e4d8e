//! `lint`: the structure of anybody's checkpoint, and the values of its scales.

use std::path::Path;

use rayon::prelude::*;

use super::content::{check_scales, merged_differ};
use super::finding::{Finding, locate};
use super::open::{CheckError, judged};
use super::recorded::Recorded;
use super::shards::Shards;
use super::structure;

/// Every rule that the checkpoint in `dir` breaks, without reading a weight.
///
/// # Errors
/// It cannot be read; what is wrong with it is a finding.
pub fn lint(dir: &Path) -> Result<Vec<Finding>, CheckError> {
    let mut findings = Vec::new();
    let Some(checkpoint) = judged(dir, &mut findings)? else { return Ok(findings) };
    let shards = Shards::open(&checkpoint)?;
    let structure = structure::check(&checkpoint, &shards, &mut findings)?;
    let recorded = Recorded::of(dir);
    let of_scales = structure
        .coded
        .par_iter()
        .map(|coded| {
            let mut findings = Vec::new();
            check_scales(coded, &shards, &recorded, &mut findings)?;
            Ok(findings)
        })
        .collect::<Result<Vec<_>, CheckError>>()?;
    findings.extend(of_scales.into_iter().flatten());
    merged_differ(&structure.coded, &mut findings);
    shards.check_unchanged()?;
    locate(&mut findings, &checkpoint);
    Ok(findings)
}
