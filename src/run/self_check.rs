//! The last look before an output is published: are the shards what the plan says, and are their scales numbers that a
//! server can use. It reads headers and samples, so that it costs next to nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::checkpoint::layout::{Placed, ShardLayout};
use crate::checkpoint::manifest::NonFinite;
use crate::checkpoint::text::shown;
use crate::plan::{Job, Plan};
use crate::run::error::RunError;
use crate::run::scales::values;
use crate::run::stats::TensorStats;

/// Of how many scale tensors per shard a sample is taken.
const SAMPLED_TENSORS: usize = 32;

/// Bytes from the beginning of a scale tensor that are looked at.
const SAMPLED_BYTES: u64 = 4096;

/// Checks the shards that are staged in `dir`; scales of `kept` weights may be no numbers.
pub(super) fn check(plan: &Plan, dir: &Path, kept: &[TensorStats<NonFinite>]) -> Result<(), RunError> {
    for (shard, layout) in plan.shards.iter().enumerate() {
        let path = dir.join(&layout.file_name);
        let wrong = |what: String| RunError::SelfCheck { path: path.clone(), what };
        let file = File::open(&path).map_err(RunError::file("open", &path))?;
        let size = file.metadata().map_err(RunError::file("stat", &path))?.len();
        if size != layout.size {
            return Err(wrong(format!("it has {size} bytes, not {}", layout.size)));
        }
        if read(&file, 0, layout.header.len() as u64).map_err(RunError::file("read", &path))? != layout.header {
            return Err(wrong("its header differs".to_owned()));
        }
        for (weight, scale) in scales(plan, shard, layout) {
            let may_be_none = kept.iter().any(|kept| kept.tensor == plan.inputs[weight].name);
            let bytes = read(&file, scale.offset, scale.len.min(SAMPLED_BYTES));
            let bytes = bytes.map_err(RunError::file("read", &path))?;
            let is_good = |value: f32| if value.is_finite() { value > 0.0 } else { may_be_none };
            let bad = values(scale.entry.dtype, &bytes).position(|value| !is_good(value));
            if let Some(at) = bad {
                let name = shown(&scale.entry.name);
                return Err(wrong(format!("the scale {name} is not a positive number at element {at}")));
            }
        }
    }
    Ok(())
}

/// Some of the scales that were written to this shard, each with the number of its weight.
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
