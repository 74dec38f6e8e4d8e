//! Q401 to Q405: values of scales, zero points, global scales and codes.

use safetensors::Dtype;

use crate::decode::{QuantizedWeight, Shards, bad_scales};
use crate::report::Severity::{Error, Note, Warning};
use crate::report::{Finding, LintRule};
use crate::source::{Comparison, Occurrences, QparamsScan, RecordedActions, fused_layers};
use qwen_fp8_checkpoint::experts::BlockStack;
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::{agree, count, shown};

// Zero and negative scales come from no rule: the reference puts an epsilon in place of a scale that underflows.
pub(crate) static SCALE_VALUE: LintRule = LintRule {
    code: "Q401",
    name: "scale-value",
    severity: Error,
    strict: Error,
    title: "A scale is NaN, infinite, zero or negative.",
    why: "No weight under it decodes to what it was.",
};

// E4M3 has one NaN per sign, 0x7F and 0xFF; INT4 in a byte leaves 240 codes without meaning.
pub(crate) static WEIGHT_NAN: LintRule = LintRule {
    code: "Q402",
    name: "weight-nan",
    severity: Error,
    strict: Error,
    title: "A code of a quantized weight is NaN, or an integer of more bits than config.json declares.",
    why: "It decodes to no value, or to a wrong one.",
};

// A note and no error: `on_nonfinite: keep` carries NaN as the reference does, and the manifest tells how many.
pub(crate) static NON_FINITE_KEPT: LintRule = LintRule {
    code: "Q403",
    name: "non-finite-kept",
    severity: Note,
    strict: Note,
    title: "A weight has non-finite scales and codes, and the manifest says that its source holds such values.",
    why: "They were let through on purpose, with `on_nonfinite: keep`.",
};

// Zero points are clamped to the range of the codes before they are stored.
pub(crate) static ZERO_POINT: LintRule = LintRule {
    code: "Q404",
    name: "zero-point",
    severity: Error,
    strict: Error,
    title: "A zero point is not an integer of as many bits as the weights.",
    why: "No quantizer makes one: it was damaged or belongs to another format.",
};

// vLLM takes 1/max over the parts and warns. The other parts' scales were rounded under their own. Of activations it does the
// same, and the parts have one input.
pub(crate) static GLOBAL_SCALES: LintRule = LintRule {
    code: "Q405",
    name: "global-scales-differ",
    severity: Warning,
    strict: Warning,
    title: "Parts of a fused layer have different global scales.",
    why: "vLLM takes one of them for the whole layer, and the other parts lose accuracy.",
};

// DeepGEMM packs such scales into the exponents alone: what is no power of two is rounded to one.
pub(crate) static NO_POWER_OF_TWO: LintRule = LintRule {
    code: "Q406",
    name: "scale-no-power-of-two",
    severity: Error,
    strict: Error,
    title: "config.json says that scales are powers of two, and some are not.",
    why: "Servers keep the exponents alone and multiply by other scales than the file holds.",
};

// `weight_scale_inv` is the factor in spite of its name, and some tools write what it says. No trained weight is as
// large as 448.
pub(crate) static SCALE_TOO_LARGE: LintRule = LintRule {
    code: "Q407",
    name: "scale-too-large",
    severity: Warning,
    strict: Warning,
    title: "The scales of most FP8 layers are above 1, so that their largest weights are above 448.",
    why: "They look like the reciprocals of scales, which every server would multiply by.",
};

/// The verdict on the scales of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleVerdict {
    /// Every scale is positive and finite.
    Sound,
    /// Scales are positive and finite but for those that the manifest says are not.
    NonFiniteKept,
    Bad,
}

/// Checks that every scale is positive and finite, or as the manifest says; and that zero points are values of codes.
pub(crate) fn qparams(
    weight: &QuantizedWeight<'_>,
    scan: &QparamsScan,
    recorded: &RecordedActions,
    findings: &mut Vec<Finding>,
) -> ScaleVerdict {
    if let (Some(scale), Some(tensor)) = (scan.bad_activations, weight.activations) {
        let message = format!("{} is {scale:e}, and a scale is positive and finite", shown(&tensor.name));
        findings.push(Finding::new(&SCALE_VALUE, message).tensor(&tensor.name));
    }
    if scan.bad_global {
        let tensor = weight.global_scale().unwrap_or(weight.scale);
        let message =
            format!("{} is {:e}, and a global scale is positive and finite", shown(&tensor.name), weight.global);
        findings.push(Finding::new(&SCALE_VALUE, message).tensor(&tensor.name));
        return ScaleVerdict::Bad;
    }
    if let Some((first, zero)) = scan.zero_points.first {
        let book = weight.form.storage.codebook();
        let message = format!(
            "{}: {} of its zero points {} outside of {} to {}, the first at position {first}: {zero}",
            shown(&weight.codes.name),
            scan.zero_points.number,
            agree(scan.zero_points.number, "lies", "lie"),
            book.least,
            book.largest
        );
        findings.push(Finding::new(&ZERO_POINT, message).tensor(&weight.codes.name));
    }
    if let Some((first, scale)) = scan.no_powers_of_two.first {
        let (number, name) = (scan.no_powers_of_two.number, shown(&weight.scale.name));
        let message = format!(
            "{name} holds {} that {} no power of two, the first at position {first}: {scale:e}",
            count(number, "value"),
            agree(number, "is", "are")
        );
        findings.push(Finding::new(&NO_POWER_OF_TWO, message).tensor(&weight.scale.name));
    }
    let number = scan.scales.number;
    let Some((first, scale)) = scan.scales.first else { return ScaleVerdict::Sound };
    // The manifest is believed for exactly as many scales as it names: one more is damage.
    if !scan.has_impossible && recorded.has_non_finite(&weight.name(), number) {
        let name = shown(&weight.codes.name);
        let (scales, are) = (count(number, "scale"), agree(number, "is", "are"));
        let message = format!("{scales} of {name} {are} NaN or infinite, as the manifest says");
        findings.push(Finding::new(&NON_FINITE_KEPT, message).tensor(&weight.scale.name));
        return ScaleVerdict::NonFiniteKept;
    }
    let message = format!(
        "{} holds {} that {} not positive and finite, the first at position {first}: {scale:e}",
        shown(&weight.scale.name),
        count(number, "value"),
        agree(number, "is", "are")
    );
    findings.push(Finding::new(&SCALE_VALUE, message).tensor(&weight.scale.name));
    ScaleVerdict::Bad
}

