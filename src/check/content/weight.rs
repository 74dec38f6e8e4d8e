//! One quantized weight: its codes and scales, and how each weight decodes against the source.

use rayon::prelude::*;

use super::group::{Held, ScaleCount};
use super::matrix::{Matrix, Part};
use super::places::Places;
use super::scales::{Scales, check_scales};
use super::{Checked, CheckedTensor, Reader};
use crate::coded::{Coded, Scratch};
use crate::finding::Finding;
use crate::original::Original;
use crate::rules;
use crate::shards::pieces;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    codes: Vec<u8>,
    weights: Vec<f32>,
}

/// Checks one weight, against its original where there is one of its shape.
pub(super) fn check(
    reader: &Reader<'_>,
    coded: &Coded<'_>,
    original: Option<Original<'_>>,
    held: Held,
    findings: &mut Vec<Finding>,
) -> Result<CheckedTensor, SourceError> {
    let values = check_scales(coded, reader.output, reader.recorded, findings)?;
    let source = original.map(|original| original.dtype());
    let searched = reader.recorded.searched(&coded.name());
    let held = if searched { Held::Search } else { held };
    let matrix = Matrix { coded, book: coded.form.storage().book(), source, searched };
    let parts = pieces(coded.matrix, coded.sides()[0])
        .into_par_iter()
        .map_init(Buffers::default, |buffers, piece| {
            let Buffers { scratch, codes, weights } = buffers;
            coded.read_codes(reader.output, &piece, &mut scratch.bytes, codes)?;
            let steps = coded.steps(reader.output, &piece.rows)?;
            if let Some(original) = &original {
                original.read(&piece, scratch, weights)?;
            }
            Ok(matrix.part(&piece, &steps, codes, weights))
        })
        .collect::<Result<Vec<Part>, SourceError>>()?;
    let whole = matrix.join(parts);
    report(&whole, &matrix, values, findings);
    let mut checked = CheckedTensor {
        storage: Some(coded.describe()),
        largest: whole.verdict.largest,
        ..CheckedTensor::plain(&coded.name(), Checked::Decoded, coded.bytes())
    };
    if original.is_some() {
        checked.action = Checked::Quantized;
        checked.figures = Some(whole.sums.figures());
        checked.worst = whole.verdict.worst(coded);
        if values == Scales::Sound && whole.nans.number == 0 {
            checked.scales = ScaleCount { held, ..whole.verdict.scales };
        }
    }
    Ok(checked)
}

fn report(whole: &Part, matrix: &Matrix<'_>, values: Scales, findings: &mut Vec<Finding>) {
    let name = &matrix.coded.codes.name;
    let Places { number, first } = if values == Scales::Kept { whole.strays } else { whole.nans };
    if number > 0 {
        let what = match matrix.coded.form.storage().codes().dtype {
            safetensors::Dtype::F8_E4M3 => "NaN".to_owned(),
            _ => format!("that are no {}", matrix.coded.form.storage().name()),
        };
        let message = format!("{} holds {number} {what}, the first at {first:?}", shown(name));
        findings.push(Finding::new(&rules::WEIGHT_NAN, message).tensor(name));
    }
    let unexplained = whole.verdict.unexplained;
    if values == Scales::Kept && matrix.source.is_some() && unexplained > 0 {
        let message = format!("{unexplained} scales of {} are NaN or infinite where the source is finite", shown(name));
        findings.push(Finding::new(&rules::SCALE_VALUE, message).tensor(&matrix.coded.scale.name));
    }
    if whole.outside.number > 0 {
        let Places { number, first } = whole.outside;
        let message = format!(
            "{}: {number} weights decode to more than half a step from the source, the first at {first:?}; the greatest error is {:e} at {:?}",
            shown(name),
            whole.sums.max_error,
            whole.sums.max_error_at
        );
        findings.push(Finding::new(&rules::OUTSIDE_STEP, message).tensor(name));
    }
}
