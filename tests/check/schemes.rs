//! Every scheme that `apply` knows, with its options: what it writes is sound, and its figures are those of its bits.

use std::path::Path;

use qwen_fp8::check::{Severity, Verdict, Verification, diff, lint, verify};
use qwen_fp8::schemes::{Format, Make, registered};

use crate::support::folder::{Folder, apply, source};

/// The result of a recipe in llm-compressor's format, verified.
fn verified(recipe: &str, source: &Path, output: &Path) -> Verification {
    apply(&format!("format: compressed-tensors\n{recipe}"), source, output);
    verify(output, Some(source), &[], &()).unwrap()
}

/// The least signal to noise, in decibels, that so many bits leave of normally distributed weights.
fn least_sqnr(name: &str) -> f64 {
    match name {
        _ if ["FP8", "MXFP8", "MXFP6"].iter().any(|start| name.starts_with(start)) => 30.0,
        _ if name.starts_with("MXFP4") => 17.0,
        _ if name.starts_with("NVFP4") => 19.0,
        // Six decibels a bit, less what lies between the largest weight of a group and the others.
        _ => f64::from(name[1..2].parse::<u8>().unwrap()) * 6.02 - 10.0,
    }
}

#[test]
fn every_scheme_is_proven() {
    let (root, source) = (tempfile::tempdir().unwrap(), source());
    let quantizing = || registered().into_iter().filter(|scheme| matches!(scheme.make, Make::Quantize(_)));
    let mut number = 0;
    for scheme in quantizing() {
        let name = scheme.name;
        let output = root.path().join(name);
        let options = if name == "NVFP4" { "input_scale: 1.0\n" } else { "" };
        let recipe = format!("scheme: {name}\n{options}targets: Linear\nignore: [\"re:.*visual.*\"]\n");
        let verification = verified(&recipe, &source, &output);
        assert_eq!(verification.findings, [], "{name}");
        assert_eq!((verification.verdict, verification.unproven), (Verdict::Proven, vec![]), "{name}");
        assert_eq!(lint(&output, &()).unwrap(), [], "{name}");
        assert_eq!(verify(&output, None, &[], &()).unwrap().findings, [], "{name}");
        assert_eq!(verification.tensors.len(), 70, "{name}");
        let figures: Vec<_> = verification.tensors.iter().filter_map(|tensor| tensor.figures).collect();
        assert_eq!(figures.len(), 14, "{name}");
        for figures in &figures {
            let sqnr = figures.sqnr_db.unwrap();
            let least = least_sqnr(name);
            assert!((least..least + 14.0).contains(&sqnr), "{name}: {sqnr}");
        }
        // By the same decoder, the two differ as much.
        let difference = diff(&source, &output, &()).unwrap();
        assert_eq!((difference.changed.len(), difference.identical), (14, 56), "{name}");
        assert!(difference.only_in_a.is_empty() && difference.only_in_b.is_empty(), "{name}");
        let noise = difference.changed.iter().map(|tensor| tensor.figures.unwrap().sqnr_db.unwrap());
        let least = figures.iter().map(|figures| figures.sqnr_db.unwrap()).fold(f64::INFINITY, f64::min);
        assert!((noise.fold(f64::INFINITY, f64::min) - least).abs() < 1e-3, "{name}");
        number += 1;
    }
    assert_eq!(number, quantizing().count());
    assert!(number >= 30);
}

