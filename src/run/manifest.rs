//! Makes the manifest of a run from its plan and the checksums of what it wrote.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::Format;
use sha2::{Digest, Sha256};

use crate::checkpoint::Shard;
use crate::checkpoint::checksum::{Crc64, hexadecimal};
use crate::checkpoint::hub::ModelName;
use crate::checkpoint::manifest::{
    ActionRecord, InputFile, MANIFEST_VERSION, Manifest, ManifestAdapter, ManifestFile, ManifestRecipe, ManifestSource,
    NonFiniteRecord, OutputTensor, Tool,
};
use crate::checkpoint::side_files::SideFile;
use crate::checkpoint::source::SourceFile;
use crate::plan::{Decision, Job, Plan, PlannedInput, Slot};
use crate::run::cancellable_read;
use crate::run::checksums::Checksums;
use crate::run::error::RunError;
use crate::run::identity::{Identity, sha256};
use crate::run::observer::Observer;
use crate::run::stats::TensorStats;
use crate::run::threads;

/// Bytes of a file that are read at a time for its SHA-256.
const HASHED_AT_ONCE: u64 = 1 << 20;

/// Files whose SHA-256 goes into the manifest. They are read once more for it, which the CRC-64 does not need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sha256Of {
    pub output: bool,
    pub source: bool,
}

/// Returns the manifest without SHA-256. `side_files` are the checksums of the plan's side files as they were copied,
/// `non_finite` the weights whose NaN and infinity are in the output.
//
// It holds no path, time or thread count: the same job writes the same bytes, manifest included.
pub(super) fn manifest(
    plan: &Plan,
    identity: &Identity,
    checksums: &Checksums<'_>,
    side_files: &[Crc64],
    non_finite: &[TensorStats<NonFiniteRecord>],
) -> Manifest {
    let shards = plan.shards.iter().enumerate().map(|(shard, layout)| ManifestFile {
        name: layout.file_name.clone(),
        size: layout.size,
        crc64nvme: checksums.shard(shard),
        sha256: None,
        tensors: (layout.tensors.iter().enumerate())
            .map(|(tensor, placed)| OutputTensor {
                name: placed.entry.name.clone(),
                crc64nvme: checksums.tensor(shard, tensor),
            })
            .collect(),
    });
    let plain = |name: &str, size, crc64nvme| ManifestFile {
        name: name.to_owned(),
        size,
        crc64nvme,
        sha256: None,
        tensors: vec![],
    };
    let copies = plan.checkpoint.side_files.iter().zip(side_files);
    let copies = copies.map(|(file, &sum)| plain(&file.name, file.stamp.size, sum));
    let documents = plan.documents.iter().map(|(name, bytes)| plain(name, bytes.len() as u64, Crc64::of(bytes)));
    let ModelName { name: model, revision, .. } = plan.checkpoint.model_name();
    let inputs = identity.inputs().iter().map(|input| InputFile {
        name: input.name.clone(),
        size: input.size,
        header_sha256: input.header.clone(),
        sha256: None,
    });
    let adapters = plan.checkpoint.adapters.iter().map(|adapter| ManifestAdapter {
        name: adapter.name.name.clone(),
        revision: adapter.name.revision.clone(),
        size: adapter.weights.size,
        header_sha256: adapter.weights.header.clone(),
    });
    let text = plan.recipe_text().to_owned();
    Manifest {
        manifest_version: MANIFEST_VERSION,
        tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        source: ManifestSource {
            model,
            revision,
            layers: plan.checkpoint.cut_to,
            files: inputs.collect(),
            adapters: adapters.collect(),
        },
        recipe: ManifestRecipe { sha256: sha256(text.as_bytes()), text },
        schemes: identity.schemes().clone(),
        format: match plan.format() {
            Format::Fp8 => "fp8",
            Format::CompressedTensors => "compressed-tensors",
        }
        .to_owned(),
        files: shards.chain(copies).chain(documents).collect(),
        actions: actions(plan, non_finite),
    }
}

