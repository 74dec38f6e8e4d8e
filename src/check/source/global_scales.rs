//! Global scales: of one matrix, or of the parts that a server fuses into one layer.

use std::collections::BTreeMap;

use super::{CheckedAs, CheckedTensor, OpenedSource, ScaleRule};
use crate::decode::QuantizedWeight;
use qwen_fp8_checkpoint::models::{Model, split_name};

/// Groups the weights that have a global scale by the layer that a server fuses them into; a weight that is fused
/// with no other is alone.
pub(crate) fn fused_layers<'c, 'a>(
    model: &'c Model,
    weights: &'c [QuantizedWeight<'a>],
) -> Vec<Vec<&'c QuantizedWeight<'a>>> {
    let mut layers: BTreeMap<(&str, &str), Vec<_>> = BTreeMap::new();
    for weight in weights.iter().filter(|weight| weight.global_scale().is_some()) {
        let (parent, last) = split_name(weight.codes.module());
        let layer = model.fused(weight.codes.module()).map_or(last, |fused| &fused.layer);
        layers.entry((parent, layer)).or_default().push(weight);
    }
    layers.into_values().collect()
}

/// The comparison of global scales with those that the reference makes.
#[derive(Debug, Default)]
pub(crate) struct GlobalScaleCheck<'c, 'a> {
    /// Global scales that are the reference's.
    pub(crate) following: usize,
    /// The others, with the one that the reference makes.
    pub(crate) others: Vec<(&'c QuantizedWeight<'a>, f32)>,
}

impl<'c, 'a> GlobalScaleCheck<'c, 'a> {
    /// Compares the global scales of a result whose tensors were checked.
    pub(crate) fn of(
        model: &'c Model,
        weights: &'c [QuantizedWeight<'a>],
        tensors: &[CheckedTensor],
        source: &OpenedSource<'_>,
    ) -> Self {
        let checked: BTreeMap<&str, &CheckedTensor> = tensors
            .iter()
            // Those of a weight that passed through are the source's bytes, and its amax is not known.
            .filter(|tensor| tensor.action == CheckedAs::Quantized)
            .map(|tensor| (tensor.name.as_str(), tensor))
            .collect();
        let mut check = Self::default();
        for parts in fused_layers(model, weights) {
            let amax = |part: &QuantizedWeight<'_>| checked.get(part.name().as_str()).map(|tensor| tensor.amax);
            // A part that could not be compared has a finding already, and without it the layer's amax is unknown.
            let Some(together) = parts.iter().map(|part| amax(part)).try_fold(0f32, |a, b| Some(a.max(b?))) else {
                continue;
            };
            for part in parts {
                let (Some(original), Some(alone)) = (source.original(&part.name()), amax(part)) else { continue };
                // The reference takes the amax of all parts. Tools that quantize a matrix at a time take its own,
                // which is no fault of the values; Q405 warns of what vLLM does with such parts.
                let storage = part.form.storage;
                let rule = checked.get(part.name().as_str()).map(|it| it.scales.rule);
                let made = [together, alone].map(|amax| match rule {
                    Some(ScaleRule::Lossless) => storage.global_power_of_two(amax),
                    Some(ScaleRule::FourOverSix) => storage.global_of_four_over_six(amax, original.dtype()),
                    _ => storage.global_scale(amax, original.dtype()),
                });
                if made.contains(&part.global) {
                    check.following += 1;
                } else {
                    check.others.push((part, made[0]));
                }
            }
        }
        check
    }
}
