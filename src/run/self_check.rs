//! The last look before an output is published: are the shards what the plan says, and are their scales numbers that a
//! server can use. It reads headers and samples, so that it costs next to nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use qwen_fp8_schemes::TensorSpec;
use safetensors::Dtype;

use crate::checkpoint::layout::{Placed, ShardLayout};
use crate::checkpoint::manifest::NonFinite;
use crate::checkpoint::text::shown;
use crate::plan::{Job, Plan};
use crate::run::RunError;
use crate::run::met::Met;

/// Of how many scale tensors per shard a sample is taken.
const SAMPLED_TENSORS: usize = 32;

/// Bytes from the beginning of a scale tensor that are looked at.
const SAMPLED_BYTES: u64 = 4096;

/// Checks the shards that are staged in `dir`; scales of `kept` weights may be no numbers.
pub(super) fn check(plan: &Plan, dir: &Path, kept: &[Met<NonFinite>]) -> Result<(), RunError> {
    for (shard, layout) in plan.shards.iter().enumerate() {
        let path = dir.join(&layout.file_name);
        let wrong = |what: String| RunError::SelfCheck { path: path.clone(), what };
        let file = File::open(&path).map_err(RunError::file("open", &path))?;
        let size = file.metadata().map_err(RunError::file("look at", &path))?.len();
        if size != layout.size {
            return Err(wrong(format!("it has {size} bytes, not {}", layout.size)));
        }
        if read(&file, 0, layout.header.len() as u64).map_err(RunError::file("read", &path))? != layout.header {
            return Err(wrong("its header is another one".to_owned()));
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

/// How many of the scales in these bytes of an output are NaN or infinite.
pub(super) fn non_finite_scales(spec: &TensorSpec, bytes: &[u8]) -> u64 {
    if !spec.role.is_scale() {
        return 0;
    }
    values(spec.dtype, bytes).filter(|value| !value.is_finite()).count() as u64
}

/// The first element of these bytes of an output that is a scale and no finite number.
pub(super) fn first_infinite(spec: &TensorSpec, bytes: &[u8]) -> Option<usize> {
    if !spec.role.is_scale() {
        return None;
    }
    values(spec.dtype, bytes).position(|value| !value.is_finite())
}

fn read(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The values of a scale tensor; none of a dtype that is no number of its own, such as E8M0's exponents.
pub(super) fn values(dtype: Dtype, bytes: &[u8]) -> Box<dyn Iterator<Item = f32> + '_> {
    match dtype {
        Dtype::F32 => {
            Box::new(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])))
        }
        Dtype::BF16 => Box::new(bytes.chunks_exact(2).map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32())),
        Dtype::F16 => Box::new(bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32())),
        _ => Box::new(std::iter::empty()),
    }
}
