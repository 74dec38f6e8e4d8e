//! Quantized weights of the source that pass through into the result.

use super::reader::OutputReader;
use crate::decode::{Meter, QuantizedWeight};
use crate::report::Finding;
use crate::rules::q5_source::tensors;
use crate::source::{CheckedAs, CheckedTensor, Original, ScaleRule, first_difference};
use qwen_fp8_checkpoint::source::SourceError;
use safetensors::Dtype;

/// The relation of a quantized weight to one of the source.
pub(super) enum PassThrough {
    /// Codes and scales are the source's bytes, whatever the scale is called.
    Same(CheckedTensor),
    /// The weight was quantized, perhaps again; its scales are compared by this rule.
    Requantized(ScaleRule),
    /// The weight should be the source's, or is but for one of its tensors.
    Altered(Finding),
}

/// Compares the bytes of a quantized weight with those of a quantized source.
pub(super) fn check(
    reader: &OutputReader<'_>,
    weight: &QuantizedWeight<'_>,
    original: &Original<'_>,
    meter: &Meter<'_>,
) -> Result<PassThrough, SourceError> {
    let is_due = reader.recorded.is_unchanged(&weight.name());
    let Some((shards, before)) = original.as_quantized() else {
        return Ok(PassThrough::Requantized(ScaleRule::Majority));
    };
    // Bytes of E8M0 are the same powers of two under either name of their dtype.
    let kind = |dtype| if dtype == Dtype::U8 { Dtype::F8_E8M0 } else { dtype };
    let same_scales = (kind(weight.scale.dtype), weight.scale.len) == (kind(before.scale.dtype), before.scale.len);
    if weight.form != before.form || !same_scales {
        return Ok(if is_due {
            PassThrough::Altered(tensors::changed_pass_through(weight, before))
        } else {
            PassThrough::Requantized(ScaleRule::Majority)
        });
    }
    let codes = first_difference(reader.shards, weight.codes, &Original::stored(shards, before.codes), meter)?;
    let scales = first_difference(reader.shards, weight.scale, &Original::stored(shards, before.scale), meter)?;
    let mut beside = None;
    if weight.beside().count() != before.beside().count() {
        beside = Some((weight.codes, 0));
    }
    for (tensor, original) in weight.beside().zip(before.beside()) {
        if tensor.len != original.len {
            beside = beside.or(Some((tensor, 0)));
        } else if let Some(at) = first_difference(reader.shards, tensor, &Original::stored(shards, original), meter)? {
            beside = beside.or(Some((tensor, at)));
        }
    }
    let altered = |tensor, at| PassThrough::Altered(tensors::bytes_differ(tensor, at));
    Ok(match (codes, scales) {
        (None, None) if beside.is_none() => PassThrough::Same(CheckedTensor {
            storage: Some(weight.form.describe()),
            ..CheckedTensor::plain(&weight.name(), CheckedAs::PassedThrough, weight.bytes())
        }),
        (Some(at), _) if is_due => altered(weight.codes, at),
        (None, Some(at)) if is_due => altered(weight.scale, at),
        // The same codes and scales, with another tensor beside them: nothing but damage makes that.
        (None, None) => {
            let (tensor, at) = beside.unwrap_or((weight.codes, 0));
            altered(tensor, at)
        }
        // Quantizing again under the same scales gives the same codes, so that these were altered.
        (Some(at), None) => altered(weight.codes, at),
        // Quantizing again may give the same codes, but then under the scales of the absmax rule. The majority would
        // excuse a scale that was altered in a result of another observer.
        (None, Some(_)) => PassThrough::Requantized(ScaleRule::Absmax),
        (Some(_), Some(_)) => PassThrough::Requantized(ScaleRule::Majority),
    })
}
