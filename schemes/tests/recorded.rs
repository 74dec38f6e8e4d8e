//! Bytes that the reference tools wrote, as the repository's `tests/golden` has them: every file that is there.

use std::path::Path;

use qwen_fp8_schemes::conformance::{quantize_whole, quantize_whole_keeping};
use qwen_fp8_schemes::{Format, Make, Matrix, NonFinite, Scheme, Simd, SourceDtype, find};
use safetensors::SafeTensors;

#[test]
fn every_golden_file_is_reproduced() {
    let files = compare_all("", quantize_whole);
    assert!(files >= 48, "{files} files");
}

#[test]
fn every_golden_file_of_non_finite_weights_is_reproduced() {
    assert_eq!(compare_all("nonfinite", quantize_whole_keeping), 9);
}

/// One of the ways to quantize a whole weight.
type Quantize = fn(&dyn Scheme, Matrix, &[u8], usize, Simd, u8) -> Result<Vec<Vec<u8>>, NonFinite>;

/// How many files of the folder were compared.
fn compare_all(folder: &str, quantize: Quantize) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.map(|path| compare(&path, quantize)).count()
}

fn compare(path: &Path, quantize: Quantize) {
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
            let made = quantize(&*scheme, source, input.data(), 1, simd, 0).unwrap();
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
