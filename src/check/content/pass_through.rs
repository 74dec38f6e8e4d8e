//! FP8 weights of the source that pass through into the result.

use super::reader::OutputReader;
use crate::decode::{Meter, QuantizedWeight};
use crate::report::Finding;
use crate::rules::q5_source::tensors;
use crate::source::{CheckedAs, CheckedTensor, Original, ScaleRule, first_difference};
use qwen_fp8_checkpoint::source::SourceError;

/// The relation of a quantized weight to one of the source.
pub(super) enum PassThrough {
    /// Codes and scales are the source's bytes, whatever the scale is called.
    Same(CheckedTensor),
    /// The weight was quantized, perhaps again; its scales are compared by this rule.
    Requantized(ScaleRule),
    /// The weight should be the source's, or is but for one of its tensors.
    Altered(Finding),
}

/// Compares the bytes of a quantized weight with those of an FP8 source.
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
    let same_scales = (weight.scale.dtype, weight.scale.len) == (before.scale.dtype, before.scale.len);
    if weight.form != before.form || !same_scales {
        return Ok(if is_due {
            PassThrough::Altered(tensors::changed_pass_through(weight, before))
        } else {
            PassThrough::Requantized(ScaleRule::Majority)
        });
    }
    let codes = first_difference(reader.shards, weight.codes, &Original::stored(shards, before.codes), meter)?;
    let scales = first_difference(reader.shards, weight.scale, &Original::stored(shards, before.scale), meter)?;
    let altered = |tensor, at| PassThrough::Altered(tensors::bytes_differ(tensor, at));
    Ok(match (codes, scales) {
        (None, None) => PassThrough::Same(CheckedTensor {
            storage: Some(weight.form.describe()),
            ..CheckedTensor::plain(&weight.name(), CheckedAs::PassedThrough, weight.bytes())
        }),
        (Some(at), _) if is_due => altered(weight.codes, at),
        (None, Some(at)) if is_due => altered(weight.scale, at),
        // Quantizing again under the same scales gives the same codes, so that these were altered.
        (Some(at), None) => altered(weight.codes, at),
        // Quantizing again may give the same codes, but then under the scales of the absmax rule. The majority would
        // excuse a scale that was altered in a result of another observer.
        (None, Some(_)) => PassThrough::Requantized(ScaleRule::Absmax),
        (Some(_), Some(_)) => PassThrough::Requantized(ScaleRule::Majority),
    })
}
