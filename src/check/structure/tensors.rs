//! Every module against what config.json declares of it.

use safetensors::Dtype;

use super::{View, beside, is_quantizable};
use crate::coded::Coded;
use crate::declared::{Form, Inputs, Method};
use crate::finding::Finding;
use crate::grid::Grid;
use crate::modules::{Module, Stored};
use crate::packing::Packing;
use crate::rules;
use crate::storage::Beside;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::{self, LayerKind};
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// Checks all modules; those that can be decoded are returned.
pub(super) fn check<'a>(view: &View<'_, 'a>, findings: &mut Vec<Finding>) -> Result<Vec<Coded<'a>>, SourceError> {
    let mut coded = Vec::new();
    for module in view.modules {
        let Some(weight) = module.stored() else {
            orphans(module, findings);
            continue;
        };
        match Stored::of(weight) {
            Stored::Coded => coded.extend(few_bits(view, module, weight, findings)?),
            Stored::Plain => orphans(module, findings),
            Stored::Other if is_quantizable(module.kind) => {
                let message =
                    format!("{} is {}, which config.json does not declare", shown(&weight.name), weight.dtype);
                findings.push(Finding::new(&rules::WEIGHT_DTYPE, message).tensor(&weight.name));
            }
            Stored::Other => {}
        }
    }
    vision(&coded, findings);
    Ok(coded)
}

/// Quantization tensors beside a weight that is not quantized, or beside none.
fn orphans(module: &Module<'_>, findings: &mut Vec<Finding>) {
    for tensor in &module.companions {
        let message = match module.weight {
            Some(weight) => format!("{} belongs to a weight that is {}", shown(&tensor.name), weight.dtype),
            None => format!("{} belongs to no weight", shown(&tensor.name)),
        };
        findings.push(Finding::new(&rules::ORPHAN_SCALE, message).tensor(&tensor.name));
    }
}

fn few_bits<'a>(
    view: &View<'_, 'a>,
    module: &Module<'a>,
    weight: &'a Tensor,
    findings: &mut Vec<Finding>,
) -> Result<Option<Coded<'a>>, SourceError> {
    let word = word(weight);
    if module.kind == LayerKind::Experts {
        let message = format!("{}: a stack of {word} experts is not checked", shown(&weight.name));
        findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).tensor(&weight.name));
        return Ok(None);
    }
    let Some(stored) = matrix(weight) else {
        let message = format!("{} is {word} and has {} dimensions", shown(&weight.name), weight.shape.len());
        findings.push(Finding::new(&rules::WEIGHT_RANK, message).tensor(&weight.name));
        return Ok(None);
    };
    let Some(form) = view.declared.targeted(module.name, module.kind) else {
        let why = match module.kind {
            LayerKind::Linear | LayerKind::Router | LayerKind::Experts => "no config group targets it".to_owned(),
            LayerKind::LmHead if view.declared.method == Method::CompressedTensors => {
                "`Linear` does not reach a head: only `re:.*lm_head` does".to_owned()
            }
            kind => format!("no server reads a quantized {kind}"),
        };
        let message = format!("{} is {word}, and {why}", shown(module.name));
        findings.push(Finding::new(&rules::UNTARGETED, message).tensor(&weight.name));
        return Ok(None);
    };
    head_is_tied(view, module, weight, findings);
    let codes = form.storage().codes();
    if (weight.parameter(), weight.dtype) != (codes.suffix, codes.dtype) {
        let message = format!(
            "{} is {}, and config.json declares {}, which is a `{}` of {}",
            shown(&weight.name),
            weight.dtype,
            form.storage().name(),
            codes.suffix,
            codes.dtype
        );
        findings.push(Finding::new(&rules::WEIGHT_DTYPE, message).tensor(&weight.name));
        return Ok(None);
    }
    let Some(matrix) = unpacked(view, module, form, stored, findings)? else { return Ok(None) };
    ragged(module, form.grid, matrix, findings);
    let scale = find_scale(view, module, weight, form, findings);
    let beside = beside::find(module, weight, form, findings);
    let (Some(scale), Some(beside)) = (scale, beside) else { return Ok(None) };
    let mut sound = true;
    if !form.grid.takes(&scale.shape, matrix) {
        findings.push(shape_finding(scale, form, matrix));
        // A flat one can still be read.
        let sides = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
        let is_flat = form.grid == Grid::Channel || form.grid == Grid::Tensor;
        sound = is_flat && form.grid.scales(matrix).is_some_and(|shape| sides(&shape) == sides(&scale.shape));
    }
    let dtypes = form.storage().scale_dtypes();
    if !dtypes.contains(&scale.dtype) {
        let expected = match dtypes {
            [only] => only.to_string(),
            _ => "F32, BF16 or F16".to_owned(),
        };
        let message = format!("{} is {}, not {expected}", shown(&scale.name), scale.dtype);
        findings.push(Finding::new(&rules::SCALE_DTYPE, message).tensor(&scale.name));
        sound = false;
    }
    sound &= beside::fit(&beside, form, matrix, findings);
    if !sound {
        return Ok(None);
    }
    let global = match beside.iter().find(|(beside, _)| *beside == Beside::GlobalScale) {
        Some((_, tensor)) => view.shards.number(tensor)?,
        None => 1.0,
    };
    Ok(Some(Coded { codes: weight, scale, beside, matrix, global, form }))
}

