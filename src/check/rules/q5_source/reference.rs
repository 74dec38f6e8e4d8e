//! Q502, Q506 and Q507: codes and scales against those that the reference makes of the source.

use crate::decode::QuantizedWeight;
use crate::report::Severity::{Error, Warning};
use crate::report::{Finding, LintRule};
use crate::source::{CheckedTensor, Comparison, GlobalScaleCheck, Occurrences, RecordedActions, ScaleCount, ScaleRule};
use qwen_fp8_checkpoint::text::{agree, count, shown};

// Clamping under the reference's scale is no fault: that scale is rounded, and may then be too small for the amax.
pub(crate) static OUTSIDE_STEP: LintRule = LintRule {
    code: "Q502",
    name: "outside-half-step",
    severity: Error,
    strict: Error,
    title: "Weights decode to values further from the source than rounding explains.",
    why: "Codes or scales were altered, or the format cannot hold the weights.",
};

// Codes alone do not show it: rounded anew under an altered scale they are right for that scale.
pub(crate) static SCALE_ALTERED: LintRule = LintRule {
    code: "Q506",
    name: "scale-altered",
    severity: Error,
    strict: Error,
    title: "A scale matches neither its granule's amax nor, where it was searched for, any MSE-search candidate; or it is not the one that the recipe gave.",
    why: "The other scales follow that rule: this one was altered or belongs to other weights.",
};

// A warning: the scales of MSE or imatrix observers are as sound as any, they only follow from more than the weights.
pub(crate) static SCALE_RULE: LintRule = LintRule {
    code: "Q507",
    name: "scale-rule",
    severity: Warning,
    strict: Warning,
    title: "Most scales do not follow from their granule's amax.",
    why: "Another observer made them, or a search that the manifest does not mention; no single scale is proven then.",
};

/// Reports weights whose code is not the one that rounding gives.
pub(crate) fn outside_step(weight: &QuantizedWeight<'_>, found: &Comparison, findings: &mut Vec<Finding>) {
    let Occurrences { number, first } = found.outside;
    if number > 0 {
        let name = shown(&weight.codes.name);
        let weights = count(number as usize, "weight");
        let decode = agree(number as usize, "decodes", "decode");
        let outside = format!("{weights} {decode} to more than half a step from the source, the first at {first:?}");
        let (error, at) = (found.sums.max_error, found.sums.max_error_at);
        let message = format!("{name}: {outside}; the largest error is {error:e} at {at:?}");
        findings.push(Finding::new(&OUTSIDE_STEP, message).tensor(&weight.codes.name));
    }
}

/// Judges the scales of all weights together.
///
/// Where nearly all scales follow the absmax rule, one that does not was altered. Where most do not, another observer
/// made them, which is no fault. Scales that were searched for, and those of a weight whose codes are the source's,
/// are judged one by one.
pub(crate) fn scales(tensors: &[CheckedTensor], findings: &mut Vec<Finding>) {
    // Each reason for one scale and for several.
    let altered = |tensor: &CheckedTensor, one: &str, several: &str| {
        let ScaleCount { other, first, .. } = tensor.scales;
        let (name, why) = (shown(&tensor.name), agree(other as usize, one, several));
        let message = format!("{name}: {other} of its scales, the first at position {first}, {why}");
        Finding::new(&SCALE_ALTERED, message).tensor(&tensor.name)
    };
    let by_majority = |tensor: &&CheckedTensor| tensor.scales.rule == ScaleRule::Majority;
    let (together, alone): (Vec<_>, Vec<_>) = tensors.iter().partition(by_majority);
    for tensor in alone.into_iter().filter(|tensor| tensor.scales.other > 0) {
        let (one, several) = match tensor.scales.rule {
            ScaleRule::Search => (
                "matches no candidate of an MSE search, or one that leaves a greater error than the absmax scale",
                "match no candidate of an MSE search, or one that leaves a greater error than the absmax scale",
            ),
            ScaleRule::FourOverSix => (
                "takes the amax neither to 6 nor to 4, or leaves a greater error than that which takes it to 6",
                "take the amax neither to 6 nor to 4, or leave a greater error than those which take it to 6",
            ),
            ScaleRule::Lossless => (
                "is not the least power of two that clamps no weight",
                "are not the least powers of two that clamp no weight",
            ),
            ScaleRule::Absmax | ScaleRule::Majority => (
                "is not the source's, though the codes are, and does not follow from the amax of its granule",
                "are not the source's, though the codes are, and do not follow from the amax of their granules",
            ),
        };
        findings.push(altered(tensor, one, several));
    }
    let following: u64 = together.iter().map(|tensor| tensor.scales.following).sum();
    let other: u64 = together.iter().map(|tensor| tensor.scales.other).sum();
    if following < other {
        let all = count((following + other) as usize, "scale");
        let do_not = agree(
            other as usize,
            "does not follow from the amax of its granule",
            "do not follow from the amax of their granules",
        );
        let message = format!("{other} of {all} {do_not}");
        findings.push(Finding::new(&SCALE_RULE, message));
        return;
    }
    for tensor in together.into_iter().filter(|tensor| tensor.scales.other > 0) {
        let others =
            format!("{} {}", count(following as usize, "other scale"), agree(following as usize, "does", "do"));
        let one = format!("does not follow from the amax of its granule, as {others}");
        findings.push(altered(tensor, &one, &format!("do not follow from the amax of their granules, as {others}")));
    }
}

/// Reports scales of activations that are not those which the recipe gave.
pub(crate) fn input_scales(weights: &[QuantizedWeight<'_>], recorded: &RecordedActions, findings: &mut Vec<Finding>) {
    for weight in weights {
        let (Some(given), Some(tensor)) = (recorded.input_scale(&weight.name()), weight.activations) else { continue };
        // One that is no float has a finding already.
        if let Some(scale) = weight.input_scale.filter(|scale| *scale != given) {
            let message = format!("{} is {scale:e}, and the recipe gave {given:?}", shown(&tensor.name));
            findings.push(Finding::new(&SCALE_ALTERED, message).tensor(&tensor.name));
        }
    }
}

/// Judges the global scales of all weights together, as [`scales`] does.
pub(crate) fn global_scales(check: &GlobalScaleCheck<'_, '_>, findings: &mut Vec<Finding>) {
    let rule = if check.following < check.others.len() { &SCALE_RULE } else { &SCALE_ALTERED };
    for (part, reference) in &check.others {
        let name = part.global_scale().map_or(&part.codes.name, |tensor| &tensor.name);
        let message = format!("{} is {:e}, and the amax gives {reference:e}", shown(name), part.global);
        findings.push(Finding::new(rule, message).tensor(name));
    }
}