#[test]
fn options_are_proven() {
    let (root, source) = (tempfile::tempdir().unwrap(), source());
    for (index, scheme) in [
        "W4A16\ngroup_size: 64",
        "W4A16\ngroup_size: channel",
        "W3A16\ngroup_size: channel",
        "W5A16\ngroup_size: tensor",
        "W2A16\nsymmetric: false",
        "W3A16\nsymmetric: false",
        "W7A16\nsymmetric: false\ngroup_size: 32",
        "W8A16\nsymmetric: false\ngroup_size: channel",
        "W4A16_ASYM\ngroup_size: 32",
        "W4A16_ASYM\nquotient_dtype: source",
        "W8A8\nsymmetric: false",
        "W8A8\ngroup_size: tensor\nactivations: dynamic_asymmetric",
        "W8A8\nquotient_dtype: source",
        "W4A8\nsymmetric: false\ngroup_size: 64",
        "W4AFP8\ngroup_size: channel",
        "MXFP4\nquotient_dtype: source",
        "FP8_DYNAMIC\nactivations: none",
        "FP8\nactivations: dynamic_tensor",
    ]
    .into_iter()
    .enumerate()
    {
        let output = root.path().join(index.to_string());
        let recipe = format!("scheme: {scheme}\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n");
        let verification = verified(&recipe, &source, &output);
        assert_eq!(verification.findings, [], "{scheme}");
        assert_eq!(lint(&output, &()).unwrap(), [], "{scheme}");
    }
}

/// Several schemes in one result, and the parts of a merged layer in one of them.
#[test]
fn a_mixture_is_proven() {
    let (root, source) = (tempfile::tempdir().unwrap(), source());
    let output = root.path().join("mixed");
    let rules = [
        ("NVFP4A16", "re:.*self_attn.[qkv]_proj"),
        ("FP8_DYNAMIC", "re:.*o_proj"),
        ("MXFP4A16", "re:.*layers.0.mlp.(gate|up)_proj"),
        ("W4A16_ASYM", "re:.*layers.1.mlp.(gate|up)_proj"),
        ("W8A8", "re:.*down_proj"),
    ];
    let rules: String =
        rules.map(|(scheme, target)| format!("  - scheme: {scheme}\n    targets: \"{target}\"\n")).concat();
    let verification = verified(&format!("rules:\n{rules}"), &source, &output);
    assert_eq!(verification.findings, []);
    assert_eq!(lint(&output, &()).unwrap(), []);
    let storages: std::collections::BTreeSet<_> =
        verification.tensors.iter().filter_map(|tensor| tensor.storage.clone()).collect();
    let expected = [
        "F8_E4M3 a scale per row",
        "INT8 a scale per row",
        "MXFP4 groups of 32 columns",
        "NVFP4 groups of 16 columns",
        "packed INT4 with zero points groups of 128 columns",
    ];
    assert_eq!(storages.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    // One of the parts in another form than its partner.
    let mut folder = Folder::read(&output);
    let groups = folder.quantization()["config_groups"].as_object_mut().unwrap();
    let up = serde_json::json!("model.language_model.layers.0.mlp.up_proj");
    for group in groups.values_mut() {
        let is_packed = group["format"] == "pack-quantized";
        let targets = group["targets"].as_array_mut().unwrap();
        targets.retain(|target| *target != up);
        if is_packed {
            targets.push(up.clone());
        }
    }
    let torn = root.path().join("torn");
    folder.write(&torn);
    let findings = lint(&torn, &()).unwrap();
    assert!(findings.iter().any(|finding| finding.rule.code == "Q207" && finding.severity == Severity::Error));
}

#[test]
fn the_fp8_layout_is_proven_for_the_schemes_that_it_holds() {
    let (root, source) = (tempfile::tempdir().unwrap(), source());
    let mut number = 0;
    for scheme in registered() {
        let Make::Quantize(make) = scheme.make else { continue };
        if make(serde_json::json!({}), Format::Fp8).is_err() || scheme.name == "FP8_DYNAMIC" {
            continue;
        }
        let output = root.path().join(scheme.name);
        let recipe = format!("format: fp8\nscheme: {}\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n", scheme.name);
        apply(&recipe, &source, &output);
        assert_eq!(verify(&output, Some(&source), &[], &()).unwrap().findings, [], "{}", scheme.name);
        number += 1;
    }
    assert_eq!(number, 2);
}
