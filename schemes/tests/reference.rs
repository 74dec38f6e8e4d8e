//! Bytes that llm-compressor wrote, where `shared/goldens.tar.xz` stands in a folder above; a clean skip elsewhere.

use std::path::Path;
use std::process::Command;

use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Scheme, Simd, SourceDtype, find};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Schemes whose quotients a CPU rounds twice and a GPU once.
const DIVIDED: [&str; 15] = [
    "FP8",
    "FP8_BLOCK",
    "FP8_DYNAMIC",
    "MXFP4",
    "W2A16",
    "W3A16",
    "W4A16",
    "W4A16_ASYM",
    "W4A8",
    "W4AFP8",
    "W5A16",
    "W6A16",
    "W7A16",
    "W8A16",
    "W8A8",
];

/// Schemes whose bytes are the same on both.
const EXACT: [&str; 2] = ["MXFP8", "NVFP4A16"];

#[test]
fn bytes_equal_those_of_llm_compressor_on_a_cpu() {
    let Some(goldens) = unpack() else { return };
    let mut compared = 0;
    let source = || json!({ "quotient_dtype": "source" });
    let all = DIVIDED.map(|name| (name, source())).into_iter().chain(EXACT.map(|name| (name, json!({}))));
    for (name, options) in all {
        let scheme = scheme(name, options);
        for dtype in ["bf16", "f16", "f32"] {
            let file = std::fs::read(goldens.path().join(format!("goldens/ops/{name}_{dtype}.safetensors"))).unwrap();
            let file = SafeTensors::deserialize(&file).unwrap();
            for input in file.names().into_iter().filter(|name| name.ends_with(".input")) {
                let case = input.strip_suffix(".input").unwrap();
                compared += compare(&*scheme, &file, input, &file, case, &format!("{name} {dtype} {case}"));
            }
        }
    }
    assert!(compared >= (DIVIDED.len() + EXACT.len()) * 3 * 15, "{compared} weights");
}

#[test]
fn bytes_equal_those_of_llm_compressor_on_a_gpu() {
    let Some(goldens) = unpack() else { return };
    let source = std::fs::read(goldens.path().join("goldens-gpu/source.safetensors")).unwrap();
    let source = SafeTensors::deserialize(&source).unwrap();
    for name in ["FP8_BLOCK", "FP8_DYNAMIC", "W4A16_ASYM", "W8A8"] {
        let scheme = scheme(name, json!({}));
        let file = std::fs::read(goldens.path().join(format!("goldens-gpu/{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let mut compared = 0;
        for input in source.names() {
            let module = input.strip_suffix(".weight").unwrap_or(input);
            if file.tensor(&format!("{module}.weight_scale")).is_ok() {
                compared += compare(&*scheme, &source, input, &file, module, &format!("{name} {input}"));
            }
        }
        assert!(compared > 1, "{name}: {compared} weights");
    }
}

fn scheme(name: &str, options: Value) -> Box<dyn Scheme> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name}") };
    make(options, Format::CompressedTensors).unwrap()
}

/// Compares what a scheme makes of `input` with all tensors of `golden` whose names begin with `module`.
fn compare(
    scheme: &dyn Scheme,
    source: &SafeTensors<'_>,
    input: &str,
    golden: &SafeTensors<'_>,
    module: &str,
    case: &str,
) -> usize {
    let input = source.tensor(input).unwrap();
    let &[rows, columns] = input.shape() else { panic!("{case}: {:?}", input.shape()) };
    let matrix = Matrix { dtype: SourceDtype::try_from(input.dtype()).unwrap(), rows, columns };
    let specs = scheme.outputs(matrix).unwrap();
    for simd in Simd::available() {
        let made = match quantize_whole(scheme, matrix, input.data(), 1, simd, 0) {
            Ok(made) => made,
            // The reference writes poison where this is refused (formats.md, sections 2.9 and 10).
            Err(poison) => {
                assert!(case.ends_with("bits"), "{case}: {poison}");
                return 0;
            }
        };
        for (spec, made) in specs.iter().zip(&made) {
            let golden = golden.tensor(&format!("{module}.{}", spec.suffix)).unwrap();
            assert_eq!((golden.dtype(), golden.shape()), (spec.dtype, &*spec.shape), "{case} {}", spec.suffix);
            assert!(golden.data() == made, "{case} {}: other bytes, {simd}", spec.suffix);
        }
    }
    let prefix = format!("{module}.weight");
    assert_eq!(golden.names().iter().filter(|name| name.starts_with(&prefix)).count(), specs.len(), "{case}");
    1
}

/// Unpacks the goldens into a folder of this test alone: another run of the suite may be at the same work.
fn unpack() -> Option<TempDir> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/goldens.tar.xz"))
        .find(|path| path.is_file())?;
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let status = Command::new("tar").arg("xf").arg(archive).arg("-C").arg(folder.path()).status().ok()?;
    status.success().then_some(folder)
}
