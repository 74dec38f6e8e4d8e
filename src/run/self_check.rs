//! The last check before an output is published: the shards on disk are those of the plan, and their scales are usable.
//!
//! It reads headers and samples only. `verify` proves the rest; this finds the mistakes of a scheme or a file system
//! that concern whole shards, at next to no cost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::checkpoint::layout::{Placed, ShardLayout};
use crate::checkpoint::manifest::NonFiniteRecord;
use crate::checkpoint::text::{exact, shown};
use crate::plan::{Job, Plan};
use crate::run::error::RunError;
use crate::run::scales::values;
use crate::run::stats::TensorStats;

/// Number of scale tensors per shard that a sample is taken of.
const SAMPLED_TENSORS: usize = 32;

/// Bytes from the beginning of a scale tensor that are checked.
const SAMPLED_BYTES: u64 = 4096;

/// Checks the shards in `dir`. Scales of `non_finite` weights may be NaN or infinite.
///
/// # Errors
/// [`RunError::SelfCheck`], or a shard cannot be read.
pub(super) fn check(plan: &Plan, dir: &Path, non_finite: &[TensorStats<NonFiniteRecord>]) -> Result<(), RunError> {
    for (shard, layout) in plan.shards.iter().enumerate() {
        let path = dir.join(&layout.file_name);
        let wrong = |what: String| RunError::SelfCheck { path: path.clone(), what };
        let file = File::open(&path).map_err(RunError::file("open", &path))?;
        let size = file.metadata().map_err(RunError::file("stat", &path))?.len();
        if size != layout.size {
            return Err(wrong(format!("it has {}, not {}", exact(size), exact(layout.size))));
        }
        if read(&file, 0, layout.header.len() as u64).map_err(RunError::file("read", &path))? != layout.header {
            return Err(wrong("its header differs".to_owned()));
        }
        for (weight, scale) in scales(plan, shard, layout) {
            let may_be_non_finite = non_finite.iter().any(|stats| stats.tensor == plan.inputs[weight].name);
            let bytes = read(&file, scale.offset, scale.len.min(SAMPLED_BYTES));
            let bytes = bytes.map_err(RunError::file("read", &path))?;
            let is_good = |value: f32| if value.is_finite() { value > 0.0 } else { may_be_non_finite };
            let bad = values(scale.entry.dtype, &bytes).position(|value| !is_good(value));
            if let Some(at) = bad {
                let name = shown(&scale.entry.name);
                return Err(wrong(format!("the scale {name} is not a positive number at element {at}")));
            }
        }
    }
    Ok(())
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

fn read(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
