//! A share of a plan's work: of each input the bytes that are dealt with, and where they go.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::plan::{Job, Plan, Slot};
use crate::run::error::RunError;
use crate::run::planned::{matrix, rows};

/// The work of a run, or of one part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// By number of the plan's input, the bytes of its values that are dealt with; nothing of an input that is missing.
    pub(super) inputs: BTreeMap<usize, Range<u64>>,
}

/// The bytes of an output shard that a share writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToWrite {
    Nothing,
    /// So many, of more.
    Piece(u64),
    /// All of them, header included.
    Whole,
}

/// Bytes of an output tensor that a share writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenBytes {
    pub(super) slot: Slot,
    /// Counted from the beginning of the tensor.
    pub(super) bytes: Range<u64>,
}

impl Share {
    /// Returns the whole of each input that goes to a shard which is not `finished`.
    pub(super) fn of_run(plan: &Plan, finished: &[bool]) -> Self {
        let wanted = plan.jobs.iter().enumerate().filter(|(_, job)| is_wanted(job, finished));
        Self { inputs: wanted.map(|(input, _)| (input, 0..plan.inputs[input].len)).collect() }
    }

    /// Returns what is written, tensor by tensor in the order of the output.
    ///
    /// # Errors
    /// The plan contradicts itself.
    pub(super) fn written(&self, plan: &Plan) -> Result<Vec<WrittenBytes>, RunError> {
        let mut all = Vec::new();
        for (&input, range) in &self.inputs {
            written(plan, input, range, &mut all)?;
        }
        all.retain(|written| !written.bytes.is_empty());
        all.sort_by_key(|written| (written.slot.shard, written.slot.tensor));
        Ok(all)
    }
}

/// Returns for each shard how much of it these ranges are.
pub(super) fn to_write(plan: &Plan, written: &[WrittenBytes]) -> Vec<ToWrite> {
    let mut bytes = vec![0; plan.shards.len()];
    for WrittenBytes { slot, bytes: range } in written {
        bytes[slot.shard] += range.end - range.start;
    }
    let shards = plan.shards.iter().zip(bytes);
    let kind = shards.map(|(shard, bytes)| match bytes {
        0 => ToWrite::Nothing,
        bytes if bytes == shard.data_len() => ToWrite::Whole,
        bytes => ToWrite::Piece(bytes),
    });
    kind.collect()
}

/// Adds what becomes of a part of an input, given in bytes of its values.
fn written(plan: &Plan, input: usize, range: &Range<u64>, to: &mut Vec<WrittenBytes>) -> Result<(), RunError> {
    let whole = |slot: Slot| WrittenBytes { slot, bytes: 0..plan.shards[slot.shard].tensors[slot.tensor].len };
    match &plan.jobs[input] {
        Job::Copy { to: slot } | Job::Dequantize { to: slot } => {
            to.push(WrittenBytes { slot: *slot, bytes: range.clone() });
        }
        Job::PassThrough { to: slots, .. } => to.extend(slots.iter().map(|&slot| whole(slot))),
        Job::Quantize { outputs, .. } => {
            let (first, count) = rows(matrix(&plan.inputs[input])?, range.start, range.end - range.start);
            to.extend(outputs.iter().map(|(spec, slot)| {
                let bytes = spec.band_range(first, count);
                WrittenBytes { slot: *slot, bytes: bytes.start as u64..bytes.end as u64 }
            }));
        }
    }
    Ok(())
}

/// Returns whether the job writes to a shard that is not finished.
pub(super) fn is_wanted(job: &Job, finished: &[bool]) -> bool {
    job.slots().iter().any(|slot| !finished[slot.shard])
}
