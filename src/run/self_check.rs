//! The last check before an output is published: its shards are those of the plan, and their scales are usable.
//!
//! It reads headers and samples only. `verify` proves the rest; this finds the mistakes of a scheme or a file system
//! that concern whole shards, at next to no cost.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::layout::{Placed, ShardLayout};
use crate::checkpoint::manifest::NonFiniteRecord;
use crate::checkpoint::text::{exact, shown};
use crate::plan::{Job, Plan};
use crate::run::error::RunError;
use crate::run::scales::values;
use crate::run::stats::TensorStats;
use crate::run::threads;

/// Number of scale tensors per shard that a sample is taken of.
const SAMPLED_TENSORS: usize = 32;

/// Bytes from the beginning of a scale tensor that are checked.
const SAMPLED_BYTES: u64 = 4096;

/// Complete shards, wherever they were written to.
pub(super) trait WrittenShards: Sync {
    /// Returns where a shard lies.
    fn path(&self, shard: usize) -> PathBuf;

    /// Returns the size of a shard in bytes.
    ///
    /// # Errors
    /// It cannot be had.
    fn size(&self, shard: usize) -> Result<u64, RunError>;

    /// Returns bytes of a shard.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&self, shard: usize, offset: u64, len: u64) -> Result<Vec<u8>, RunError>;
}

/// The shards of a plan in a directory.
pub(super) struct ShardsInDirectory<'a> {
    pub(super) dir: &'a Path,
    pub(super) layouts: &'a [ShardLayout],
}

impl WrittenShards for ShardsInDirectory<'_> {
    fn path(&self, shard: usize) -> PathBuf {
        self.dir.join(&self.layouts[shard].file_name)
    }

    fn size(&self, shard: usize) -> Result<u64, RunError> {
        let path = self.path(shard);
        Ok(fs::metadata(&path).map_err(RunError::file("stat", &path))?.len())
    }

    fn read(&self, shard: usize, offset: u64, len: u64) -> Result<Vec<u8>, RunError> {
        let path = self.path(shard);
        let file = File::open(&path).map_err(RunError::file("open", &path))?;
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, offset).map_err(RunError::file("read", &path))?;
        Ok(bytes)
    }
}

/// Checks the shards of a plan, `threads` at a time. Scales of `non_finite` weights may be NaN or infinite.
///
/// # Errors
/// [`RunError::SelfCheck`] of the first shard that is wrong, or a shard cannot be read.
pub(super) fn check(
    plan: &Plan,
    shards: &dyn WrittenShards,
    non_finite: &[TensorStats<NonFiniteRecord>],
    threads: usize,
) -> Result<(), RunError> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None::<(usize, RunError)>));
    threads::on_each(threads.min(plan.shards.len()), || {
        loop {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            if shard >= plan.shards.len() {
                break;
            }
            if let Err(error) = check_one(plan, shard, shards, non_finite) {
                // Every earlier one has been begun and ends.
                next.store(plan.shards.len(), Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.as_ref().is_none_or(|&(earliest, _)| shard < earliest) {
                    *failure = Some((shard, error));
                }
            }
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

fn check_one(
    plan: &Plan,
    shard: usize,
    shards: &dyn WrittenShards,
    non_finite: &[TensorStats<NonFiniteRecord>],
) -> Result<(), RunError> {
    let layout = &plan.shards[shard];
    let wrong = |what: String| RunError::SelfCheck { path: shards.path(shard), what };
    let size = shards.size(shard)?;
    if size != layout.size {
        return Err(wrong(format!("it has {}, not {}", exact(size), exact(layout.size))));
    }
    if shards.read(shard, 0, layout.header.len() as u64)? != layout.header {
        return Err(wrong("its header differs".to_owned()));
    }
    for (weight, scale) in scales(plan, shard, layout) {
        let may_be_non_finite = non_finite.iter().any(|stats| stats.tensor == plan.inputs[weight].name);
        let sample = sample_of(scale);
        let bytes = shards.read(shard, sample.start, sample.end - sample.start)?;
        let is_good = |value: f32| if value.is_finite() { value > 0.0 } else { may_be_non_finite };
        let bad = values(scale.entry.dtype, &bytes).position(|value| !is_good(value));
        if let Some(at) = bad {
            let name = shown(&scale.entry.name);
            return Err(wrong(format!("the scale {name} is not a positive number at element {at}")));
        }
    }
    Ok(())
}

/// Returns the bytes of a shard that [`check`] reads: its header, and samples of scales.
pub(super) fn read_of(plan: &Plan, shard: usize) -> Vec<Range<u64>> {
    let layout = &plan.shards[shard];
    let scales = scales(plan, shard, layout).into_iter().map(|(_, scale)| sample_of(scale));
    std::iter::once(0..layout.header.len() as u64).chain(scales).collect()
}

/// The beginning of a scale tensor, which is checked.
fn sample_of(scale: &Placed) -> Range<u64> {
    scale.offset..scale.offset + scale.len.min(SAMPLED_BYTES)
}

/// Returns a sample of the scale tensors that were written to a shard, each with the number of its weight.
fn scales<'a>(plan: &'a Plan, shard: usize, layout: &'a ShardLayout) -> Vec<(usize, &'a Placed)> {
    let mut found: Vec<(usize, &Placed)> = Vec::new();
    for (weight, job) in plan.jobs.iter().enumerate() {
        let Job::Quantize { outputs, .. } = job else { continue };
        let scales = outputs.iter().filter(|(spec, slot)| slot.shard == shard && spec.role.is_scale());
        found.extend(scales.map(|(_, slot)| (weight, &layout.tensors[slot.tensor])));
    }
    let step = found.len().div_ceil(SAMPLED_TENSORS).max(1);
    found.into_iter().step_by(step).collect()
}
