//! Every module against what config.json declares of it.

use safetensors::Dtype;

use super::{Coded, View, is_quantizable};
use crate::check::declared::{Grid, Method};
use crate::check::finding::Finding;
use crate::check::modules::{Module, Stored};
use crate::check::rules;
use crate::checkpoint::Tensor;
use crate::layer::{self, LayerKind};
use crate::shown::shown;

/// Checks all modules; those that can be decoded are returned.
pub(super) fn check<'a>(view: &View<'_, 'a>, findings: &mut Vec<Finding>) -> Vec<Coded<'a>> {
    let mut coded = Vec::new();
    for module in view.modules {
        let Some(weight) = module.weight else {
            orphans(module, findings);
            continue;
        };
        match Stored::of(weight) {
            Stored::Float8 => coded.extend(float8(view, module, weight, findings)),
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
    coded
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

fn float8<'a>(
    view: &View<'_, 'a>,
    module: &Module<'a>,
    weight: &'a Tensor,
    findings: &mut Vec<Finding>,
) -> Option<Coded<'a>> {
    if module.kind == LayerKind::Experts {
        let message = format!("{}: a stack of FP8 experts is not checked", shown(&weight.name));
        findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).tensor(&weight.name));
        return None;
    }
    let Some(matrix) = module.matrix() else {
        let message = format!("{} is FP8 and has {} dimensions", shown(&weight.name), weight.shape.len());
        findings.push(Finding::new(&rules::WEIGHT_RANK, message).tensor(&weight.name));
        return None;
    };
    let Some(grid) = view.declared.targeted(module.name, module.kind) else {
        let why = match module.kind {
            LayerKind::Linear | LayerKind::Router | LayerKind::Experts => "no config group targets it".to_owned(),
            LayerKind::LmHead if view.declared.method == Method::CompressedTensors => {
                "`Linear` does not reach a head: only `re:.*lm_head` does".to_owned()
            }
            kind => format!("no server reads a quantized {kind}"),
        };
        let message = format!("{} is FP8, and {why}", shown(module.name));
        findings.push(Finding::new(&rules::UNTARGETED, message).tensor(&weight.name));
        return None;
    };
    head_is_tied(view, module, weight, findings);
    ragged(module, grid, matrix, findings);
    let scale = find_scale(view, module, weight, grid, findings)?;
    let mut sound = true;
    if !grid.takes(&scale.shape, matrix) {
        findings.push(shape_finding(scale, grid, matrix));
        sound = false;
    }
    if !matches!(scale.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
        let message = format!("{} is {}, not F32, BF16 or F16", shown(&scale.name), scale.dtype);
        findings.push(Finding::new(&rules::SCALE_DTYPE, message).tensor(&scale.name));
        sound = false;
    }
    sound.then_some(Coded { weight, scale, grid })
}

/// The one scale of a weight; what else stands beside it is left over.
fn find_scale<'a>(
    view: &View<'_, '_>,
    module: &Module<'a>,
    weight: &Tensor,
    grid: Grid,
    findings: &mut Vec<Finding>,
) -> Option<&'a Tensor> {
    let expected = grid.scale_name(view.declared.method);
    let scale = module.companions.iter().copied().find(|tensor| tensor.parameter() == expected);
    let mut misnamed = false;
    for tensor in module.companions.iter().filter(|tensor| tensor.parameter() != expected) {
        match tensor.parameter() {
            "input_scale" if view.declared.static_activations => {}
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
        let message = format!("{} is FP8 and has no `{expected}`", shown(&weight.name));
        findings.push(Finding::new(&rules::NO_SCALE, message).tensor(&weight.name));
    }
    scale
}

fn shape_finding(scale: &Tensor, grid: Grid, matrix: [usize; 2]) -> Finding {
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
        let message = format!("{} is FP8, and config.json ties it to the embedding", shown(&weight.name));
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
    let mut vision = coded.iter().filter(|coded| layer::is_vision(coded.weight.module()));
    if let Some(first) = vision.next() {
        let number = super::count(vision.count() + 1, "layer");
        let message = format!("{number} of the vision tower are FP8, such as {}", shown(first.weight.module()));
        findings.push(Finding::new(&rules::VISION_QUANTIZED, message).tensor(&first.weight.name));
    }
}
