//! The check of one quantized weight: its scales, its codes, and each value against the source.

use rayon::prelude::*;

use super::buffers::PieceBuffers;
use super::reader::OutputReader;
use crate::decode::{Meter, QuantizedWeight, pieces};
use crate::report::Finding;
use crate::rules::q4_values::{self, ScaleVerdict};
use crate::rules::q5_source::reference;
use crate::source::{CheckedAs, CheckedTensor, Comparison, Original, ScaleCount, ScaleRule, WeightComparison, scan};
use qwen_fp8_checkpoint::source::SourceError;

/// Checks one weight, against an original of its shape where there is one.
pub(super) fn check(
    reader: &OutputReader<'_>,
    weight: &QuantizedWeight<'_>,
    original: Option<Original<'_>>,
    rule: ScaleRule,
    meter: &Meter<'_>,
    findings: &mut Vec<Finding>,
) -> Result<CheckedTensor, SourceError> {
    let verdict = q4_values::qparams(weight, &scan(weight, reader.shards)?, reader.recorded, findings);
    let source = original.map(|original| original.dtype());
    let rule = reader.recorded.scale_rule(&weight.name()).unwrap_or(rule);
    let book = weight.form.storage.codebook();
    let comparison = WeightComparison { weight, book, source, rule };
    let parts = pieces(weight.shape, weight.sides()[0])
        .into_par_iter()
        .map(|piece| {
            let mut lent = reader.buffers.lend();
            let PieceBuffers { scratch, codes, weights } = &mut *lent;
            let read = weight.read_codes(reader.shards, &piece, &mut scratch.bytes, codes)?;
            let qparams = weight.qparams(reader.shards, &piece.rows)?;
            scratch.rounded = false;
            if let Some(original) = &original {
                original.read_bytes(&piece, scratch, weights)?;
            }
            let mut part = comparison.piece(&piece, &qparams, codes, weights);
            part.is_source_rounded = scratch.rounded;
            meter.advance(read);
            Ok(part)
        })
        .collect::<Result<Vec<Comparison>, SourceError>>()?;
    let found = comparison.join(parts);
    q4_values::codes(weight, &found, verdict, findings);
    if verdict == ScaleVerdict::NonFiniteKept && source.is_some() {
        q4_values::unexplained(weight, &found, findings);
    }
    reference::outside_step(weight, &found, findings);
    let mut checked = CheckedTensor {
        storage: Some(weight.form.describe()),
        amax: found.verdict.amax,
        ..CheckedTensor::plain(&weight.name(), CheckedAs::Decoded, weight.bytes())
    };
    if original.is_some() {
        checked.action = CheckedAs::Quantized;
        checked.figures = Some(found.sums.figures());
        // An error of NaN is none that is zero, and weights that are not finite are equal to nothing.
        checked.lossless = found.sums.max_error == 0.0
            && found.sums.error == 0.0
            && found.nans.number == 0
            && !found.is_source_rounded;
        checked.worst = found.verdict.worst(weight);
        // Damaged weights have their findings, and would count against the rule that the others follow.
        let is_damaged = match verdict {
            ScaleVerdict::Sound => found.nans.number > 0,
            ScaleVerdict::NonFiniteKept => found.unexplained_nans.number + found.verdict.unexplained > 0,
            ScaleVerdict::Bad => true,
        };
        if !is_damaged {
            checked.scales = ScaleCount { rule, ..found.verdict.scales };
        }
    }
    Ok(checked)
}
