//! Promises of a configured scheme for every weight: its declared outputs, its bytes and its refusals.

use std::collections::BTreeSet;

use super::error::{Broken, Weight};
use super::guard::unless_it_panics;
use super::quantize::{quantize_from_threads, quantize_whole, quantize_whole_keeping};
use super::report::ConformanceReport;
use super::sample::{SampleContent, put_non_finite, sample};
use crate::{Dtype, Extent, MAX_OUTPUTS, Matrix, NonFinite, Scheme, Simd, SourceDtype, TensorRole, TensorSpec};

const DTYPES: [SourceDtype; 3] = [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32];

/// One element, one row, one column, one more and one less than a block or a vector, groups of every usual width,
/// columns that none of them divides, and empty weights.
const SHAPES: [[usize; 2]; 15] = [
    [1, 1],
    [1, 128],
    [1, 300],
    [300, 1],
    [127, 129],
    [128, 128],
    [129, 127],
    [130, 132],
    [256, 64],
    [33, 384],
    [5, 1000],
    [2, 4096],
    [0, 128],
    [128, 0],
    [0, 0],
];

pub(super) fn check(scheme: &dyn Scheme, report: &mut ConformanceReport) -> Result<(), Broken> {
    report.schemes += 1;
    if scheme.band_rows() == 0 {
        return Err(Broken::NoBandRows);
    }
    let mut refusal = None;
    let mut takes_any = false;
    for dtype in DTYPES {
        for [rows, columns] in SHAPES {
            let source = Matrix { dtype, rows, columns };
            let weight = Weight { source, content: "of any numbers" };
            let specs = match unless_it_panics(weight, || Ok(scheme.outputs(source)))? {
                Ok(specs) => specs,
                Err(error) => {
                    check_refusal(weight, &error.reason)?;
                    report.refused += 1;
                    refusal = Some((weight, error.reason));
                    continue;
                }
            };
            takes_any |= rows * columns > 0;
            for content in SampleContent::ALL {
                let weight = Weight { source, content: content.name() };
                unless_it_panics(weight, || {
                    check_outputs(scheme, weight, &specs)?;
                    let made = check_weight(scheme, weight, &specs, &sample(source, content))?;
                    // The range of numbers near the largest may be larger than any.
                    if content.is_vast() { Ok(()) } else { check_finite(weight, &specs, &made) }
                })?;
                report.cases += 1;
            }
            unless_it_panics(weight, || {
                check_threads(scheme, source, &specs)?;
                check_non_finite(scheme, source)?;
                if scheme.keeps_non_finite() { check_kept(scheme, source, &specs) } else { Ok(()) }
            })?;
        }
    }
    match refusal {
        Some((weight, reason)) if !takes_any => Err(Broken::NoShape { weight, reason }),
        _ => Ok(()),
    }
}

/// Checks that the reason for a refused shape names the side that does not fit.
fn check_refusal(weight: Weight, reason: &str) -> Result<(), Broken> {
    let sides = [weight.source.rows, weight.source.columns].map(|side| side.to_string());
    match sides.iter().any(|side| reason.contains(&**side)) {
        true => Ok(()),
        false => Err(Broken::Unclear { weight, reason: reason.to_owned() }),
    }
}

