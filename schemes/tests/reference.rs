//! Bytes that llm-compressor wrote, where `shared/goldens.tar.xz` stands in a folder above; a clean skip elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Scheme, Simd, SourceDtype, find};
use safetensors::SafeTensors;
use serde_json::{Value, json};

#[test]
fn on_a_cpu() {
    let Some(goldens) = unpack("cpu") else { return };
    let mut compared = 0;
    for name in ["FP8", "FP8_BLOCK", "FP8_DYNAMIC"] {
        let scheme = scheme(name, json!({ "quotient_dtype": "source" }));
        for dtype in ["bf16", "f16", "f32"] {
            let file = std::fs::read(goldens.join(format!("goldens/ops/{name}_{dtype}.safetensors"))).unwrap();
            let file = SafeTensors::deserialize(&file).unwrap();
            for input in file.names().into_iter().filter(|name| name.ends_with(".input")) {
                let case = input.strip_suffix(".input").unwrap();
                let outputs = [format!("{case}.weight"), format!("{case}.weight_scale")];
                compared += compare(&*scheme, &file, input, &file, &outputs, &format!("{name} {dtype} {case}"));
            }
        }
    }
    assert!(compared > 50, "{compared} weights");
}

#[test]
fn on_a_gpu() {
    let Some(goldens) = unpack("gpu") else { return };
    let source = std::fs::read(goldens.join("goldens-gpu/source.safetensors")).unwrap();
    let source = SafeTensors::deserialize(&source).unwrap();
    let mut compared = 0;
    for name in ["FP8_BLOCK", "FP8_DYNAMIC"] {
        let scheme = scheme(name, json!({}));
        let file = std::fs::read(goldens.join(format!("goldens-gpu/{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        for input in source.names() {
            let module = input.strip_suffix(".weight").unwrap_or(input);
            let outputs = [format!("{module}.weight"), format!("{module}.weight_scale")];
            if outputs.iter().all(|output| file.tensor(output).is_ok()) {
                compared += compare(&*scheme, &source, input, &file, &outputs, &format!("{name} {input}"));
            }
        }
    }
    assert!(compared > 1, "{compared} weights");
}

fn scheme(name: &str, options: Value) -> Box<dyn Scheme> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name}") };
    make(options, Format::CompressedTensors).unwrap()
}

fn compare(
    scheme: &dyn Scheme,
    source: &SafeTensors<'_>,
    input: &str,
    golden: &SafeTensors<'_>,
    outputs: &[String; 2],
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
        for ((output, spec), made) in outputs.iter().zip(&specs).zip(&made) {
            let golden = golden.tensor(output).unwrap();
            assert_eq!((golden.dtype(), golden.shape()), (spec.dtype, &*spec.shape), "{case} {output}");
            assert!(golden.data() == made, "{case} {output}: other bytes, {simd}");
        }
    }
    1
}

/// Unpacks the goldens into a folder of this test.
fn unpack(name: &str) -> Option<PathBuf> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/goldens.tar.xz"))
        .find(|path| path.is_file())?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("goldens-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    let status = Command::new("tar").arg("xf").arg(archive).arg("-C").arg(&folder).status().ok()?;
    status.success().then_some(folder)
}
