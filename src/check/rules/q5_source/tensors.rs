//! Q501, Q503 to Q505: tensors that are lost, added, changed, or stored as something else.

use crate::decode::{QuantizedWeight, WeightState};
use crate::report::Severity::Error;
use crate::report::{Finding, LintRule};
use crate::rules::q1_config::UNKNOWN_METHOD;
use crate::source::Original;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::text::shown;

// For unquantized tensors and FP8 that passes through there is no tolerance: byte for byte, or not at all.
pub(crate) static BYTES_DIFFER: LintRule = LintRule {
    code: "Q501",
    name: "bytes-differ",
    severity: Error,
    strict: Error,
    title: "A tensor that should have the bytes of the source differs from it.",
    why: "Such a tensor is copied or passes through, so that any difference is damage.",
};

// Experts that were split are looked for one by one.
pub(crate) static LOST: LintRule = LintRule {
    code: "Q503",
    name: "tensor-lost",
    severity: Error,
    strict: Error,
    title: "A tensor of the source is missing in the output.",
    why: "The model is not complete.",
};

// A matrix of a stack that is there as well counts too: the weight would be in the result twice.
pub(crate) static EXTRA: LintRule = LintRule {
    code: "Q504",
    name: "tensor-extra",
    severity: Error,
    strict: Error,
    title: "A tensor is not in the source and belongs to no quantized weight.",
    why: "Nothing says what it should hold.",
};

// Also a quantized weight that cannot be decoded, so that no tensor passes without a word.
pub(crate) static CHANGED_FORM: LintRule = LintRule {
    code: "Q505",
    name: "dtype-or-shape-changed",
    severity: Error,
    strict: Error,
    title: "A tensor has another dtype or shape than in the source.",
    why: "It cannot be compared, and servers may build another layer.",
};

/// Returns the finding for a tensor that differs from the source at byte `at`.
pub(crate) fn bytes_differ(tensor: &Tensor, at: u64) -> Finding {
    let message = format!("{} differs from the source, first at byte {at} of {}", shown(&tensor.name), tensor.len);
    Finding::new(&BYTES_DIFFER, message).tensor(&tensor.name)
}

/// Returns the finding for a tensor of the source that the result does not have.
pub(crate) fn lost(name: &str) -> Finding {
    Finding::new(&LOST, format!("{} of the source is missing in the output", shown(name))).tensor(name)
}

/// Returns the finding for a tensor that the source does not have.
pub(crate) fn extra(tensor: &Tensor) -> Finding {
    Finding::new(&EXTRA, format!("{} is not in the source", shown(&tensor.name))).tensor(&tensor.name)
}

/// Returns the finding for a tensor that holds a weight of this shape, where the source's is another or cannot be
/// compared.
pub(crate) fn changed_form(tensor: &Tensor, shape: &[usize], original: &Original<'_>) -> Finding {
    let name = shown(&tensor.name);
    let message = if WeightState::of(tensor) == WeightState::Quantized && shape == original.shape() {
        // Its own fault was reported by another rule; this one says that nothing was proven of it.
        format!("{name} is {} and cannot be decoded", tensor.dtype)
    } else {
        let (dtype, before) = (original.dtype(), original.shape());
        format!("{name} is {} {shape:?}, and in the source {dtype} {before:?}", tensor.dtype)
    };
    Finding::new(&CHANGED_FORM, message).tensor(&tensor.name)
}

/// Returns the finding for a weight whose scales were fitted to data, and are not the source's own.
pub(crate) fn fitted(weight: &QuantizedWeight<'_>) -> Finding {
    let (name, form) = (shown(&weight.codes.name), weight.form.storage.name());
    let message = format!("{name} is {form}, which is proven only where the source has the same codes and scales");
    Finding::new(&UNKNOWN_METHOD, message).tensor(&weight.codes.name)
}

/// Returns the finding for a weight that passed through, according to the manifest, and has another form than the
/// source's.
pub(crate) fn changed_pass_through(weight: &QuantizedWeight<'_>, before: &QuantizedWeight<'_>) -> Finding {
    let message = format!(
        "{} is {}, and the source, from which the manifest says it passed through, has {} of {}",
        shown(&weight.codes.name),
        weight.form.describe(),
        before.form.describe(),
        before.scale.dtype
    );
    Finding::new(&CHANGED_FORM, message).tensor(&weight.codes.name)
}
