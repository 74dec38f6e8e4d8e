//! Golden vectors in a registration: those of the built-in schemes are telling, and a wrong one is named to the byte.

use std::collections::HashMap;

use qwen_fp8_schemes::conformance::golden::{self, GoldenError};
use qwen_fp8_schemes::{Make, Registration, find, registered};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

#[test]
fn every_quantizing_scheme_has_vectors_for_every_source_dtype() {
    for registration in registered() {
        let Make::Quantize(_) = registration.make else { continue };
        assert!(golden::check(registration).unwrap() >= 3, "{}", registration.name);
        let file = SafeTensors::deserialize(registration.golden).unwrap();
        for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
            let inputs = file.iter().filter(|(name, view)| name.ends_with(".input") && view.dtype() == dtype);
            assert!(inputs.count() > 0, "{} {dtype:?}", registration.name);
        }
        assert!(registration.golden.len() < 8 << 10, "{}: {} bytes", registration.name, registration.golden.len());
    }
}

#[test]
fn every_byte_of_a_result_counts() {
    let right = find("W4A16_ASYM").unwrap();
    let (header, _) = SafeTensors::read_metadata(right.golden).unwrap();
    let file = SafeTensors::deserialize(right.golden).unwrap();
    for (name, view) in file.iter().filter(|(name, _)| !name.ends_with(".input")) {
        let (begin, end) = file_range(name, right.golden);
        assert_eq!(&right.golden[begin..end], view.data(), "{name}, {header} bytes of header");
        for byte in [0, view.data().len() - 1] {
            let mut bytes = right.golden.to_vec();
            bytes[begin + byte] ^= 1;
            let error = check(bytes).unwrap_err();
            let GoldenError::Differs { tensor, byte: found, golden, made, .. } = &error else { panic!("{error}") };
            assert_eq!((&**tensor, *found, golden ^ made), (name, byte, 1));
        }
    }
}

#[test]
fn an_incomplete_golden_file_is_an_error() {
    let weight = [1f32, -2.0].map(f32::to_le_bytes).concat();
    let right = || {
        vec![
            ("a.input", Dtype::F32, vec![1, 2], weight.clone()),
            ("a.all.weight", Dtype::F8_E4M3, vec![1, 2], vec![0x76, 0xFE]),
            ("a.all.weight_scale", Dtype::F32, vec![1, 1], (2f32 / 448.0).to_le_bytes().to_vec()),
        ]
    };
    let sets = r#"{"all":{}}"#;
    assert_eq!(dynamic(&right(), Some(sets)), Ok(1));
    // What the kit would have to guess.
    for options in [None, Some("[]"), Some("{"), Some("7")] {
        assert_eq!(dynamic(&right(), options), Err(GoldenError::Options));
    }
    assert!(matches!(check(vec![1, 2, 3]), Err(GoldenError::File(_))));
    // What nobody would look at.
    let stray = |tensors: &[Tensor], sets| match dynamic(tensors, Some(sets)) {
        Err(GoldenError::Stray { tensor }) => tensor,
        other => panic!("{other:?}"),
    };
    assert_eq!(stray(&right(), r#"{"al":{}}"#), "a.all.weight");
    let mut more = right();
    more.push(("a.all.weight_packed", Dtype::U8, vec![1], vec![0]));
    assert_eq!(stray(&more, sets), "a.all.weight_packed");
    assert_eq!(stray(&right()[1..], sets), "a.all.weight");
    assert_eq!(dynamic(&right(), Some(r#"{"all":{},"b":{}}"#)), Err(GoldenError::Unused { set: "b".to_owned() }));
    // What is not as it says.
    let missing = GoldenError::Missing { tensor: "a.all.weight_scale".to_owned() };
    assert_eq!(dynamic(&right()[..2], Some(sets)), Err(missing));
    let refused = dynamic(&right(), Some(r#"{"all":{"block_size":0}}"#)).unwrap_err();
    assert!(matches!(&refused, GoldenError::Refused { set, .. } if set == "all"), "{refused}");
    let mut flat = right();
    flat[2].2 = vec![1];
    assert!(matches!(dynamic(&flat, Some(sets)), Err(GoldenError::Described { .. })));
    let mut line = right();
    line[0].2 = vec![2];
    assert!(matches!(dynamic(&line, Some(sets)), Err(GoldenError::Input { .. })));
}

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// What FP8_DYNAMIC says to a file of these tensors.
fn dynamic(tensors: &[Tensor], options: Option<&str>) -> Result<usize, GoldenError> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let metadata = options.map(|options| HashMap::from([("options".to_owned(), options.to_owned())]));
    held_by("FP8_DYNAMIC", safetensors::serialize(views, metadata).unwrap())
}

fn check(bytes: Vec<u8>) -> Result<usize, GoldenError> {
    held_by("W4A16_ASYM", bytes)
}

/// What the scheme says to golden vectors that are not its own.
fn held_by(name: &str, bytes: Vec<u8>) -> Result<usize, GoldenError> {
    // The vectors of a registration are there as long as the program.
    golden::check(&Registration { golden: bytes.leak(), ..*find(name).unwrap() })
}

/// Where a tensor stands in the file.
fn file_range(name: &str, file: &[u8]) -> (usize, usize) {
    let (header, metadata) = SafeTensors::read_metadata(file).unwrap();
    let (begin, end) = metadata.info(name).unwrap().data_offsets;
    (8 + header + begin, 8 + header + end)
}
