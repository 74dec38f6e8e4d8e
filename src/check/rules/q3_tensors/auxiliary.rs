//! Q313 to Q315: shapes, zero points and global scales beside codes and scales.

use crate::decode::{AuxRole, AuxTensor, Granularity, Module, WeightForm};
use crate::report::Severity::Error;
use crate::report::{Finding, LintRule};
use crate::rules::Subject;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

pub(crate) static NO_PART: LintRule = LintRule {
    code: "Q313",
    name: "part-missing",
    severity: Error,
    strict: Error,
    title: "A quantized weight lacks an auxiliary tensor: its shape, zero points, global scale or activation scale.",
    why: "Servers load something uninitialised in its place, or refuse the weight.",
};

// The layouts are compressed-tensors' own: global scales are F32 [1], zero points packed as the codes are.
pub(crate) static PART_FORM: LintRule = LintRule {
    code: "Q314",
    name: "part-dtype-or-shape",
    severity: Error,
    strict: Error,
    title: "An auxiliary tensor of a weight has a dtype or shape that does not follow from config.json.",
    why: "Servers refuse it, or apply it to weights that it does not belong to.",
};

// Columns that do not fill the last word can be told from nothing else.
pub(crate) static WEIGHT_SHAPE: LintRule = LintRule {
    code: "Q315",
    name: "weight-shape",
    severity: Error,
    strict: Error,
    title: "`weight_shape` is not the shape of the packed integers.",
    why: "Servers that go by it unpack another matrix.",
};

/// Returns every auxiliary tensor that the form has; `None`, with a finding, where one is missing.
pub(super) fn find<'a>(
    module: &Module<'a>,
    codes: &Tensor,
    form: WeightForm,
    findings: &mut Vec<Finding>,
) -> Option<Vec<(AuxTensor, &'a Tensor)>> {
    let expected = form.storage.auxiliary();
    let (mut found, mut sound) = (Vec::new(), true);
    for &auxiliary in &expected {
        let tensor = module.auxiliary(auxiliary.suffix);
        if tensor.is_none() && !auxiliary.is_optional() {
            sound = false;
            let message =
                format!("{} is {} and has no `{}`", shown(&codes.name), form.storage.name(), auxiliary.suffix);
            findings.push(Finding::new(&NO_PART, message).tensor(&codes.name));
        }
        found.extend(tensor.map(|tensor| (auxiliary, tensor)));
    }
    sound.then_some(found)
}

/// Checks that each tensor has the dtype and shape that go with a weight of this shape.
pub(super) fn fit(
    found: &[(AuxTensor, &Tensor)],
    granularity: Granularity,
    weight: [usize; 2],
    findings: &mut Vec<Finding>,
) -> bool {
    let mut sound = true;
    for (auxiliary, tensor) in found {
        // Groups that do not fit the weight are reported once, of the scales.
        let Some(shape) = auxiliary.shape(weight, granularity) else { continue };
        let has_shape = tensor.shape == shape || auxiliary.is_scalar(&tensor.shape);
        if tensor.dtype != auxiliary.dtype || !has_shape {
            let message = format!(
                "{} is {} {:?}; beside a weight of {weight:?} with {} it is {} {shape:?}",
                shown(&tensor.name),
                tensor.dtype,
                tensor.shape,
                granularity.describe(),
                auxiliary.dtype
            );
            findings.push(Finding::new(&PART_FORM, message).tensor(&tensor.name));
            sound = false;
        }
    }
    sound
}

/// Returns the shape of a weight whose codes have the shape `stored`; `None`, with a finding, where it cannot be
/// told.
pub(super) fn weight_shape(
    subject: &Subject<'_, '_>,
    module: &Module<'_>,
    form: WeightForm,
    stored: [usize; 2],
    findings: &mut Vec<Finding>,
) -> Result<Option<[usize; 2]>, SourceError> {
    let codes = form.storage.codes();
    let [rows, packed] = stored;
    if let Some(transposed) = form.storage.transposed() {
        let [rows, columns] = transposed.shape(stored);
        // The last word of a row may be filled in part, and then the groups of columns alone say by how much.
        let said = module.auxiliary("g_idx").and_then(|tensor| tensor.shape.first().copied());
        let said = said.filter(|&said| said < columns && transposed.stored_rows(said) == stored[0]);
        return Ok(Some([rows, said.unwrap_or(columns)]));
    }
    // Nobody's word is needed where the codes tell.
    if let Some(columns) = codes.packing.columns(packed) {
        return Ok(Some([rows, columns]));
    }
    let expected = form.storage.auxiliary().into_iter().find(|auxiliary| auxiliary.role == AuxRole::WeightShape);
    let found = expected.and_then(|expected| Some((expected, module.auxiliary(expected.suffix)?)));
    let Some((expected, tensor)) = found else {
        let suffix = expected.map_or("weight_shape", |expected| expected.suffix);
        let message = format!("{} is packed and has no `{suffix}`", shown(module.name));
        findings.push(Finding::new(&NO_PART, message).tensor(module.name));
        return Ok(None);
    };
    if (tensor.dtype, &*tensor.shape) != (expected.dtype, &[2]) {
        let (name, dtype, shape) = (shown(&tensor.name), tensor.dtype, &tensor.shape);
        let message = format!("{name} is {dtype} {shape:?}, not {} [2]", expected.dtype);
        findings.push(Finding::new(&PART_FORM, message).tensor(&tensor.name));
        return Ok(None);
    }
    let said = subject.shards.integers(tensor)?;
    let sides: Vec<usize> = said.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
    let width = codes.dtype.bitsize() / 8;
    match sides[..] {
        // Saturating: a matrix without rows may declare any number of packed columns.
        [said_rows, columns] if said_rows == rows && codes.packing.bytes(columns) == packed.saturating_mul(width) => {
            Ok(Some([rows, columns]))
        }
        _ => {
            let (name, storage) = (shown(&tensor.name), form.storage.name());
            let message = format!("{name} is {said:?}, and {storage} of that shape does not fill {stored:?}");
            findings.push(Finding::new(&WEIGHT_SHAPE, message).tensor(&tensor.name));
            Ok(None)
        }
    }
}
