//! Scales that were looked for by their error: no proof takes them for altered, and it still knows one that was.

use std::fs;

use half::bf16;
use qwen_fp8::check::{Severity, lint, verify};
use qwen_fp8::checkpoint::manifest::{MANIFEST_FILE, Manifest};

use crate::support::folder::{Base, Folder, apply, source};

fn codes(dir: &std::path::Path) -> Vec<(&'static str, Severity)> {
    let verification = verify(dir, Some(&source()), &[], &()).unwrap();
    verification.findings.iter().map(|finding| (finding.rule.code, finding.severity)).collect()
}

#[test]
fn searched_scales_are_proven() {
    let root = tempfile::tempdir().unwrap();
    for base in [Base::Searched, Base::HalfSearched] {
        assert_eq!(codes(base.dir()), [], "{base:?}");
        assert_eq!(lint(base.dir(), &()).unwrap(), [], "{base:?}");
    }
    for (index, options) in [
        "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\n",
        "format: fp8\nscheme: FP8_BLOCK\nquotient_dtype: source\n",
        "format: compressed-tensors\nscheme: FP8_BLOCK\nblock_size: [64, 32]\nscale_dtype: f32\n",
        "format: compressed-tensors\nscheme: FP8_DYNAMIC\nscale_dtype: f32\nquotient_dtype: source\n",
    ]
    .into_iter()
    .enumerate()
    {
        let output = root.path().join(index.to_string());
        let recipe = format!("{options}scale_search: mse\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n");
        apply(&recipe, &source(), &output);
        let warnings: Vec<_> =
            codes(&output).into_iter().filter(|(code, _)| *code != "Q105" && *code != "Q309").collect();
        assert_eq!(warnings, [], "{options}");
    }
}

#[test]
fn scales_of_weights_of_every_magnitude_are_proven() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(&source());
    let name = "model.language_model.layers.0.mlp.down_proj.weight";
    let tensor = folder.tensor(name);
    // A row is as large as its number says, down to where scales are subnormal, and some rows are zero.
    for (at, element) in tensor.bytes.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let (row, number) = (at / tensor.shape[1], bf16::from_le_bytes(*element).to_f32());
        let size = if row % 16 == 7 { 0.0 } else { 2f32.powi((row as i32 - 124).min(116)) };
        *element = bf16::from_f32(number * size).to_le_bytes();
    }
    let hard = root.path().join("hard");
    folder.write(&hard);
    for (index, options) in ["", "scale_dtype: f32\n", "quotient_dtype: source\n"].into_iter().enumerate() {
        let output = root.path().join(index.to_string());
        let recipe = format!(
            "format: compressed-tensors\nscheme: FP8_DYNAMIC\nscale_search: mse\n{options}targets: \"re:.*down_proj\"\n"
        );
        apply(&recipe, &hard, &output);
        assert_eq!(verify(&output, Some(&hard), &[], &()).unwrap().findings, [], "{options}");
    }
}

/// Who has no manifest sees scales that follow no rule, which is a warning.
#[test]
fn the_manifest_names_the_weights_with_searched_scales() {
    let dir = tempfile::tempdir().unwrap();
    Folder::read(Base::Searched.dir()).write(dir.path());
    assert_eq!(codes(dir.path()), []);
    let mut manifest = Manifest::read(dir.path()).unwrap();
    let searched = manifest.actions.iter().filter(|action| action.scale_search.as_deref() == Some("mse")).count();
    assert_eq!(searched, 14);
    // As an earlier version has written it.
    manifest.actions.iter_mut().for_each(|action| action.scale_search = None);
    fs::write(dir.path().join(MANIFEST_FILE), manifest.text()).unwrap();
    assert!(codes(dir.path()).contains(&("Q507", Severity::Warning)));
    fs::remove_file(dir.path().join(MANIFEST_FILE)).unwrap();
    assert!(codes(dir.path()).contains(&("Q507", Severity::Warning)));
}