/// Adds the SHA-256 of the wanted files to the manifest. The files of the output lie in `dir`, except for the plan's
/// documents, which are not written yet.
///
/// # Errors
/// A file cannot be read, a source file has changed, or the run is cancelled.
pub(super) fn add_sha256(
    manifest: &mut Manifest,
    of: Sha256Of,
    plan: &Plan,
    dir: &Path,
    threads: usize,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<(), RunError> {
    let mut wanted = Vec::new();
    if of.output {
        for file in &mut manifest.files {
            match plan.documents.iter().find(|(name, _)| *name == file.name) {
                Some((_, bytes)) => file.sha256 = Some(sha256(bytes)),
                None => wanted.push((HashedFile::Written(dir.join(&file.name)), file.size, &mut file.sha256)),
            }
        }
    }
    if of.source {
        let shards = plan.checkpoint.shards.iter().map(|shard| (HashedFile::Shard(shard), &shard.remote));
        let side_files = plan.checkpoint.side_files.iter().map(|file| (HashedFile::SideFile(file), &file.remote));
        let places = manifest.source.files.iter_mut().map(|file| (file.size, &mut file.sha256));
        for ((file, remote), (size, place)) in shards.chain(side_files).zip(places) {
            match remote.as_ref().and_then(|remote| remote.entry().sha256.clone()) {
                // What the hub knows need not be computed from all of its bytes.
                Some(known) => *place = Some(known),
                None => wanted.push((file, size, place)),
            }
        }
    }
    if !wanted.is_empty() {
        observer.reading("computing SHA-256", wanted.iter().map(|(_, size, _)| size).sum());
    }
    let (files, places): (Vec<_>, Vec<_>) = wanted.into_iter().map(|(file, _, place)| (file, place)).unzip();
    for (place, digest) in places.into_iter().zip(digests(&files, threads, cancel, observer)?) {
        *place = Some(digest);
    }
    Ok(())
}

/// A file whose SHA-256 is wanted.
enum HashedFile<'a> {
    /// Written by the run.
    Written(PathBuf),
    Shard(&'a Shard),
    SideFile(&'a SideFile),
}

/// Corrects the checksums of the file `name`, which now holds `bytes`.
pub(super) fn update(manifest: &mut Manifest, name: &str, bytes: &[u8]) {
    for file in manifest.files.iter_mut().filter(|file| file.name == name) {
        file.size = bytes.len() as u64;
        file.crc64nvme = Crc64::of(bytes);
        file.sha256 = file.sha256.is_some().then(|| sha256(bytes));
    }
}

/// Returns what happened to each input, and by which rule.
fn actions(plan: &Plan, non_finite: &[TensorStats<NonFiniteRecord>]) -> Vec<ActionRecord> {
    let name = |slot: &Slot| plan.shards[slot.shard].tensors[slot.tensor].entry.name.clone();
    let inputs = plan.inputs.iter().zip(&plan.decisions).zip(&plan.jobs);
    let action = |(index, ((input, decision), job)): (usize, ((&PlannedInput, &Decision), &Job))| {
        let (search, input_scale) = match job {
            Job::Quantize { rule, .. } => (plan.scale_search(*rule), plan.input_scale(*rule)),
            _ => (None, None),
        };
        let outputs: Vec<String> = job.slots().iter().map(name).collect();
        let non_finite = non_finite.iter().find(|stats| stats.tensor == input.name);
        ActionRecord {
            non_finite: non_finite.map(|stats| stats.counts.clone()),
            tensor: input.name.clone(),
            adapters: input.adapters(),
            part_of: input.part_of.as_deref().map(str::to_owned),
            scheme: plan.registration(index).map(|registration| registration.name.to_owned()),
            rule: decision.rule.map(|(rule, _)| plan.rule_label(rule).to_owned()),
            scale_search: search.filter(|search| *search != "absmax").map(str::to_owned),
            input_scale: input_scale.cloned(),
            outputs: if outputs.as_slice() == std::slice::from_ref(&input.name) { Vec::new() } else { outputs },
        }
    };
    inputs.enumerate().map(action).collect()
}

/// Returns the SHA-256 of each file; those of the source must be unchanged.
fn digests(
    files: &[HashedFile<'_>],
    threads: usize,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Vec<String>, RunError> {
    // A file that no thread comes to was left alone because the run was cancelled.
    let results = Mutex::new(files.iter().map(|_| Err(RunError::Cancelled)).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    threads::on_each(threads.min(files.len()), || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else { break };
            let digest = digest_of(file, cancel, observer);
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = digest;
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().collect()
}

/// Returns the SHA-256 of a file.
fn digest_of(file: &HashedFile<'_>, cancel: &AtomicBool, observer: &dyn Observer) -> Result<String, RunError> {
    let (source, stamp) = match file {
        HashedFile::Written(path) => (SourceFile::open(path)?, None),
        HashedFile::Shard(shard) => (shard.open()?.into_source(), Some(shard.stamp)),
        HashedFile::SideFile(file) => (file.open()?, Some(file.stamp)),
    };
    let mut buffer = vec![0; HASHED_AT_ONCE.min(source.size()) as usize];
    let mut digest = Sha256::new();
    for at in (0..source.size()).step_by(HASHED_AT_ONCE as usize) {
        let piece = &mut buffer[..HASHED_AT_ONCE.min(source.size() - at) as usize];
        cancellable_read::read(&source, piece, at, cancel)?;
        digest.update(&*piece);
        observer.advanced(piece.len() as u64);
    }
    // A file that was written to meanwhile would get the digest of bytes that the run has not read.
    source.check_unchanged(stamp.unwrap_or(source.stamp()))?;
    Ok(hexadecimal(digest.finalize().as_slice()))
}
