//! The tensors beside codes and scales: shapes, zero points, global scales.

use super::View;
use crate::declared::Form;
use crate::finding::Finding;
use crate::modules::Module;
use crate::packing::Packing;
use crate::rules;
use crate::storage::Beside;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// Every tensor that the form has beside codes and scales; `None` where one is missing.
pub(super) fn find<'a>(
    module: &Module<'a>,
    weight: &Tensor,
    form: Form,
    findings: &mut Vec<Finding>,
) -> Option<Vec<(Beside, &'a Tensor)>> {
    let expected = form.storage().beside();
    let mut found = Vec::new();
    for &beside in &expected {
        let tensor = module.companion(beside.suffix());
        if tensor.is_none() {
            let message =
                format!("{} is {} and has no `{}`", shown(&weight.name), form.storage().name(), beside.suffix());
            findings.push(Finding::new(&rules::NO_PART, message).tensor(&weight.name));
        }
        found.extend(tensor.map(|tensor| (beside, tensor)));
    }
    (found.len() == expected.len()).then_some(found)
}

/// Whether each has the dtype and shape that go with a weight of this shape.
pub(super) fn fit(beside: &[(Beside, &Tensor)], form: Form, matrix: [usize; 2], findings: &mut Vec<Finding>) -> bool {
    let mut sound = true;
    for (beside, tensor) in beside {
        // Where groups do not fit the weight, that is said of the scales.
        let Some(shape) = beside.shape(matrix, form.grid) else { continue };
        if (tensor.dtype, &tensor.shape) != (beside.dtype(), &shape) {
            let message = format!(
                "{} is {} {:?}; beside a weight of {matrix:?} with {} it is {} {shape:?}",
                shown(&tensor.name),
                tensor.dtype,
                tensor.shape,
                form.grid.describe(),
                beside.dtype()
            );
            findings.push(Finding::new(&rules::PART_FORM, message).tensor(&tensor.name));
            sound = false;
        }
    }
    sound
}

/// The shape that `weight_shape` says of a weight whose integers fill words of this shape.
pub(super) fn declared_shape(
    view: &View<'_, '_>,
    module: &Module<'_>,
    form: Form,
    packed: [usize; 2],
    findings: &mut Vec<Finding>,
) -> Result<Option<[usize; 2]>, SourceError> {
    let Packing::Words(bits) = form.storage().codes().packing else { return Ok(Some(packed)) };
    let Some(tensor) = module.companion(Beside::WeightShape.suffix()) else {
        let message = format!("{} is packed and has no `weight_shape`", shown(module.name));
        findings.push(Finding::new(&rules::NO_PART, message).tensor(module.name));
        return Ok(None);
    };
    let expected = Beside::WeightShape;
    if (tensor.dtype, &*tensor.shape) != (expected.dtype(), &[2]) {
        let message = format!("{} is {} {:?}, not I64 [2]", shown(&tensor.name), tensor.dtype, tensor.shape);
        findings.push(Finding::new(&rules::PART_FORM, message).tensor(&tensor.name));
        return Ok(None);
    }
    let said = view.shards.integers(tensor)?;
    let sides: Vec<usize> = said.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
    let packing = Packing::Words(bits);
    match sides[..] {
        // A matrix without rows may have any number of words, and of columns.
        [rows, columns] if rows == packed[0] && packing.bytes(columns) == packed[1].saturating_mul(4) => {
            Ok(Some([rows, columns]))
        }
        _ => {
            let message = format!(
                "{} says {said:?}, and {bits}-bit integers of that shape do not fill words of {packed:?}",
                shown(&tensor.name)
            );
            findings.push(Finding::new(&rules::WEIGHT_SHAPE, message).tensor(&tensor.name));
            Ok(None)
        }
    }
}
