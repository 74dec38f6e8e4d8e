//! What is said of groups of zeros and of tiny numbers, under every scheme that has scales.

use half::{bf16, f16};
use qwen_fp8_schemes::conformance::{fewest_options, quantize_whole};
use qwen_fp8_schemes::{
    AmaxScope, Band, DegenerateScales, Format, Make, Matrix, Simd, SourceDtype, Strategy, amax, degenerate_scales,
    registered,
};

const ROWS: usize = 256;
const COLUMNS: usize = 256;

/// All ordinary but for the first 128 columns of three stretches of rows.
fn weight(dtype: SourceDtype, [zero, tiny]: [std::ops::Range<usize>; 2]) -> Vec<u8> {
    let value = |index: usize| {
        let (row, column) = (index / COLUMNS, index % COLUMNS);
        let smallest = match dtype {
            SourceDtype::Bf16 => bf16::from_bits(1).to_f32(),
            SourceDtype::F16 => f16::from_bits(1).to_f32(),
            SourceDtype::F32 => f32::from_bits(1),
        };
        match column < 128 {
            true if zero.contains(&row) => 0.0,
            true if tiny.contains(&row) => smallest,
            _ => 8.0 + (index % 7) as f32,
        }
    };
    (0..ROWS * COLUMNS)
        .flat_map(|index| match dtype {
            SourceDtype::Bf16 => bf16::from_f32(value(index)).to_le_bytes().to_vec(),
            SourceDtype::F16 => f16::from_f32(value(index)).to_le_bytes().to_vec(),
            SourceDtype::F32 => value(index).to_le_bytes().to_vec(),
        })
        .collect()
}

/// What is found of a weight, band by band.
fn found(scheme: &dyn qwen_fp8_schemes::Scheme, dtype: SourceDtype, bytes: &[u8], bands: usize) -> DegenerateScales {
    let source = Matrix { dtype, rows: ROWS, columns: COLUMNS };
    let made = quantize_whole(scheme, source, bytes, usize::MAX, Simd::detect(), 0).unwrap();
    let specs = scheme.outputs(source).unwrap();
    let (spec, scales) = specs.iter().zip(&made).find(|(spec, _)| spec.suffix == "weight_scale").unwrap();
    let amax = (scheme.amax_scope() != AmaxScope::Band).then(|| amax(source, 0, bytes, Simd::detect()).unwrap());
    let mut all = DegenerateScales::default();
    let step = scheme.band_rows() * bands;
    for first_row in (0..ROWS).step_by(step) {
        let rows = step.min(ROWS - first_row);
        let bytes = &bytes[first_row * source.row_bytes()..][..rows * source.row_bytes()];
        let band = Band { source, first_row, rows, bytes, amax, simd: Simd::detect() };
        all.add(&degenerate_scales(scheme.weights().strategy, spec, &scales[spec.band_range(first_row, rows)], &band));
    }
    all
}

#[test]
fn groups_of_zeros_and_of_tiny_numbers_are_counted_and_the_first_is_named() {
    let mut tried = 0;
    for registration in registered() {
        let Make::Quantize(make) = registration.make else { continue };
        let scheme = make(fewest_options(registration).unwrap(), Format::CompressedTensors).unwrap();
        let name = registration.name;
        for dtype in [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32] {
            for bands in [1, 3, 256] {
                let plain = found(&*scheme, dtype, &weight(dtype, [0..0, 0..0]), bands);
                // Divided by 448, ordinary numbers of F16 need a subnormal scale only where they are below 0.03.
                assert_eq!(plain, DegenerateScales::default(), "{name} {dtype:?}");
                let odd = found(&*scheme, dtype, &weight(dtype, [128..256, 3..3]), bands);
                let (zero, first) = match scheme.weights().strategy {
                    Strategy::Block(_) => (1, Some([128, 0])),
                    Strategy::Group(width) | Strategy::TensorGroup(width) => (128 * 128 / width as u64, Some([128, 0])),
                    _ => (0, None),
                };
                assert_eq!(
                    odd,
                    DegenerateScales { zero, first, ..DegenerateScales::default() },
                    "{name} {dtype:?} {bands}"
                );
                let tiny = found(&*scheme, dtype, &weight(dtype, [0..0, 0..128]), bands);
                if let Strategy::Block(_) | Strategy::Group(_) = scheme.weights().strategy {
                    assert_eq!((tiny.zero, tiny.first), (0, Some([0, 0])), "{name} {dtype:?}");
                    assert!(tiny.underflowed + tiny.subnormal > 0, "{name} {dtype:?}");
                }
            }
            let empty = found(&*scheme, dtype, &vec![0; ROWS * COLUMNS * dtype.bytes()], 2);
            assert!(empty.zero > 0 && empty.underflowed + empty.subnormal == 0, "{name} {dtype:?} {empty:?}");
            tried += 1;
        }
    }
    assert!(tried >= 60, "{tried}");
}
