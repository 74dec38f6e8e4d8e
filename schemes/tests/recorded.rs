//! Bytes that the reference tools wrote, as the repository's `tests/golden` has them: every file that is there.

use std::path::Path;

use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Simd, SourceDtype, find};
use safetensors::SafeTensors;

#[test]
fn every_file_is_made_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            compare(&path);
            files += 1;
        }
    }
    assert!(files >= 48, "{files} files");
}

fn compare(path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let Make::Quantize(make) = find(&metadata["scheme"]).unwrap().make else { panic!("{name}") };
    let scheme = make(serde_json::from_str(&metadata["options"]).unwrap(), Format::CompressedTensors).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut stored = 0;
    for kind in file.names().into_iter().filter_map(|name| name.strip_suffix(".input")) {
        let input = file.tensor(&format!("{kind}.input")).unwrap();
        let &[rows, columns] = input.shape() else { panic!("{name} {kind}") };
        let source = Matrix { dtype: SourceDtype::try_from(input.dtype()).unwrap(), rows, columns };
        let specs = scheme.outputs(source).unwrap();
        stored += 1 + specs.len();
        for simd in Simd::available() {
            let made = quantize_whole(&*scheme, source, input.data(), 1, simd, 0).unwrap();
            for (spec, made) in specs.iter().zip(&made) {
                let golden = file.tensor(&format!("{kind}.{}", spec.suffix)).unwrap();
                assert_eq!((golden.dtype(), golden.shape()), (spec.dtype, &*spec.shape), "{name} {kind}");
                let place = (0..made.len()).find(|&place| made[place] != golden.data()[place]);
                assert_eq!(place, None, "{name} {kind} {simd}: a byte of `{}` differs", spec.suffix);
            }
        }
    }
    assert_eq!(stored, file.len(), "{name}: every tensor is looked at");
}
