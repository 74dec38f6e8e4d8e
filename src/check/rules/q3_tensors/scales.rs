//! Q301 to Q305 and Q307: the scale of a weight, and quantization tensors that belong to nothing.

use safetensors::Dtype;

use super::auxiliary::NO_PART;
use crate::config::{DeclaredForm, StoredActivations};
use crate::decode::{Granularity, Module, SCALE_FLOATS, WeightForm};
use crate::report::Severity::Error;
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::text::shown;

// Seen in vLLM 0.26 and 0.33: the scale stays at -3.4e38, and the model answers with garbage. One part of q, k and v
// is enough.
pub(crate) static NO_SCALE: LintRule = LintRule {
    code: "Q301",
    name: "no-scale",
    severity: Error,
    strict: Error,
    title: "A quantized weight has no scale.",
    why: "vLLM loads it with an uninitialised scale and reports no error.",
};

// With the layer unquantized, vLLM refuses the name of the scale.
pub(crate) static ORPHAN_SCALE: LintRule = LintRule {
    code: "Q302",
    name: "scale-without-weight",
    severity: Error,
    strict: Error,
    title: "A scale belongs to no quantized weight.",
    why: "The weight is missing or was never quantized; vLLM has no parameter for such a scale.",
};

// Seen: `weight_scale` in the block form raises `There is no module or parameter named '...weight_scale'`.
pub(crate) static SCALE_NAME: LintRule = LintRule {
    code: "Q303",
    name: "scale-name",
    severity: Error,
    strict: Error,
    title: "A scale has the name that another format uses.",
    why: "`weight_scale_inv` belongs to `fp8` with blocks, `weight_scale` to everything else; vLLM refuses the other.",
};

// Seen: a flat channel scale fails an assertion of vLLM's loader. transformers divides rows by rows of scales.
pub(crate) static SCALE_SHAPE: LintRule = LintRule {
    code: "Q304",
    name: "scale-shape",
    severity: Error,
    strict: Error,
    title: "The shape of a scale does not follow from its weight and config.json.",
    why: "Servers refuse it, or apply scales to weights that they do not belong to.",
};

// BF16, F16 and F32 scales all load: vLLM's parameter is F32, and `copy_` casts.
pub(crate) static SCALE_DTYPE: LintRule = LintRule {
    code: "Q305",
    name: "scale-dtype",
    severity: Error,
    strict: Error,
    title: "A scale has a dtype that its format does not have.",
    why: "Servers refuse it, or take its bytes for other values.",
};

// vLLM has no parameter of that name, such as an `input_scale` under dynamic activations.
pub(crate) static LEFTOVER: LintRule = LintRule {
    code: "Q307",
    name: "leftover-tensor",
    severity: Error,
    strict: Error,
    title: "A module has a quantization tensor that does not belong to its format.",
    why: "vLLM refuses to load it.",
};

/// Reports quantization tensors beside a weight that is not quantized, or beside no weight.
pub(super) fn orphans(module: &Module<'_>, findings: &mut Vec<Finding>) {
    for tensor in &module.auxiliary {
        let message = match module.weight {
            Some(weight) => format!("{} belongs to a weight that is {}", shown(&tensor.name), weight.dtype),
            None => format!("{} belongs to no weight", shown(&tensor.name)),
        };
        findings.push(Finding::new(&ORPHAN_SCALE, message).tensor(&tensor.name));
    }
}

/// Returns the scale of a weight, and reports what else stands beside the weight and does not belong there.
pub(super) fn find<'a>(
    module: &Module<'a>,
    codes: &Tensor,
    declared: DeclaredForm,
    findings: &mut Vec<Finding>,
) -> Option<&'a Tensor> {
    let storage = declared.weight.storage;
    let expected = declared.scales[0];
    let scale = declared.scales.iter().find_map(|suffix| module.auxiliary(suffix));
    let auxiliary = storage.auxiliary();
    let is_other =
        |tensor: &&&Tensor| Some(&tensor.name) != scale.map(|scale| &scale.name) && tensor.name != codes.name;
    let mut misnamed = false;
    for tensor in module.auxiliary.iter().filter(is_other) {
        match tensor.parameter() {
            parameter if names_of_activations(declared.activations).contains(&parameter) => {}
            parameter if auxiliary.iter().any(|tensor| tensor.suffix == parameter) => {}
            // One finding for one mistake: a scale by the other name is not missing as well.
            "weight_scale" | "weight_scale_inv" | "scale" if scale.is_none() => {
                let message = format!("{} must be called `{expected}` here", shown(&tensor.name));
                findings.push(Finding::new(&SCALE_NAME, message).tensor(&tensor.name));
                misnamed = true;
            }
            _ => {
                let message = format!("{} does not belong to the format {}", shown(&tensor.name), storage.name());
                findings.push(Finding::new(&LEFTOVER, message).tensor(&tensor.name));
            }
        }
    }
    if scale.is_none() && !misnamed {
        let message = format!("{} is {} and has no `{expected}`", shown(&codes.name), storage.name());
        findings.push(Finding::new(&NO_SCALE, message).tensor(&codes.name));
    }
    scale
}