/// Checks that declared tensors are consistent and that bands cut them into parts without gap or overlap.
fn check_outputs(scheme: &dyn Scheme, weight: Weight, specs: &[TensorSpec]) -> Result<(), Broken> {
    if !(1..=MAX_OUTPUTS).contains(&specs.len()) {
        return Err(Broken::OutputCount { weight, count: specs.len() });
    }
    if !specs.iter().any(|spec| spec.role == TensorRole::Codes) {
        return Err(Broken::Output { weight, suffix: specs[0].suffix, reason: "no output has the role of codes" });
    }
    let mut suffixes = BTreeSet::new();
    for spec in specs {
        let broken = |reason| Err(Broken::Output { weight, suffix: spec.suffix, reason });
        if spec.suffix.is_empty() || !suffixes.insert(spec.suffix) {
            return broken("the suffix is empty or used twice");
        }
        if spec.dtype.bitsize() % 8 != 0 {
            return broken("its elements are no whole bytes");
        }
        let (words, per_words) = match spec.extent {
            Extent::Rows(per_row) => (1, per_row),
            Extent::Packed { words, rows } => (words, rows),
            Extent::Whole => (0, 1),
        };
        if per_words == 0 || !scheme.band_rows().is_multiple_of(per_words) {
            return broken("the rows of its extent do not divide the rows of a band");
        }
        if words > 0 && spec.shape.first() != Some(&(weight.source.rows * words).div_ceil(per_words)) {
            return broken("its first dimension is not the rows over those of its extent");
        }
        let mut end = 0;
        for first_row in (0..weight.source.rows).step_by(scheme.band_rows()) {
            let rows = scheme.band_rows().min(weight.source.rows - first_row);
            let range = spec.band_range(first_row, rows);
            if !range.is_empty() && range.start != end {
                return broken("its bands leave a gap or overlap");
            }
            end = end.max(range.end);
        }
        if weight.source.rows > 0 && end != spec.bytes() {
            return broken("its bands do not add up to the tensor");
        }
    }
    if scheme.outputs(weight.source).as_deref() != Ok(specs) {
        return Err(Broken::Output { weight, suffix: "", reason: "asked twice, it declares two things" });
    }
    Ok(())
}

/// Checks that all bytes are written and none depends on bands, instruction set or alignment; returns the outputs.
fn check_weight(
    scheme: &dyn Scheme,
    weight: Weight,
    specs: &[TensorSpec],
    bytes: &[u8],
) -> Result<Vec<Vec<u8>>, Broken> {
    let source = weight.source;
    let quantize = |bytes: &[u8], bands, simd, filler| {
        quantize_whole(scheme, source, bytes, bands, simd, filler).map_err(|error| Broken::Refused { weight, error })
    };
    let whole = quantize(bytes, usize::MAX, Simd::PORTABLE, 0x00)?;
    let other = quantize(bytes, usize::MAX, Simd::PORTABLE, 0xFF)?;
    if let Some((tensor, byte)) = first_difference(&whole, &other) {
        return Err(Broken::NotWritten { weight, suffix: specs[tensor].suffix, byte });
    }
    let mut shifted = vec![0];
    shifted.extend_from_slice(bytes);
    for simd in Simd::available() {
        let unaligned = &shifted[1..];
        // The portable path has made all rows at once, twice.
        let whole_rows = (simd != Simd::PORTABLE).then_some((bytes, usize::MAX));
        for (bytes, bands) in [(bytes, 1), (unaligned, 2)].into_iter().chain(whole_rows) {
            let made = quantize(bytes, bands, simd, 0xA5)?;
            if let Some((tensor, byte)) = first_difference(&whole, &made) {
                let rows = scheme.band_rows().saturating_mul(bands).min(source.rows);
                let way = format!("{simd}, bands of {rows} rows");
                return Err(Broken::Differs { weight, suffix: specs[tensor].suffix, byte, way });
            }
        }
    }
    Ok(whole)
}

fn first_difference(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<(usize, usize)> {
    left.iter().zip(right).enumerate().find_map(|(tensor, (left, right))| {
        let byte = left.iter().zip(right).position(|(left, right)| left != right)?;
        Some((tensor, byte))
    })
}

/// Checks that finite weights become finite values under finite scales.
fn check_finite(weight: Weight, specs: &[TensorSpec], made: &[Vec<u8>]) -> Result<(), Broken> {
    let mut stored = specs.iter().zip(made);
    match stored.find_map(|(spec, made)| Some((spec.suffix, first_non_finite(spec.dtype, made)?))) {
        Some((suffix, element)) => Err(Broken::NonFiniteOutput { weight, suffix, element }),
        None => Ok(()),
    }
}

/// Returns the first element of a stored tensor that is NaN or infinity, for the dtypes that have them.
fn first_non_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    let (size, infinite) = match dtype {
        Dtype::F32 => (4, 0x7F80_0000),
        Dtype::BF16 => (2, 0x7F80),
        Dtype::F16 => (2, 0x7C00),
        Dtype::F8_E5M2 => (1, 0x7C),
        Dtype::F8_E4M3 => (1, 0x7F),
        _ => return None,
    };
    bytes.chunks_exact(size).position(|element| {
        let bits = element.iter().rev().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        bits & (u32::MAX >> (33 - 8 * size)) >= infinite
    })
}

