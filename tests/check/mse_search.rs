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

/// Recipes of searches for groups: integers, MXFP4 and NVFP4.
const GROUPS: [&str; 9] = [
    "scheme: W4A16\nscale_search: mse\n",
    "scheme: W4A16\nscale_search: mse\nquotient_dtype: source\n",
    "scheme: W8A16\nscale_search: mse\ngroup_size: channel\nquotient_dtype: source\n",
    "scheme: W4A16_ASYM\nscale_search: mse\n",
    "scheme: W8A8\nscale_search: mse\nsymmetric: false\nquotient_dtype: source\n",
    "scheme: MXFP4\nscale_search: mse\n",
    "scheme: MXFP4A16\nscale_search: mse\nquotient_dtype: source\n",
    "scheme: NVFP4A16\nscale_search: mse\n",
    "scheme: NVFP4A16\nscale_search: four_over_six\n",
];

fn search_groups(options: &str, source: &std::path::Path, output: &std::path::Path) {
    let recipe =
        format!("format: compressed-tensors\nserving: warn\n{options}targets: Linear\nignore: [\"re:.*visual.*\"]\n");
    apply(&recipe, source, output);
}

#[test]
fn searched_scales_of_groups_are_proven() {
    let root = tempfile::tempdir().unwrap();
    let of_dtype = |name: &str, widen: fn(bf16) -> Vec<u8>| {
        let mut folder = Folder::read(&source());
        for tensor in folder.shards.values_mut().flat_map(|shard| shard.values_mut()).filter(|it| it.dtype == "BF16") {
            tensor.bytes = tensor.bytes.as_chunks().0.iter().flat_map(|&raw| widen(bf16::from_le_bytes(raw))).collect();
            tensor.dtype = name.to_owned();
        }
        let dir = root.path().join(name);
        folder.write(&dir);
        dir
    };
    let half = of_dtype("F16", |number| half::f16::from_f32(number.to_f32()).to_le_bytes().to_vec());
    let single = of_dtype("F32", |number| (number.to_f32() * 1.000_1).to_le_bytes().to_vec());
    for (index, options) in GROUPS.into_iter().enumerate() {
        for source in [&source(), &half, &single] {
            let output = root.path().join(format!("{index}-{}", source.file_name().unwrap().display()));
            search_groups(options, source, &output);
            let found = verify(&output, Some(source), &[], &()).unwrap().findings;
            let faults: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Error).collect();
            assert!(faults.is_empty(), "{options}{}: {faults:?}", source.display());
            assert!(found.iter().all(|it| !["Q502", "Q506", "Q507"].contains(&it.rule.code)), "{options}: {found:?}");
        }
    }
}

/// A scale that no search finds is noticed, whatever the codes are, and so is a global scale of another rule.
#[test]
fn an_altered_scale_of_a_group_is_found() {
    let root = tempfile::tempdir().unwrap();
    let module = "model.language_model.layers.0.mlp.down_proj";
    let spoilt = |index: usize, suffix: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let (made, output) = (root.path().join("made"), root.path().join("spoilt"));
        let _ = (fs::remove_dir_all(&made), fs::remove_dir_all(&output));
        search_groups(GROUPS[index], &source(), &made);
        let mut folder = Folder::read(&made);
        spoil(&mut folder.tensor(&format!("{module}.{suffix}")).bytes);
        folder.write(&output);
        codes(&output)
    };
    for index in [0, 3, 5, 7, 8] {
        // The highest bit of the mantissa of a BF16 scale, or an octave of one that is a byte.
        let found = spoilt(index, "weight_scale", &|bytes| bytes[0] ^= if index < 5 { 0x40 } else { 8 });
        let judged =
            found.iter().any(|(code, severity)| ["Q502", "Q506"].contains(code) && *severity == Severity::Error);
        assert!(judged, "{}: {found:?}", GROUPS[index]);
    }
    for (index, plain) in [(7, 1536.0 / 2688.0), (8, 2688.0 / 1536.0)] {
        let rescale = |bytes: &mut Vec<u8>| {
            let scale = f32::from_le_bytes(bytes[..].try_into().unwrap()) * plain;
            *bytes = scale.to_le_bytes().to_vec();
        };
        let found = spoilt(index, "weight_global_scale", &rescale);
        assert!(found.iter().any(|(_, severity)| *severity == Severity::Error), "{}: {found:?}", GROUPS[index]);
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
