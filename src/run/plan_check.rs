//! The check of a plan before a run: every byte of the output is written exactly once.

use qwen_fp8_schemes::MAX_OUTPUTS;

use crate::plan::{Job, Plan, Slot};
use crate::run::error::RunError;
use crate::run::planned::carried;

/// Checks that every byte of the output is written by exactly one job or lies in a header.
///
/// # Errors
/// [`RunError::Inconsistent`].
//
// Workers write wherever their job points, without asking: an overlap would spoil a tensor, and a hole would leave the
// shard incomplete for ever, since its bytes are counted.
pub(super) fn check_slots(plan: &Plan) -> Result<(), RunError> {
    let mut taken: Vec<Vec<bool>> = plan.shards.iter().map(|shard| vec![false; shard.tensors.len()]).collect();
    if plan.inputs.len() != plan.jobs.len() {
        return Err(RunError::inconsistent("*", "it has not one job per input"));
    }
    for (input, job) in plan.inputs.iter().zip(&plan.jobs) {
        let mut take = |slot: &Slot, len: u64| {
            let placed = plan.shards.get(slot.shard).and_then(|shard| shard.tensors.get(slot.tensor));
            if placed.is_none_or(|placed| placed.len != len) {
                return Err(RunError::inconsistent(
                    &input.name,
                    "an output has another size than its place in the layout",
                ));
            }
            if std::mem::replace(&mut taken[slot.shard][slot.tensor], true) {
                return Err(RunError::inconsistent(&input.name, "an output's place is taken twice"));
            }
            Ok(())
        };
        match job {
            Job::Copy { to } | Job::Dequantize { to } => take(to, input.len)?,
            Job::PassThrough { to, scales } => {
                let carried = carried(input)?;
                if carried.parts.len() != to.len() {
                    return Err(RunError::inconsistent(&input.name, "it has not one place per tensor"));
                }
                carried.parts.iter().zip(to).try_for_each(|(part, slot)| take(slot, scales.bytes_of(part)))?;
            }
            Job::Quantize { outputs, .. } if outputs.is_empty() || outputs.len() > MAX_OUTPUTS => {
                return Err(RunError::inconsistent(&input.name, "its scheme writes no tensor, or more than eight"));
            }
            Job::Quantize { outputs, .. } => {
                outputs.iter().try_for_each(|(spec, slot)| take(slot, spec.bytes() as u64))?;
            }
        }
    }
    for (shard, taken) in plan.shards.iter().zip(&taken) {
        let mut end = shard.header.len() as u64;
        for (placed, taken) in shard.tensors.iter().zip(taken) {
            if !taken {
                return Err(RunError::inconsistent(&placed.entry.name, "no job writes it"));
            }
            if placed.offset != end {
                return Err(RunError::inconsistent(
                    &placed.entry.name,
                    "it does not begin where the tensor before it ends",
                ));
            }
            end += placed.len;
        }
        if end != shard.size {
            return Err(RunError::inconsistent(&shard.file_name, "the file's size is not that of its tensors"));
        }
    }
    Ok(())
}