/// Returns the names that the scale of a module's activations may have.
fn names_of_activations(activations: StoredActivations) -> &'static [&'static str] {
    match activations {
        StoredActivations::Nothing => &[],
        // Mistral's name, which is transformers' too.
        StoredActivations::Scale => &["input_scale", "activation_scale"],
        StoredActivations::MayScale => &["input_scale"],
        StoredActivations::GlobalScale => &["input_global_scale"],
    }
}

/// Returns the scale of a module's static activations, and reports one that is missing or no single float.
pub(super) fn of_activations<'a>(
    module: &Module<'a>,
    codes: &Tensor,
    declared: DeclaredForm,
    findings: &mut Vec<Finding>,
) -> Option<&'a Tensor> {
    let names = names_of_activations(declared.activations);
    let found = names.iter().find_map(|name| module.auxiliary(name));
    if let Some(tensor) = found.filter(|tensor| tensor.parameters() != 1) {
        let message = format!("{} has shape {:?}, and is one number for the layer", shown(&tensor.name), tensor.shape);
        findings.push(Finding::new(&SCALE_SHAPE, message).tensor(&tensor.name));
    }
    if let Some(tensor) = found.filter(|tensor| !SCALE_FLOATS.contains(&tensor.dtype)) {
        let message = format!("{} is {}, not {}", shown(&tensor.name), tensor.dtype, alternatives(SCALE_FLOATS));
        findings.push(Finding::new(&SCALE_DTYPE, message).tensor(&tensor.name));
    }
    let is_due = matches!(declared.activations, StoredActivations::Scale | StoredActivations::GlobalScale);
    if found.is_none() && is_due {
        let message = format!("{} has quantized activations and no `{}`", shown(&codes.name), names[0]);
        findings.push(Finding::new(&NO_PART, message).tensor(&codes.name));
    }
    found
}

/// Checks the shape of a scale, and returns whether it can be read.
pub(super) fn shape(scale: &Tensor, granularity: Granularity, weight: [usize; 2], findings: &mut Vec<Finding>) -> bool {
    if granularity.takes(&scale.shape, weight) {
        return true;
    }
    let message = format!(
        "{} has shape {:?}; a weight of {weight:?} with {} takes {}",
        shown(&scale.name),
        scale.shape,
        granularity.describe(),
        granularity.expected(weight)
    );
    let reversed: Vec<usize> = scale.shape.iter().rev().copied().collect();
    let finding = Finding::new(&SCALE_SHAPE, message).tensor(&scale.name);
    findings.push(if granularity == Granularity::Channel && scale.shape == [weight[0]] {
        // An `AssertionError` in `_assert_and_load`, in 0.26 and 0.33.
        finding.help("the scale is flat: vLLM's loader wants two dimensions")
    } else if granularity.takes(&reversed, weight) {
        finding.help("the scale is transposed")
    } else {
        finding
    });
    // Scales with the right elements in another rank can be read all the same, and their values are then checked too.
    let sides = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
    let is_flat = granularity == Granularity::Channel || granularity == Granularity::Tensor;
    is_flat && granularity.scales(weight).is_some_and(|shape| sides(&shape) == sides(&scale.shape))
}

/// Checks the dtype of a scale.
pub(super) fn dtype(scale: &Tensor, form: WeightForm, findings: &mut Vec<Finding>) -> bool {
    let dtypes = form.storage.scale_dtypes();
    if dtypes.contains(&scale.dtype) {
        return true;
    }
    let message = format!("{} is {}, not {}", shown(&scale.name), scale.dtype, alternatives(dtypes));
    findings.push(Finding::new(&SCALE_DTYPE, message).tensor(&scale.name));
    false
}

/// Writes dtypes as `F32, BF16 or F16`.
fn alternatives(dtypes: &[Dtype]) -> String {
    let names: Vec<String> = dtypes.iter().map(Dtype::to_string).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
