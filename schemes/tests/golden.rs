//! The bytes that `golden/make.py` made, case by case, on every instruction set.

use std::path::Path;

use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Scheme, Simd, SourceDtype, find};
use safetensors::SafeTensors;
use serde_json::json;

#[test]
fn bf16_sources_give_the_recorded_bytes() {
    assert_eq!(compare("bf16"), 10 * 7);
}

#[test]
fn f16_sources_give_the_recorded_bytes() {
    assert_eq!(compare("f16"), 10 * 8);
}

#[test]
fn f32_sources_give_the_recorded_bytes() {
    assert_eq!(compare("f32"), 10 * 7);
}

fn compare(dtype: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{dtype}.safetensors"));
    let file = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut compared = 0;
    for name in file.names() {
        let Some(case) = name.strip_suffix(".weight") else { continue };
        let [kind, grouping, quotient, scale] = *case.split('.').collect::<Vec<_>>() else { panic!("{case}") };
        let input = file.tensor(&format!("{kind}.input")).unwrap();
        let &[rows, columns] = input.shape() else { panic!("{case}") };
        let source = Matrix { dtype: SourceDtype::try_from(input.dtype()).unwrap(), rows, columns };
        let scheme = scheme(grouping, quotient, if scale == dtype { "source" } else { scale });
        let specs = scheme.outputs(source).unwrap();
        for simd in Simd::available() {
            let made = quantize_whole(&*scheme, source, input.data(), 1, simd, 0).unwrap();
            for (spec, made) in specs.iter().zip(&made) {
                let golden = file.tensor(&format!("{case}.{}", spec.suffix)).unwrap();
                assert_eq!((spec.dtype, &*spec.shape), (golden.dtype(), golden.shape()), "{dtype} {case}");
                let place = (0..made.len()).find(|&place| made[place] != golden.data()[place]);
                assert_eq!(place, None, "{dtype} {case} {simd}: a byte of `{}` differs", spec.suffix);
            }
        }
        compared += 1;
    }
    compared
}

fn scheme(grouping: &str, quotient: &str, scale: &str) -> Box<dyn Scheme> {
    let mut options = json!({ "quotient_dtype": quotient, "scale_dtype": scale });
    let name = match grouping {
        "tensor" => "FP8",
        "channel" => "FP8_DYNAMIC",
        _ => {
            options["block_size"] = json!([4, 8]);
            "FP8_BLOCK"
        }
    };
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name}") };
    make(options, Format::CompressedTensors).unwrap()
}
