//! Deals the work of a plan to parts that know nothing of each other, by the bytes of the output.
//!
//! Whole shards first, largest first, each to the part that has least. What would make a part too large is cut: the
//! shards that are left over are laid end to end, and each part gets the stretch that fills it up. So a join has to put
//! together few shards, or none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::plan::{InputData, Job, Plan, Slot};
use crate::run::error::RunError;
use crate::run::planned::{matrix, row_bytes, scheme};
use crate::run::share::{Share, WrittenBytes};

/// By how many hundredths of the mean a part may be larger for the sake of a shard that need not be cut.
//
// Of the 5 that are promised, the rest is for the rounding of cuts to whole bands.
const WHOLE_SHARD_PERCENT: u64 = 3;

/// Bytes of an input between two places where it may be cut, or the next larger number of whole bands.
const CUT: u64 = 64 << 10;

/// Returns the bytes of the output that each of `parts` parts makes, headers aside.
///
/// # Errors
/// The plan contradicts itself.
pub fn bytes_of_parts(plan: &Plan, parts: usize) -> Result<Vec<u64>, RunError> {
    let bytes = |share: &Share| -> Result<u64, RunError> {
        Ok(share.written(plan)?.iter().map(|WrittenBytes { bytes, .. }| bytes.end - bytes.start).sum())
    };
    deal(plan, parts)?.iter().map(bytes).collect()
}

/// Returns the share of each part. Every byte of every tensor of the output is in exactly one of them.
///
/// # Errors
/// The plan contradicts itself.
pub(super) fn deal(plan: &Plan, parts: usize) -> Result<Vec<Share>, RunError> {
    let mut jobs_of: Vec<Vec<usize>> = vec![Vec::new(); plan.shards.len()];
    for (input, job) in plan.jobs.iter().enumerate() {
        // A job belongs to the shard of its first output, as in the order of the work.
        if let Some(first) = job.slots().first() {
            jobs_of[first.shard].push(input);
        }
    }
    let bytes_of = |shard: usize| jobs_of[shard].iter().map(|&input| output_bytes(plan, input)).sum::<u64>();
    let mut shards: Vec<(u64, usize)> = (0..plan.shards.len()).map(|shard| (bytes_of(shard), shard)).collect();
    shards.sort_by_key(|&(bytes, shard)| (Reverse(bytes), shard));
    let total: u64 = shards.iter().map(|&(bytes, _)| bytes).sum();
    let mean = total.div_ceil(parts as u64);
    let most = mean + mean / 100 * WHOLE_SHARD_PERCENT;

    let mut shares = vec![Share::default(); parts];
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> = (0..parts).map(|part| Reverse((0, part))).collect();
    let mut left_over = Vec::new();
    for (bytes, shard) in shards {
        match loads.pop() {
            Some(Reverse((load, part))) if load + bytes <= most => {
                loads.push(Reverse((load + bytes, part)));
                shares[part].inputs.extend(jobs_of[shard].iter().map(|&input| (input, 0..plan.inputs[input].len)));
            }
            least => {
                loads.extend(least);
                left_over.push(shard);
            }
        }
    }
    left_over.sort_unstable();
    let left_over: Vec<usize> = left_over.into_iter().flat_map(|shard| std::mem::take(&mut jobs_of[shard])).collect();
    let mut room = vec![0; parts];
    for Reverse((load, part)) in loads {
        room[part] = mean.saturating_sub(load);
    }
    fill(plan, &left_over, &room, &mut shares)?;
    Ok(shares)
}

/// Cuts these inputs, end to end, in proportion to the room of each part.
fn fill(plan: &Plan, inputs: &[usize], room: &[u64], shares: &mut [Share]) -> Result<(), RunError> {
    let mut ends = Vec::with_capacity(inputs.len());
    let mut total = 0;
    for &input in inputs {
        total += output_bytes(plan, input);
        ends.push(total);
    }
    let all_room: u64 = room.iter().sum();
    let (mut filled, mut at) = (0, (0, 0));
    for (part, share) in shares.iter_mut().enumerate() {
        filled += room[part];
        // Each cut is rounded by itself, so that what parts gain or lose by it does not add up.
        let until = if filled >= all_room {
            (inputs.len(), 0)
        } else {
            let until = (u128::from(total) * u128::from(filled) / u128::from(all_room.max(1))) as u64;
            cut(plan, inputs, &ends, until)?
        };
        while at < until {
            let (position, from) = at;
            let Some(&input) = inputs.get(position) else { break };
            let len = plan.inputs[input].len;
            let to = if position == until.0 { until.1 } else { len };
            share.inputs.insert(input, from..to);
            at = if to == len { (position + 1, 0) } else { (position, to) };
        }
    }
    Ok(())
}

/// Returns the place that is nearest to byte `until` of what these inputs become: the position of an input, and a byte
/// of its values.
fn cut(plan: &Plan, inputs: &[usize], ends: &[u64], until: u64) -> Result<(usize, u64), RunError> {
    let position = ends.partition_point(|&end| end <= until);
    let Some((&input, &end)) = inputs.get(position).zip(ends.get(position)) else { return Ok((inputs.len(), 0)) };
    let len = plan.inputs[input].len;
    let bytes = output_bytes(plan, input);
    let within = u128::from(until - (end - bytes)) * u128::from(len) / u128::from(bytes.max(1));
    let unit = unit(plan, input)?;
    let rounded = (within as u64 + unit / 2) / unit * unit;
    Ok(if rounded >= len { (position + 1, 0) } else { (position, rounded) })
}

/// Returns the bytes of an input between two places where it may be cut.
fn unit(plan: &Plan, input: usize) -> Result<u64, RunError> {
    let planned = &plan.inputs[input];
    let band = match (&plan.jobs[input], &planned.data) {
        (Job::Copy { .. }, InputData::Stored { .. }) if planned.merged.is_empty() => 1,
        (Job::Copy { .. } | Job::Dequantize { .. }, _) => row_bytes(planned),
        // Its tensors are of several sizes, and copied one by one.
        (Job::PassThrough { .. }, _) => planned.len,
        (Job::Quantize { rule, .. }, _) => {
            (scheme(plan, *rule, planned)?.band_rows() * matrix(planned)?.row_bytes()) as u64
        }
    };
    Ok(CUT.next_multiple_of(band.max(1)))
}

/// Returns the bytes of what an input becomes.
fn output_bytes(plan: &Plan, input: usize) -> u64 {
    let slots = plan.jobs[input].slots().into_iter();
    slots.map(|Slot { shard, tensor }| plan.shards[shard].tensors[tensor].len).sum()
}
