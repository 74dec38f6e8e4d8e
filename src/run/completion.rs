//! Everything of an output but its shards: side files, manifest, index, model card and `config.json`.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::{MANIFEST_FILE, Manifest};
use crate::checkpoint::model_card::MODEL_CARD;
use crate::plan::Plan;
use crate::run::error::RunError;
use crate::run::files;
use crate::run::identity::Identity;
use crate::run::manifest;
use crate::run::observer::{Observer, Phase};
use crate::run::options::RunOptions;
use crate::run::recorder::Recorder;
use crate::run::self_check::{self, WrittenShards};

/// The last steps before an output whose shards are complete can be published.
pub(super) struct Completion<'a> {
    pub(super) plan: &'a Plan,
    pub(super) identity: &'a Identity,
    pub(super) recorder: &'a Recorder<'a>,
    pub(super) options: &'a RunOptions<'a>,
    pub(super) observer: &'a dyn Observer,
    pub(super) workers: usize,
    /// Shards that are checked at a time: one on a disk, many where each answer is waited for.
    pub(super) threads_of_check: usize,
}

impl Completion<'_> {
    /// Checks the `shards`, which lie in `dir` unless they were written elsewhere, and writes all other files of `output`
    /// into `dir`, `config.json` last. Returns the size of the output in bytes.
    ///
    /// # Errors
    /// The shards are not as planned, a file cannot be written, or the proof does not let the output be published.
    //
    // The order is what makes a crash harmless: the index is written after the shards that it names, and `config.json`,
    // without which no server loads a directory, after everything else.
    pub(super) fn carry_out(&self, shards: &dyn WrittenShards, dir: &Path, output: &Path) -> Result<u64, RunError> {
        let Self { plan, options, observer, .. } = *self;
        let mut bytes = output_bytes(plan);
        observer.phase(Phase::Publishing);
        let non_finite = self.recorder.non_finite.all(plan);
        self_check::check(plan, shards, &non_finite, self.threads_of_check)?;
        let side_files = plan.checkpoint.side_files.iter();
        let side_files: Vec<Crc64> =
            side_files.map(|file| files::copy_side_file(file, dir, options.cancel)).collect::<Result<_, _>>()?;
        let mut manifest = None;
        if options.manifest {
            let mut made = manifest::manifest(plan, self.identity, &self.recorder.checksums, &side_files, &non_finite);
            let (sha256, cancel) = (options.sha256, options.cancel);
            manifest::add_sha256(&mut made, sha256, plan, dir, self.workers, cancel, observer)?;
            let text = made.text();
            bytes += text.len() as u64;
            files::write_document(dir, MANIFEST_FILE, text.as_bytes())?;
            manifest = Some(made);
        }
        for (name, bytes) in &plan.documents {
            files::write_document(dir, name, bytes)?;
        }
        if let Some(proof) = options.proof
            && let Some(card) = proof.judge(dir).map_err(|refusal| RunError::refused(refusal, output))?
        {
            bytes = replace_card(plan, dir, card.as_bytes(), manifest.as_mut(), bytes)?;
        }
        if options.cancel.load(Ordering::Relaxed) { Err(RunError::Cancelled) } else { Ok(bytes) }
    }
}

/// Puts `card` in place of the model card in `dir`, and its checksums into the manifest. Returns the bytes of the output,
/// which were `bytes` before.
fn replace_card(
    plan: &Plan,
    dir: &Path,
    card: &[u8],
    manifest: Option<&mut Manifest>,
    bytes: u64,
) -> Result<u64, RunError> {
    let before = plan.documents.iter().find(|(name, _)| name == MODEL_CARD).map_or(0, |(_, card)| card.len() as u64);
    files::write_document(dir, MODEL_CARD, card)?;
    let mut bytes = bytes - before + card.len() as u64;
    if let Some(manifest) = manifest {
        bytes -= manifest.text().len() as u64;
        manifest::update(manifest, MODEL_CARD, card);
        let text = manifest.text();
        bytes += text.len() as u64;
        files::write_document(dir, MANIFEST_FILE, text.as_bytes())?;
    }
    Ok(bytes)
}

/// Returns the bytes of the output directory, side files included and the manifest excluded.
pub(super) fn output_bytes(plan: &Plan) -> u64 {
    plan.output_bytes() + plan.checkpoint.side_files.iter().map(|file| file.stamp.size).sum::<u64>()
}
