//! FP8 weights of the source that are in the result as they were.

use super::compare::first_difference;
use super::group::Held;
use super::{Checked, CheckedTensor, Reader};
use crate::coded::Coded;
use crate::finding::Finding;
use crate::original::Original;
use crate::rules;
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

/// How a weight in few bits stands to one of the source.
pub(super) enum Carried {
    /// Codes and scales are its bytes, whatever the scale is called.
    Yes(CheckedTensor),
    /// It was quantized again, or is to be held against numbers like any other; and what its scales are held against.
    No(Held),
    /// It should have been the source's, or is but for one of its tensors.
    Altered(Finding),
}

/// Whether the weight is that of an FP8 source, byte for byte.
pub(super) fn check(reader: &Reader<'_>, coded: &Coded<'_>, original: &Original<'_>) -> Result<Carried, SourceError> {
    let is_due = reader.recorded.carried(&coded.name());
    let Some((shards, before)) = original.as_coded() else { return Ok(Carried::No(Held::Together)) };
    let same_form = (coded.form.kind, coded.form.grid) == (before.form.kind, before.form.grid);
    let same_scales = (coded.scale.dtype, coded.scale.len) == (before.scale.dtype, before.scale.len);
    if !same_form || !same_scales {
        let message = format!(
            "{} is {}, and the source, which it was copied from by the manifest, has {} of {}",
            shown(&coded.codes.name),
            coded.describe(),
            before.describe(),
            before.scale.dtype
        );
        let finding = Finding::new(&rules::CHANGED_FORM, message).tensor(&coded.codes.name);
        return Ok(if is_due { Carried::Altered(finding) } else { Carried::No(Held::Together) });
    }
    let codes = first_difference(reader.output, coded.codes, &Original::stored(shards, before.codes))?;
    let scales = first_difference(reader.output, coded.scale, &Original::stored(shards, before.scale))?;
    let differs = |tensor: &Tensor, at: u64| {
        let message = format!("{} differs from the source, first at byte {at} of {}", shown(&tensor.name), tensor.len);
        Carried::Altered(Finding::new(&rules::BYTES_DIFFER, message).tensor(&tensor.name))
    };
    Ok(match (codes, scales) {
        (None, None) => Carried::Yes(CheckedTensor {
            storage: Some(coded.describe()),
            ..CheckedTensor::plain(&coded.name(), Checked::Carried, coded.bytes())
        }),
        (Some(at), _) if is_due => differs(coded.codes, at),
        (None, Some(at)) if is_due => differs(coded.scale, at),
        // Under the same scales a weight is quantized to the same codes again.
        (Some(at), None) => differs(coded.codes, at),
        // It may have been quantized again to the same codes, but then under the scales of the rule.
        (None, Some(_)) => Carried::No(Held::Rule),
        (Some(_), Some(_)) => Carried::No(Held::Together),
    })
}
