//! Q304 and Q314 of weights that are stored transposed.

use super::auxiliary::PART_FORM;
use super::scales::SCALE_SHAPE;
use crate::decode::{Granularity, QuantizedWeight, Shards};
use crate::report::Finding;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// Checks the shape of scales, which have a row for each group.
pub(super) fn scales(
    scale: &Tensor,
    granularity: Granularity,
    weight: [usize; 2],
    findings: &mut Vec<Finding>,
) -> bool {
    let expected = granularity.scales(weight).map(|shape| shape.into_iter().rev().collect::<Vec<_>>());
    if expected.as_ref() == Some(&scale.shape) {
        return true;
    }
    let expected = expected.map_or_else(|| granularity.expected(weight), |shape| format!("{shape:?}"));
    let (name, shape, groups) = (shown(&scale.name), &scale.shape, granularity.describe());
    let message = format!("{name} has shape {shape:?}; a weight of {weight:?} with {groups} takes {expected}");
    findings.push(Finding::new(&SCALE_SHAPE, message).tensor(&scale.name));
    false
}

/// Checks the numbers of the groups that columns belong to, and returns whether the weight can be read.
///
/// # Errors
/// They cannot be read.
pub(super) fn groups(
    weight: &QuantizedWeight<'_>,
    shards: &Shards,
    findings: &mut Vec<Finding>,
) -> Result<bool, SourceError> {
    let (Some(groups), known) = (weight.groups_of_columns(shards)?, weight.across()) else { return Ok(true) };
    let is_known = |group: i32| usize::try_from(group).is_ok_and(|group| group < known);
    let Some((column, group)) = groups.iter().enumerate().find(|(_, group)| !is_known(**group)) else {
        return Ok(true);
    };
    let tensor = format!("{}.g_idx", weight.codes.module());
    let message =
        format!("{} puts column {column} into group {group}, and there are {known}, from 0 on", shown(&tensor));
    findings.push(Finding::new(&PART_FORM, message).tensor(&tensor));
    Ok(false)
}
