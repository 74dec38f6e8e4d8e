//! Whether the output that is there is the one that would be made.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::{Manifest, ManifestSource};
use crate::checkpoint::model_card::MODEL_CARD;
use crate::checkpoint::source::SourceFile;
use crate::plan::Plan;
use crate::run::checksums::Checksums;
use crate::run::destination::Destination;
use crate::run::identity::Identity;
use crate::run::manifest::manifest;

/// Returns whether the output's name is on a checkpoint of this job: its manifest tells of the same program, recipe,
/// schemes and source, and its documents and its shards' sizes and headers are those of the plan.
//
// The bytes are not read again: that this program published the directory says that they were compared, and `verify
// --manifest` says whether they are still the same.
pub(super) fn is_published(plan: &Plan, identity: &Identity, destination: &Destination) -> bool {
    let dir = &destination.path;
    let Ok(there) = Manifest::read(dir) else { return false };
    let side_files = vec![Crc64::default(); plan.checkpoint.side_files.len()];
    let ours = manifest(plan, identity, &Checksums::new(&plan.shards), &side_files, &[]);
    let without_sums = |source: &ManifestSource| {
        let mut source = source.clone();
        source.files.iter_mut().for_each(|file| file.sha256 = None);
        source
    };
    let is_job = (&there.tool, &there.recipe, &there.schemes, &there.format)
        == (&ours.tool, &ours.recipe, &ours.schemes, &ours.format)
        && without_sums(&there.source) == without_sums(&ours.source);
    // `--verify` adds the quality to the model card.
    let documents = plan.documents.iter().filter(|(name, _)| name != MODEL_CARD);
    is_job
        && documents.into_iter().all(|(name, bytes)| {
            let found = SourceFile::open(&dir.join(name)).and_then(|file| file.read_small(bytes.len() as u64));
            found.is_ok_and(|found| found == *bytes)
        })
        && plan.shards.iter().all(|layout| {
            let Ok(file) = File::open(dir.join(&layout.file_name)) else { return false };
            let mut header = vec![0; layout.header.len()];
            file.metadata().is_ok_and(|found| found.len() == layout.size)
                && file.read_exact_at(&mut header, 0).is_ok()
                && header == layout.header
        })
}
