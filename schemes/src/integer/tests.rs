//! Tensors, refusals and stored shapes of the integer schemes.

use serde_json::{Value, json};

use super::*;
use crate::{BuildError, Format, Make, SourceDtype, find};

fn make(name: &str, options: Value) -> Result<Box<dyn Scheme>, BuildError> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name} quantizes") };
    make(options, Format::CompressedTensors)
}

fn outputs(name: &str, options: Value, rows: usize, columns: usize) -> Vec<(&'static str, Dtype, Vec<usize>)> {
    let scheme = make(name, options).unwrap();
    let specs = scheme.outputs(Matrix { dtype: SourceDtype::F16, rows, columns }).unwrap();
    specs.into_iter().map(|spec| (spec.suffix, spec.dtype, spec.shape)).collect()
}

#[test]
fn tensors_are_those_of_compressed_tensors() {
    assert_eq!(
        outputs("INT8", json!({}), 5, 77),
        [("weight", Dtype::I8, vec![5, 77]), ("weight_scale", Dtype::F16, vec![5, 1])]
    );
    assert_eq!(
        outputs("W3A16", json!({}), 5, 256),
        [
            ("weight_packed", Dtype::I32, vec![5, 24]),
            ("weight_scale", Dtype::F16, vec![5, 2]),
            ("weight_shape", Dtype::I64, vec![2])
        ]
    );
    assert_eq!(outputs("W4A8", json!({ "group_size": "tensor" }), 5, 77)[1].2, [1]);
    let zero_points = outputs("W4A8", json!({ "symmetric": false }), 5, 256).pop().unwrap();
    assert_eq!(zero_points, ("weight_zero_point", Dtype::I8, vec![5, 2]));
}

#[test]
fn zero_points_of_every_width_fill_words_down_the_rows() {
    for (bits, rows, words) in [(2, 16, 1), (3, 32, 3), (4, 8, 1), (5, 32, 5), (6, 16, 3), (7, 32, 7), (8, 4, 1)] {
        let name = format!("W{bits}A16");
        let options = if bits == 4 { json!({}) } else { json!({ "symmetric": false }) };
        let scheme = make(if bits == 4 { "W4A16_ASYM" } else { &name }, options).unwrap();
        assert_eq!(scheme.band_rows(), rows, "{name}");
        for total in [1, rows - 1, rows, rows + 1, 100] {
            let source = Matrix { dtype: SourceDtype::Bf16, rows: total, columns: 128 };
            let spec = scheme.outputs(source).unwrap().pop().unwrap();
            assert_eq!(spec.extent, Extent::Packed { words, rows });
            assert_eq!((spec.dtype, &*spec.shape), (Dtype::I32, &[(total * bits).div_ceil(32), 1][..]));
            assert_eq!(spec.band_range(0, total), 0..spec.bytes());
        }
    }
}

#[test]
fn a_group_size_that_does_not_divide_the_columns_is_refused_with_one_that_does() {
    let reason = |name, options, columns| {
        let source = Matrix { dtype: SourceDtype::Bf16, rows: 2, columns };
        make(name, options).unwrap().outputs(source).unwrap_err().to_string()
    };
    assert_eq!(
        reason("W4A16", json!({}), 320),
        "320 columns are no multiple of the group size 128; `group_size: 64` would fit, and `group_size: channel` \
         always does"
    );
    assert_eq!(
        reason("W4A16_ASYM", json!({ "group_size": 32 }), 100),
        "100 columns are no multiple of the group size 32; `group_size: channel` fits any"
    );
    assert!(reason("MXFP4", json!({}), 4304).starts_with("4304 columns are no multiple of 32"));
    assert!(reason("NVFP4A16", json!({}), 8).starts_with("8 columns are no multiple of 16"));
}

#[test]
fn impossible_group_sizes_are_refused() {
    for (name, options) in [
        ("W4A16", json!({ "group_size": 0 })),
        ("W4A16", json!({ "group_size": "tensor", "symmetric": false })),
        ("W4A16_ASYM", json!({ "group_size": "tensor" })),
    ] {
        assert_eq!(make(name, options).unwrap_err().option, Some("group_size"));
    }
    for options in [json!({ "group_size": -1 }), json!({ "group_size": "row" }), json!({ "scale_dtype": "f32" })] {
        make("W4A16", options).unwrap_err();
    }
    make("W4A16_ASYM", json!({ "symmetric": true })).unwrap_err();
    make("MXFP8", json!({ "quotient_dtype": "f32" })).unwrap_err();
}

#[test]
fn the_shape_is_stored_with_the_first_rows_alone() {
    let scheme = make("W8A16", json!({ "group_size": "channel" })).unwrap();
    let source = Matrix { dtype: SourceDtype::F32, rows: 2, columns: 4 };
    let bytes: Vec<u8> = [1f32, -2.0, 0.5, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    for (first_row, stored) in [(0, 16), (1, 0)] {
        let (mut weight, mut scale, mut shape) = ([0; 4], [0; 4], vec![0xFF; stored]);
        let band = Band { source, first_row, rows: 1, bytes: &bytes, amax: None, simd: crate::Simd::PORTABLE };
        scheme.quantize(&band, &mut [&mut weight, &mut scale, &mut shape]).unwrap();
        assert_eq!(weight, [128 + 64, 128 - 127, 128 + 32, 128]);
        assert_eq!(f32::from_le_bytes(scale), 2.0 / 127.5);
        assert_eq!(shape, &[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0][..stored]);
    }
}
