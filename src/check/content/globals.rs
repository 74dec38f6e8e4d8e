//! The scales of scales: of one matrix, and of the parts that a server merges into one layer.

use std::collections::BTreeMap;

use super::{CheckedTensor, Content};
use crate::coded::Coded;
use crate::finding::Finding;
use crate::rules;
use crate::source::Source;
use crate::storage::{Beside, Nvfp4};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::{self, FUSED};
use qwen_fp8_checkpoint::text::shown;

/// Reports layers whose parts do not share a global scale.
pub(crate) fn merged_differ(coded: &[Coded<'_>], findings: &mut Vec<Finding>) {
    for parts in merged(coded).into_values() {
        let Some(other) = parts.iter().find(|part| part.global != parts[0].global) else { continue };
        let message = format!(
            "{} and {} are one layer to a server, and their global scales are {:e} and {:e}",
            shown(parts[0].codes.module()),
            shown(other.codes.module()),
            parts[0].global,
            other.global
        );
        findings.push(Finding::new(&rules::GLOBAL_SCALES, message).tensor(&parts[0].codes.name));
    }
}

/// Weights that have a global scale, by the layer that a server merges them into; one that is merged with none is alone.
fn merged<'c, 'a>(coded: &'c [Coded<'a>]) -> BTreeMap<(&'a str, &'a str), Vec<&'c Coded<'a>>> {
    let mut layers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for coded in coded.iter().filter(|coded| global_scale(coded).is_some()) {
        let (parent, last) = models::split_name(coded.codes.module());
        let merged = FUSED.iter().find(|set| set.contains(&last)).map_or(last, |set| set[0]);
        layers.entry((parent, merged)).or_default().push(coded);
    }
    layers
}

fn global_scale<'a>(coded: &Coded<'a>) -> Option<&'a Tensor> {
    coded.beside.iter().find(|(beside, _)| *beside == Beside::GlobalScale).map(|(_, tensor)| *tensor)
}

impl Content<'_> {
    /// Global scales follow from the largest weight of a matrix, or of all that are merged with it.
    pub(super) fn globals(&self, tensors: &[CheckedTensor], source: &Source<'_>, findings: &mut Vec<Finding>) {
        let largest: BTreeMap<&str, f32> =
            tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.largest)).collect();
        let (mut following, mut other) = (0, Vec::new());
        for parts in merged(&self.structure.coded).into_values() {
            let of = |part: &Coded<'_>| largest.get(part.name().as_str()).copied();
            // A part that could not be compared has its finding.
            let Some(together) = parts.iter().map(|part| of(part)).try_fold(0f32, |a, b| Some(a.max(b?))) else {
                continue;
            };
            for part in parts {
                let name = part.name();
                let (Some(original), Some(alone)) = (source.original(&name), of(part)) else { continue };
                let made = [together, alone].map(|largest| Nvfp4::global(largest, original.dtype()));
                match made.contains(&part.global) {
                    true => following += 1,
                    false => other.push((part, made[0])),
                }
            }
        }
        for (part, made) in &other {
            let name = global_scale(part).map_or(&part.codes.name, |tensor| &tensor.name);
            let message = format!("{} is {:e}, and the largest weight gives {made:e}", shown(name), part.global);
            // Where hardly any follows the rule, they come from another observer.
            let rule = if following < other.len() { &rules::SCALE_RULE } else { &rules::SCALE_ALTERED };
            findings.push(Finding::new(rule, message).tensor(name));
        }
    }
}