/// Reports FP8 layers most of which have no scale below 1; `least` is the least scale of each weight.
pub(crate) fn too_large<'a>(
    weights: impl Iterator<Item = (&'a QuantizedWeight<'a>, f32)>,
    findings: &mut Vec<Finding>,
) {
    let fp8: Vec<_> = weights.filter(|(weight, _)| weight.codes.dtype == Dtype::F8_E4M3).collect();
    let large: Vec<_> = fp8.iter().filter(|(_, least)| least.is_finite() && *least > 1.0).collect();
    if let Some((first, least)) = large.first()
        && large.len() * 2 > fp8.len()
    {
        let layers = count(large.len(), "layer");
        let message = format!("no scale of {layers} is 1 or less, such as {}: {least:e}", shown(&first.scale.name));
        let finding = Finding::new(&SCALE_TOO_LARGE, message).tensor(&first.scale.name);
        findings.push(finding.help("if they are reciprocals, write 1 / scale, whatever the tensor is called"));
    }
}

/// Reports codes without a value, but for those that non-finite values of the source explain.
pub(crate) fn codes(
    weight: &QuantizedWeight<'_>,
    found: &Comparison,
    scales: ScaleVerdict,
    findings: &mut Vec<Finding>,
) {
    let name = &weight.codes.name;
    let is_kept = scales == ScaleVerdict::NonFiniteKept;
    let Occurrences { number, first } = if is_kept { found.unexplained_nans } else { found.nans };
    if number > 0 {
        let what = if weight.codes.dtype == Dtype::F8_E4M3 {
            "NaN".to_owned()
        } else {
            let codes = agree(number as usize, "code that is", "codes that are");
            format!("{codes} not {}", weight.form.storage.name())
        };
        let message = format!("{} holds {number} {what}, the first at {first:?}", shown(name));
        findings.push(Finding::new(&WEIGHT_NAN, message).tensor(name));
    }
}

/// Reports non-finite scales, let through according to the manifest, whose groups are finite in the source.
pub(crate) fn unexplained(weight: &QuantizedWeight<'_>, found: &Comparison, findings: &mut Vec<Finding>) {
    let unexplained = found.verdict.unexplained;
    if unexplained > 0 {
        let name = shown(&weight.codes.name);
        let (scales, are) = (count(unexplained as usize, "scale"), agree(unexplained as usize, "is", "are"));
        let message = format!("{scales} of {name} {are} NaN or infinite where the source is finite");
        findings.push(Finding::new(&SCALE_VALUE, message).tensor(&weight.scale.name));
    }
}

/// Reports scales of stacks of experts that are NaN.
pub(crate) fn stacks(
    stacks: &[BlockStack<'_>],
    shards: &Shards,
    findings: &mut Vec<Finding>,
) -> Result<(), SourceError> {
    for stack in stacks {
        let Some((number, first)) = bad_scales(stack, shards)? else { continue };
        let message = format!(
            "{} holds {} that {} NaN, the first at position {first}",
            shown(&stack.scales.name),
            count(number, "value"),
            agree(number, "is", "are")
        );
        findings.push(Finding::new(&SCALE_VALUE, message).tensor(&stack.scales.name));
    }
    Ok(())
}

/// Reports fused layers whose parts do not share a global scale, of weights or of activations.
pub(crate) fn global_scales(model: &Model, weights: &[QuantizedWeight<'_>], findings: &mut Vec<Finding>) {
    for parts in fused_layers(model, weights) {
        findings.extend(apart("global scales", &parts, |part| Some(part.global)));
        // Those of compressed-tensors alone: ModelOpt stores another for each part, in published checkpoints too.
        findings.extend(apart("scales of activations", &parts, |part| {
            part.input_scale.filter(|_| part.activations.is_some_and(|it| it.parameter() == "input_global_scale"))
        }));
    }
}

/// Reports the first part of a fused layer whose scale of this kind is not that of the first one.
fn apart(
    kind: &str,
    parts: &[&QuantizedWeight<'_>],
    scale: impl Fn(&QuantizedWeight<'_>) -> Option<f32>,
) -> Option<Finding> {
    let scaled: Vec<_> = parts.iter().filter_map(|part| Some((part, scale(part)?))).collect();
    let &(first, of_first) = scaled.first()?;
    let (other, of_other) = scaled.iter().find(|(_, scale)| *scale != of_first)?;
    let message = format!(
        "{} and {} are parts of one fused layer, and their {kind} are {of_first:e} and {of_other:e}",
        shown(first.codes.module()),
        shown(other.codes.module()),
    );
    Some(Finding::new(&GLOBAL_SCALES, message).tensor(&first.codes.name))
}