/// Checks that no byte depends on the order of the bands or on the thread that takes one.
fn check_threads(scheme: &dyn Scheme, source: Matrix, specs: &[TensorSpec]) -> Result<(), Broken> {
    let content = SampleContent::Normal;
    let weight = Weight { source, content: content.name() };
    let bytes = sample(source, content);
    let refused = |error| Broken::Refused { weight, error };
    let simd = Simd::detect();
    let whole = quantize_whole(scheme, source, &bytes, usize::MAX, simd, 0x00).map_err(refused)?;
    let made = quantize_from_threads(scheme, source, &bytes, simd).map_err(refused)?;
    match first_difference(&whole, &made) {
        Some((tensor, byte)) => {
            let way = format!("{simd}, several threads that take bands in mixed order");
            Err(Broken::Differs { weight, suffix: specs[tensor].suffix, byte, way })
        }
        None => Ok(()),
    }
}

/// Checks that NaN and infinity are refused and that the first one in row-major order is named.
fn check_non_finite(scheme: &dyn Scheme, source: Matrix) -> Result<(), Broken> {
    let elements = source.rows * source.columns;
    if elements == 0 {
        return Ok(());
    }
    let weight = Weight { source, content: "with NaN and infinities" };
    let clean = sample(source, SampleContent::Normal);
    let (middle, last) = (elements / 2, elements - 1);
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    for (first, value) in [(0, nan), (0, infinity), (middle, -infinity), (middle, nan), (last, -infinity), (last, nan)]
    {
        let mut bytes = clean.clone();
        put_non_finite(source, &mut bytes, last, nan);
        put_non_finite(source, &mut bytes, first, value);
        let expected = NonFinite { row: first / source.columns, column: first % source.columns, value };
        for simd in Simd::available() {
            for bands in [1, usize::MAX] {
                let found = match quantize_whole(scheme, source, &bytes, bands, simd, 0) {
                    Ok(_) => "no error".to_owned(),
                    // NaN is not equal to itself, and its payload is nobody's concern.
                    Err(found) if format!("{found:?}") == format!("{expected:?}") => continue,
                    Err(found) => format!("`{found}`"),
                };
                return Err(Broken::NonFiniteMissed { weight, expected, found });
            }
        }
    }
    Ok(())
}

/// Checks that kept NaNs and infinities do not depend on bands or instruction set, and that all bytes are written.
fn check_kept(scheme: &dyn Scheme, source: Matrix, specs: &[TensorSpec]) -> Result<(), Broken> {
    let weight = Weight { source, content: "with NaN and infinities, kept" };
    let elements = source.rows * source.columns;
    let mut bytes = sample(source, SampleContent::Normal);
    for (index, value) in [(elements / 3, f32::NAN), (elements / 2, f32::INFINITY), (elements / 5, f32::NEG_INFINITY)] {
        if index < elements {
            put_non_finite(source, &mut bytes, index, value);
        }
    }
    let quantize = |bands, simd, filler| {
        quantize_whole_keeping(scheme, source, &bytes, bands, simd, filler)
            .map_err(|error| Broken::Refused { weight, error })
    };
    let whole = quantize(usize::MAX, Simd::PORTABLE, 0x00)?;
    for simd in Simd::available() {
        for bands in [1, 2, usize::MAX] {
            if let Some((tensor, byte)) = first_difference(&whole, &quantize(bands, simd, 0xA5)?) {
                let way = format!("{simd}, {bands} bands at a time");
                return Err(Broken::Differs { weight, suffix: specs[tensor].suffix, byte, way });
            }
        }
    }
    Ok(())
}
