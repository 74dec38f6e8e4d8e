//! The size of the manifest, known before the run that writes it.

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::{Manifest, NonFiniteRecord};
use crate::plan::summary::ManifestSize;
use crate::plan::{Job, Plan};
use crate::run::checksums::Checksums;
use crate::run::error::RunError;
use crate::run::identity::Identity;
use crate::run::manifest::{Sha256Of, manifest};
use crate::run::stats::TensorStats;

/// A SHA-256 as it is written, whatever the file.
const ANY_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Returns the size of the manifest that a run of `plan` writes: an upper bound where the plan lets NaN and infinity
/// through, since only the weights tell how many there are.
///
/// # Errors
/// The source changed since it was planned for, or its headers cannot be read.
pub fn manifest_size(plan: &Plan, sha256: Sha256Of) -> Result<ManifestSize, RunError> {
    Ok(size(plan, &Identity::of(plan)?, sha256))
}

/// Returns the size for a job whose identity is known.
//
// It is the length of the text itself, with checksums of which only the number of digits is true: a formula would be
// a second description of the file.
pub(super) fn size(plan: &Plan, identity: &Identity, sha256: Sha256Of) -> ManifestSize {
    let checksums = Checksums::new(&plan.shards);
    let side_files = vec![Crc64::default(); plan.checkpoint.side_files.len()];
    let non_finite = most_non_finite(plan);
    let mut manifest = manifest(plan, identity, &checksums, &side_files, &non_finite);
    fill(&mut manifest, sha256);
    ManifestSize { bytes: manifest.text().len() as u64, at_most: !non_finite.is_empty() }
}

fn fill(manifest: &mut Manifest, sha256: Sha256Of) {
    let any = |wanted: bool| wanted.then(|| ANY_SHA256.to_owned());
    manifest.files.iter_mut().for_each(|file| file.sha256 = any(sha256.output));
    manifest.source.files.iter_mut().for_each(|file| file.sha256 = any(sha256.source));
}

/// The record with the most digits of every weight that may have one.
fn most_non_finite(plan: &Plan) -> Vec<TensorStats<NonFiniteRecord>> {
    if !plan.keeps_non_finite() {
        return Vec::new();
    }
    let quantized = plan.inputs.iter().zip(&plan.jobs).filter(|(_, job)| matches!(job, Job::Quantize { .. }));
    let most = quantized.map(|(input, _)| {
        // No count and no coordinate is above the number of elements.
        let elements = input.shape.iter().map(|&length| length as u64).product();
        let counts =
            NonFiniteRecord { nan: elements, infinite: elements, scales: elements, first: Some([elements, elements]) };
        TensorStats { tensor: input.name.clone(), counts }
    });
    most.collect()
}
