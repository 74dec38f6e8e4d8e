//! Quantized weights of the source that pass through into the result.

use super::reader::OutputReader;
use crate::decode::{Meter, QuantizedWeight, Shards};
use crate::report::Finding;
use crate::rules::q5_source::tensors;
use crate::source::{CheckedAs, CheckedTensor, Original, ScaleRule, first_difference};
use qwen_fp8_checkpoint::Tensor;
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
    let same = || {
        PassThrough::Same(CheckedTensor {
            storage: Some(weight.form.describe()),
            ..CheckedTensor::plain(&weight.name(), CheckedAs::PassedThrough, weight.bytes())
        })
    };
    if weight.form != before.form || !same_scales {
        // The same codes under the same scales in another form, such as powers of two as floats, stand for the same. Scales
        // that were searched for may come to the same; they are judged as such.
        let is_searched = reader.recorded.scale_rule(&weight.name()).is_some();
        if !is_searched && are_alike(reader, weight, shards, before, meter)? {
            return Ok(same());
        }
        return Ok(if is_due {
            PassThrough::Altered(tensors::changed_pass_through(weight, before))
        } else {
            PassThrough::Requantized(ScaleRule::Majority)
        });
    }
    let codes = first_difference(reader.shards, weight.codes, &Original::stored(shards, before.codes), meter)?;
    let scales = first_difference(reader.shards, weight.scale, &Original::stored(shards, before.scale), meter)?;
    let beside = difference_beside(reader, weight, shards, before, meter)?;
    let altered = |tensor, at| PassThrough::Altered(tensors::bytes_differ(tensor, at));
    Ok(match (codes, scales) {
        (None, None) if beside.is_none() => same(),
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

/// Returns the first tensor beside codes and scales that is not the source's, and the byte where it differs.
fn difference_beside<'a>(
    reader: &OutputReader<'_>,
    weight: &QuantizedWeight<'a>,
    shards: &Shards,
    before: &QuantizedWeight<'_>,
    meter: &Meter<'_>,
) -> Result<Option<(&'a Tensor, u64)>, SourceError> {
    if weight.beside().count() != before.beside().count() {
        return Ok(Some((weight.codes, 0)));
    }
    for (tensor, original) in weight.beside().zip(before.beside()) {
        let at = match tensor.len == original.len {
            true => first_difference(reader.shards, tensor, &Original::stored(shards, original), meter)?,
            false => Some(0),
        };
        if let Some(at) = at {
            return Ok(Some((tensor, at)));
        }
    }
    Ok(None)
}

/// Rows whose scales are compared at a time.
const ROWS: usize = 1 << 12;

/// Reports whether a weight has the codes of the source, and under each of them a scale of the same value.
fn are_alike(
    reader: &OutputReader<'_>,
    weight: &QuantizedWeight<'_>,
    shards: &Shards,
    before: &QuantizedWeight<'_>,
    meter: &Meter<'_>,
) -> Result<bool, SourceError> {
    let codes = |weight: &QuantizedWeight<'_>| (weight.form.storage.codes(), weight.codes.len, weight.shape);
    // Groups of other columns are never made of one another.
    let columns = |weight: &QuantizedWeight<'_>| (weight.sides()[1], weight.across());
    if codes(weight) != codes(before) || columns(weight) != columns(before) {
        return Ok(false);
    }
    let (across, all) = (weight.across(), weight.shape[0]);
    for first in (0..all).step_by(ROWS) {
        let rows = first..all.min(first + ROWS);
        let (ours, theirs) = (weight.qparams(reader.shards, &rows)?, before.qparams(shards, &rows)?);
        for row in rows {
            let group = |weight: &QuantizedWeight<'_>| row / weight.sides()[0] * across;
            let (ours_at, theirs_at) = (group(weight), group(before));
            for at in 0..across {
                let (ours, theirs) = (ours.of(ours_at + at), theirs.of(theirs_at + at));
                let is_nan = ours.scale.is_nan() && theirs.scale.is_nan();
                if ours.zero != theirs.zero || ours.scale != theirs.scale && !is_nan {
                    return Ok(false);
                }
            }
        }
    }
    let stored = Original::stored(shards, before.codes);
    Ok(first_difference(reader.shards, weight.codes, &stored, meter)?.is_none()
        && difference_beside(reader, weight, shards, before, meter)?.is_none())
}
