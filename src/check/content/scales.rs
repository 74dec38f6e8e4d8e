//! Scales, zero points and global scales as numbers, without a weight.

use std::ops::Range;

use crate::coded::Coded;
use crate::finding::Finding;
use crate::recorded::Recorded;
use crate::rules;
use crate::shards::Shards;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// Groups whose scales are read at a time.
const PIECE: usize = 1 << 18;

/// What the scales of a weight are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// Positive numbers, every one.
    Sound,
    /// Positive numbers, but where NaN and infinity of the source were kept.
    Kept,
    Bad,
}

/// Scales that are no positive numbers.
#[derive(Debug, Default)]
struct Bad {
    number: usize,
    /// Position and value of the first.
    first: Option<(usize, f32)>,
    /// Whether one of them is zero, negative or minus infinity, which no source makes of a scale.
    is_odd: bool,
}

/// Whether every scale is a positive number, or is none on purpose.
pub(crate) fn check_scales(
    coded: &Coded<'_>,
    shards: &Shards,
    recorded: &Recorded,
    findings: &mut Vec<Finding>,
) -> Result<Scales, SourceError> {
    let global = coded.global;
    if !global.is_finite() || global <= 0.0 {
        for (_, tensor) in &coded.beside {
            let message = format!("{} is {global:e}, and a global scale is a positive number", shown(&tensor.name));
            findings.push(Finding::new(&rules::SCALE_VALUE, message).tensor(&tensor.name));
        }
        return Ok(Scales::Bad);
    }
    let (mut bad, mut astray) = (Bad::default(), Bad::default());
    let (least, largest) = (coded.form.storage().book().least, coded.form.storage().book().largest);
    for rows in stretches(coded) {
        let steps = coded.steps(shards, &rows)?;
        for group in steps.groups() {
            let step = steps.of(group);
            if !step.scale.is_finite() || step.scale <= 0.0 {
                bad.add(group, step.scale);
                bad.is_odd |= step.scale.is_finite() || step.scale == f32::NEG_INFINITY;
            }
            if step.zero < least || step.zero > largest {
                astray.add(group, step.zero);
            }
        }
    }
    if let Some((first, zero)) = astray.first {
        let message = format!(
            "{}: {} of its zero points lie outside of {least} to {largest}, such as {zero} at position {first}",
            shown(&coded.codes.name),
            astray.number
        );
        findings.push(Finding::new(&rules::ZERO_POINT, message).tensor(&coded.codes.name));
    }
    let Some((first, scale)) = bad.first else { return Ok(Scales::Sound) };
    if !bad.is_odd && recorded.keeps(&coded.name(), bad.number) {
        let (number, weight) = (bad.number, shown(&coded.codes.name));
        let message = format!("{number} scales of {weight} are NaN or infinite, as the manifest says");
        findings.push(Finding::new(&rules::KEPT, message).tensor(&coded.scale.name));
        return Ok(Scales::Kept);
    }
    let message = format!(
        "{} holds {} that are not positive numbers, such as {scale:e} at position {first}",
        shown(&coded.scale.name),
        bad.number
    );
    findings.push(Finding::new(&rules::SCALE_VALUE, message).tensor(&coded.scale.name));
    Ok(Scales::Bad)
}

impl Bad {
    fn add(&mut self, position: usize, value: f32) {
        self.number += 1;
        self.first.get_or_insert((position, value));
    }
}

/// Rows of the weight that end where groups do, with a bounded number of groups.
fn stretches(coded: &Coded<'_>) -> impl Iterator<Item = Range<usize>> {
    let height = coded.sides()[0];
    // A matrix without columns may have any number of rows, and no groups.
    let rows = if coded.across() == 0 { 0 } else { coded.matrix[0] };
    let step = (PIECE / coded.across().max(1)).max(1).saturating_mul(height);
    (0..rows).step_by(step).map(move |first| first..rows.min(first.saturating_add(step)))
}