/// What few bits are called where nothing says what they are.
fn word(weight: &Tensor) -> &'static str {
    if weight.dtype == Dtype::F8_E4M3 { "FP8" } else { "quantized" }
}

fn matrix(tensor: &Tensor) -> Option<[usize; 2]> {
    <[usize; 2]>::try_from(tensor.shape.as_slice()).ok()
}

/// The shape of a weight whose codes have this one.
fn unpacked(
    view: &View<'_, '_>,
    module: &Module<'_>,
    form: Form,
    [rows, columns]: [usize; 2],
    findings: &mut Vec<Finding>,
) -> Result<Option<[usize; 2]>, SourceError> {
    match form.storage().codes().packing {
        Packing::Bytes => Ok(Some([rows, columns])),
        // A matrix without rows may have any number of columns.
        Packing::Nibbles => Ok(Some([rows, columns.saturating_mul(2)])),
        Packing::Words(_) => beside::declared_shape(view, module, form, [rows, columns], findings),
    }
}

/// The one scale of a weight; what else stands beside it is left over.
fn find_scale<'a>(
    view: &View<'_, '_>,
    module: &Module<'a>,
    weight: &Tensor,
    form: Form,
    findings: &mut Vec<Finding>,
) -> Option<&'a Tensor> {
    let expected = form.scale_name(view.declared.method);
    let scale = module.companion(expected);
    let beside = form.storage().beside();
    let mut misnamed = false;
    for tensor in module.companions.iter().filter(|tensor| tensor.parameter() != expected && tensor.name != weight.name)
    {
        match tensor.parameter() {
            "input_scale" if form.inputs == Inputs::Static => {}
            "input_global_scale" if form.inputs == Inputs::Local => {}
            parameter if beside.iter().any(|beside| beside.suffix() == parameter) => {}
            "weight_scale" | "weight_scale_inv" if scale.is_none() => {
                let message = format!("{} must be called `{expected}` here", shown(&tensor.name));
                findings.push(Finding::new(&rules::SCALE_NAME, message).tensor(&tensor.name));
                misnamed = true;
            }
            _ => {
                let message = format!("{} is no tensor of this format", shown(&tensor.name));
                findings.push(Finding::new(&rules::LEFTOVER, message).tensor(&tensor.name));
            }
        }
    }
    if scale.is_none() && !misnamed {
        let message = format!("{} is {} and has no `{expected}`", shown(&weight.name), form.storage().name());
        findings.push(Finding::new(&rules::NO_SCALE, message).tensor(&weight.name));
    }
    scale
}

fn shape_finding(scale: &Tensor, form: Form, matrix: [usize; 2]) -> Finding {
    let grid = form.grid;
    let message = format!(
        "{} has shape {:?}; a weight of {matrix:?} with {} takes {}",
        shown(&scale.name),
        scale.shape,
        grid.describe(),
        grid.expected(matrix)
    );
    let reversed: Vec<usize> = scale.shape.iter().rev().copied().collect();
    let finding = Finding::new(&rules::SCALE_SHAPE, message).tensor(&scale.name);
    if grid == Grid::Channel && scale.shape == [matrix[0]] {
        finding.help("it is flat: vLLM's loader wants two dimensions")
    } else if grid.takes(&reversed, matrix) {
        finding.help("it is transposed")
    } else {
        finding
    }
}

fn head_is_tied(view: &View<'_, '_>, module: &Module<'_>, weight: &Tensor, findings: &mut Vec<Finding>) {
    if module.kind == LayerKind::LmHead && view.checkpoint.config.tie_word_embeddings() == Some(true) {
        let message = format!("{} is {}, and config.json ties it to the embedding", shown(&weight.name), word(weight));
        findings.push(Finding::new(&rules::UNTARGETED, message).tensor(&weight.name));
    }
}

fn ragged(module: &Module<'_>, grid: Grid, [rows, columns]: [usize; 2], findings: &mut Vec<Finding>) {
    let Grid::Block([height, width]) = grid else { return };
    // A layer of fewer rows than a block has one scale, which every server reads alike.
    if !columns.is_multiple_of(width) || rows > height && !rows.is_multiple_of(height) {
        let message = format!("{} has shape [{rows}, {columns}], cut into {}", shown(module.name), grid.describe());
        findings.push(Finding::new(&rules::RAGGED_BLOCK, message).tensor(module.name));
    }
}

/// One finding for the whole tower.
fn vision(coded: &[Coded<'_>], findings: &mut Vec<Finding>) {
    let mut vision = coded.iter().filter(|coded| models::is_vision(coded.codes.module()));
    if let Some(first) = vision.next() {
        let number = super::count(vision.count() + 1, "layer");
        let (word, module) = (word(first.codes), shown(first.codes.module()));
        let message = format!("{number} of the vision tower are {word}, such as {module}");
        findings.push(Finding::new(&rules::VISION_QUANTIZED, message).tensor(&first.codes.name));
    }
}
