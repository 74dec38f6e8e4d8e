//! Q301 to Q315: names, shapes and dtypes of tensors against what config.json declares of each module.

pub(crate) mod auxiliary;
pub(crate) mod experts;
pub(crate) mod scales;
pub(crate) mod siblings;
pub(crate) mod stacks;
pub(crate) mod transposed;
pub(crate) mod weights;

use super::q1_config::UNKNOWN_METHOD;
use super::q2_targets;
use super::subject::{Subject, is_quantizable, word};
use crate::decode::{Module, QuantizedWeight, WeightState};
use crate::report::Finding;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// Checks all modules, and returns the weights that can be decoded.
///
/// # Errors
/// A tensor that says how others are read cannot be read.
pub(crate) fn check<'a>(
    subject: &Subject<'_, 'a>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<QuantizedWeight<'a>>, SourceError> {
    let mut quantized = Vec::new();
    for module in subject.modules {
        let Some(weight) = module.stored() else {
            scales::orphans(module, findings);
            continue;
        };
        match WeightState::of(weight) {
            WeightState::Quantized => quantized.extend(self::weight(subject, module, weight, findings)?),
            WeightState::Unquantized => scales::orphans(module, findings),
            // Tensors of other kinds, such as position tables, may be integers and are nobody's fault.
            WeightState::Unknown if is_quantizable(module.kind) => weights::undeclared_dtype(weight, findings),
            WeightState::Unknown => {}
        }
    }
    q2_targets::vision(&quantized, findings);
    Ok(quantized)
}

/// Checks the tensors of one quantized weight; `None` where it cannot be decoded.
fn weight<'a>(
    subject: &Subject<'_, 'a>,
    module: &Module<'a>,
    codes: &'a Tensor,
    findings: &mut Vec<Finding>,
) -> Result<Option<QuantizedWeight<'a>>, SourceError> {
    let word = word(codes);
    // vLLM 0.33 reads such stacks transposed, together with their scales; SGLang has no place for these scales.
    if module.kind == LayerKind::Experts {
        let message = format!("{}: a stack of {word} experts is not checked", shown(&codes.name));
        findings.push(Finding::new(&UNKNOWN_METHOD, message).tensor(&codes.name));
        return Ok(None);
    }
    let Some(stored) = weights::matrix(codes, word, findings) else { return Ok(None) };
    let Some(declared) = q2_targets::targeted(subject, module, codes, word, findings) else { return Ok(None) };
    q2_targets::tied_head(subject, module, codes, word, findings);
    let declared = subject.declared.of_codes(declared, codes);
    let form = declared.weight;
    if !weights::is_declared(codes, form, findings) {
        return Ok(None);
    }
    let Some(shape) = auxiliary::weight_shape(subject, module, form, stored, findings)? else { return Ok(None) };
    weights::ragged(module, form.granularity, shape, findings);
    let scale = scales::find(module, codes, declared, findings);
    let auxiliary = auxiliary::find(module, codes, form, findings);
    let activations = scales::of_activations(module, codes, declared, findings);
    let (Some(scale), Some(auxiliary)) = (scale, auxiliary) else { return Ok(None) };
    // All of these are asked, so that one fault does not hide the next.
    let mut sound = match form.storage.transposed() {
        Some(_) => transposed::scales(scale, form.granularity, shape, findings),
        None => scales::shape(scale, form.granularity, shape, findings),
    };
    sound &= scales::dtype(scale, form, findings);
    sound &= auxiliary::fit(&auxiliary, form.granularity, shape, findings);
    if !sound {
        return Ok(None);
    }
    let mut weight =
        QuantizedWeight { codes, scale, auxiliary, activations, input_scale: None, shape, global: 1.0, form };
    weight.input_scale = weight.read_input_scale(subject.shards)?;
    if let Some(tensor) = weight.global_scale() {
        weight.global = subject.shards.number(tensor)?;
    }
    Ok(transposed::groups(&weight, subject.shards, findings)?.then_some(weight))
}
