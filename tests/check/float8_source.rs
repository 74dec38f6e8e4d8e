//! Sources that are FP8 already: layers that were passed through, decoded or quantized again, by hand and by the program.

use std::path::{Path, PathBuf};

use half::bf16;
use qwen_fp8::check::{CheckError, CheckedAs, Verdict, Verification, verify};
use serde_json::{Value, json};

use crate::support::folder::{Base, Folder, Tensor, apply, source};

const Q: &str = "model.language_model.layers.0.self_attn.q_proj";
const DOWN: &str = "model.language_model.layers.1.mlp.down_proj";

/// FP8 checkpoints of every form.
fn sources() -> Vec<(&'static str, PathBuf)> {
    static ROOT: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let root = tempfile::tempdir().unwrap();
        for (name, recipe) in [
            ("tensor", "format: fp8\nscheme: FP8\n"),
            ("tensor-ct", "format: compressed-tensors\nscheme: FP8\n"),
            ("rows-f32", "format: compressed-tensors\nscheme: FP8_DYNAMIC\nscale_dtype: f32\n"),
            ("blocks-ct", "format: compressed-tensors\nscheme: FP8_BLOCK\n"),
        ] {
            let recipe = format!("{recipe}targets: Linear\nignore: [\"re:.*visual.*\"]\n");
            apply(&recipe, &source(), &root.path().join(name));
        }
        // Rows whose scales are written flat, as some tools do.
        let mut flat = Folder::read(Base::Channel.dir());
        for (name, tensor) in flat.shards.values_mut().flatten() {
            if name.ends_with("weight_scale") {
                tensor.shape.pop();
            }
        }
        flat.write(&root.path().join("flat"));
        root
    });
    let made = ["tensor", "tensor-ct", "rows-f32", "blocks-ct", "flat"].map(|name| (name, root.path().join(name)));
    let bases = [Base::Block, Base::BlockF32, Base::Channel, Base::Searched, Base::HalfSearched];
    bases.iter().map(|base| ("base", base.dir().to_owned())).chain(made).collect()
}

/// By the definition: sign, four bits of exponent, three of mantissa.
fn number(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) };
    if code < 128 { magnitude } else { -magnitude }
}

fn scales(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype.as_str() {
        "BF16" => tensor.bytes.as_chunks().0.iter().map(|raw| bf16::from_le_bytes(*raw).to_f32()).collect(),
        "F32" => tensor.bytes.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect(),
        other => panic!("{other}"),
    }
}

/// Replaces the codes of a layer by what they stand for.
fn decode(folder: &mut Folder, module: &str) {
    let scale = ["weight_scale", "weight_scale_inv"].map(|suffix| format!("{module}.{suffix}"));
    let is_there = |name: &&String| folder.shards.values().any(|tensors| tensors.contains_key(*name));
    let scale = scale.iter().find(is_there).unwrap().clone();
    let (scale, weight) = (folder.remove(&scale), folder.tensor(&format!("{module}.weight")));
    let (factors, [rows, columns]) = (scales(&scale), [weight.shape[0], weight.shape[1]]);
    let factor = |row: usize, column: usize| match (factors.len(), &scale.shape[..]) {
        (1, _) => factors[0],
        (number, _) if number == rows => factors[row],
        (_, [_, across]) => factors[row / 128 * across + column / 128],
        _ => panic!("{:?}", scale.shape),
    };
    let value = |(at, code): (usize, &u8)| bf16::from_f32(number(*code) * factor(at / columns, at % columns));
    let bytes = weight.bytes.iter().enumerate().flat_map(|at| value(at).to_le_bytes()).collect();
    *weight = Tensor { dtype: "BF16".to_owned(), bytes, ..weight.clone() };
}

fn quantized_modules(folder: &Folder) -> Vec<String> {
    let tensors = folder.shards.values().flatten().filter(|(_, tensor)| tensor.dtype == "F8_E4M3");
    tensors.map(|(name, _)| name.strip_suffix(".weight").unwrap().to_owned()).collect()
}

fn check(folder: &Folder, source: &Path) -> Verification {
    let output = tempfile::tempdir().unwrap();
    let mut folder = folder.clone();
    // Results of hand have no manifest.
    folder.others.remove("qwen-fp8-manifest.json");
    folder.write(output.path());
    verify(output.path(), Some(source), &[], &()).unwrap()
}

fn codes(verification: &Verification) -> Vec<(&'static str, String)> {
    let findings = verification.findings.iter();
    let of = |finding: &qwen_fp8::check::Finding| (finding.rule.code, finding.place.tensor.clone().unwrap_or_default());
    findings.map(of).filter(|(code, _)| *code != "Q107").collect()
}

fn count(verification: &Verification, action: CheckedAs) -> usize {
    verification.tensors.iter().filter(|tensor| tensor.action == action).count()
}

#[test]
fn layers_that_pass_through_are_proven() {
    for (name, source) in sources() {
        let mut folder = Folder::read(&source);
        let verification = check(&folder, &source);
        // A flat scale is none that servers load, wherever it comes from.
        let rest: Vec<_> =
            codes(&verification).into_iter().filter(|(code, _)| name != "flat" || *code != "Q304").collect();
        assert_eq!(rest, [], "{name}");
        assert_eq!(
            (count(&verification, CheckedAs::PassedThrough), count(&verification, CheckedAs::Copied)),
            (14, 56),
            "{name}"
        );
        // The flat ones as they should be.
        for (name, tensor) in folder.shards.values_mut().flatten() {
            if name.ends_with("weight_scale") && tensor.shape.len() == 1 && tensor.shape[0] > 1 {
                tensor.shape.push(1);
            }
        }
        assert_eq!(codes(&check(&folder, &source)), [], "{name}");
    }
}

#[test]
fn names_and_config_of_the_other_format_are_proven() {
    let mut folder = Folder::read(Base::Block.dir());
    let listed = folder.quantization()["ignored_layers"].clone();
    for module in quantized_modules(&folder) {
        folder.rename(&format!("{module}.weight_scale_inv"), &format!("{module}.weight_scale"));
    }
    let arguments = |strategy: &str, dynamic: bool| {
        let mut arguments =
            json!({ "num_bits": 8, "type": "float", "symmetric": true, "strategy": strategy, "dynamic": dynamic });
        arguments["block_structure"] = json!([128, 128]);
        arguments["group_size"] = json!(128);
        arguments
    };
    folder.config["quantization_config"] = json!({
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": { "group_0": {
            "targets": ["Linear"],
            "weights": arguments("block", false),
            "input_activations": arguments("group", true),
        } },
        "ignore": listed,
    });
    let verification = check(&folder, Base::Block.dir());
    assert_eq!(codes(&verification), []);
    assert_eq!(count(&verification, CheckedAs::PassedThrough), 14);
    // And the other way round, by the program.
    let root = tempfile::tempdir().unwrap();
    let (other, back) = (root.path().join("other"), root.path().join("back"));
    folder.write(&other);
    apply("format: fp8\nscheme: PASSTHROUGH\ntargets: Linear\n", &other, &back);
    let verification = verify(&back, Some(&other), &[], &()).unwrap();
    assert_eq!((codes(&verification), count(&verification, CheckedAs::PassedThrough)), (vec![], 14));
}

#[test]
fn dequantized_layers_are_proven() {
    for (name, source) in sources() {
        let mut folder = Folder::read(&source);
        for module in quantized_modules(&folder) {
            decode(&mut folder, &module);
        }
        folder.config.remove("quantization_config");
        let verification = check(&folder, &source);
        assert_eq!(codes(&verification), [], "{name}");
        assert_eq!(
            (count(&verification, CheckedAs::Dequantized), count(&verification, CheckedAs::Copied)),
            (14, 56),
            "{name}"
        );
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("output");
        apply("rules:\n  - {scheme: DEQUANTIZE, targets: Linear}\n", &source, &output);
        let verification = verify(&output, Some(&source), &[], &()).unwrap();
        assert_eq!((codes(&verification), count(&verification, CheckedAs::Dequantized)), (vec![], 14), "{name}");
        // Nothing is missed: one bit, another rounding, another dtype.
        let mut spoilt = folder.clone();
        spoilt.tensor(&format!("{Q}.weight")).bytes[1000] ^= 1;
        assert_eq!(codes(&check(&spoilt, &source)), [("Q501", format!("{Q}.weight"))], "{name}");
        let mut spoilt = folder.clone();
        spoilt.tensor(&format!("{DOWN}.weight")).dtype = "F16".to_owned();
        assert_eq!(codes(&check(&spoilt, &source)), [("Q505", format!("{DOWN}.weight"))], "{name}");
        folder.remove(&format!("{DOWN}.weight"));
        assert_eq!(codes(&check(&folder, &source)), [("Q503", format!("{DOWN}.weight"))], "{name}");
    }
}

#[test]
fn requantized_layers_are_proven() {
    let root = tempfile::tempdir().unwrap();
    // Every third: blocks, scales that were searched for, one scale, flat ones.
    for (index, (name, source)) in sources().into_iter().enumerate().step_by(3) {
        for scheme in ["FP8_DYNAMIC", "FP8_BLOCK\nscale_dtype: f32", "FP8", "W8A8", "W4A16_ASYM", "MXFP4", "NVFP4A16"] {
            let output = root.path().join(format!("{index}-{}", scheme.replace('\n', "-")));
            let recipe = format!(
                "format: compressed-tensors\nscheme: {scheme}\nrequantize: true\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n"
            );
            apply(&recipe, &source, &output);
            let verification = verify(&output, Some(&source), &[], &()).unwrap();
            assert_eq!(codes(&verification), [], "{name} {scheme}");
            let (again, carried) =
                (count(&verification, CheckedAs::Quantized), count(&verification, CheckedAs::PassedThrough));
            // To the same form it is a round trip, which keeps every byte, or nearly.
            assert_eq!(again + carried, 14, "{name} {scheme}");
            assert!(again == 14 || scheme.starts_with("FP8"), "{name} {scheme}");
            let mut folder = Folder::read(&output);
            let suffix =
                if scheme.contains("FP8_") || scheme == "FP8" || scheme == "W8A8" { "weight" } else { "weight_packed" };
            let codes_of_q = format!("{Q}.{suffix}");
            let bytes = &mut folder.tensor(&codes_of_q).bytes;
            let at = bytes.iter().position(|code| (0x30..0x70).contains(code)).unwrap();
            bytes[at] ^= 0x04;
            let spoilt = root.path().join("spoilt");
            folder.write(&spoilt);
            let found = codes(&verify(&spoilt, Some(&source), &[], &()).unwrap());
            let is_found =
                |code: &str| found.contains(&(if code == "Q501" { "Q501" } else { "Q502" }, codes_of_q.clone()));
            assert!(is_found("Q501") || is_found("Q502"), "{name} {scheme}: {found:?}");
        }
    }
}

#[test]
fn layers_of_every_kind_beside_each_other_are_proven() {
    let root = tempfile::tempdir().unwrap();
    let output = root.path().join("output");
    let rules = "format: compressed-tensors
rules:
  - {scheme: PASSTHROUGH, targets: \"re:.*language_model.layers.0.*_proj\"}
  - {scheme: DEQUANTIZE, targets: \"re:.*layers.1.self_attn.*\"}
  - {scheme: W4A16, requantize: true, targets: \"re:.*layers.1.mlp.*\"}
";
    apply(rules, Base::Channel.dir(), &output);
    let verification = verify(&output, Some(Base::Channel.dir()), &[], &()).unwrap();
    assert_eq!(codes(&verification), []);
    let actions = [CheckedAs::PassedThrough, CheckedAs::Dequantized, CheckedAs::Quantized, CheckedAs::Copied];
    assert_eq!(actions.map(|action| count(&verification, action)), [7, 4, 3, 56]);
    // The manifest says what was passed through, and then it is the source's to the last bit of a scale.
    let mut folder = Folder::read(&output);
    folder.tensor(&format!("{Q}.weight_scale")).bytes[0] ^= 1;
    let spoilt = root.path().join("spoilt");
    folder.write(&spoilt);
    let found = codes(&verify(&spoilt, Some(Base::Channel.dir()), &[], &()).unwrap());
    assert_eq!(found, [("Q501", format!("{Q}.weight_scale"))]);
}

#[test]
fn altered_layers_that_pass_through_are_found() {
    type Spoil = fn(&mut Folder, &str);
    let weight = |module: &str| format!("{module}.weight");
    let spoils: [(&str, &str, Spoil); 8] = [
        ("a code", "Q501", |folder, _| folder.tensor(&format!("{Q}.weight")).bytes[300] ^= 1),
        ("a scale's lowest bit", "Q506", |folder, scale| folder.tensor(&format!("{Q}.{scale}")).bytes[0] ^= 1),
        ("another layer", "Q502", |folder, scale| {
            for suffix in ["weight", scale] {
                folder.swap(
                    &format!("{Q}.{suffix}"),
                    &format!("model.language_model.layers.1.self_attn.q_proj.{suffix}"),
                );
            }
        }),
        ("a NaN", "Q501", |folder, _| folder.tensor(&format!("{Q}.weight")).bytes[300] = 0x7F),
        ("a lost scale", "Q301", |folder, scale| drop(folder.remove(&format!("{Q}.{scale}")))),
        ("a lost layer", "Q503", |folder, scale| {
            ["weight", scale].iter().for_each(|suffix| drop(folder.remove(&format!("{Q}.{suffix}"))));
        }),
        ("an extra layer", "Q504", |folder, scale| {
            for suffix in ["weight", scale] {
                let tensor = folder.tensor(&format!("{Q}.{suffix}")).clone();
                folder.add(&format!("model.language_model.layers.0.self_attn.r_proj.{suffix}"), tensor);
            }
        }),
        ("a scale in another dtype", "Q502", |folder, scale| {
            let tensor = folder.tensor(&format!("{Q}.{scale}"));
            tensor.dtype = if tensor.dtype == "BF16" { "F16" } else { "I32" }.to_owned();
        }),
    ];
    for (base, scale) in [(Base::Block, "weight_scale_inv"), (Base::Channel, "weight_scale")] {
        for (what, code, spoil) in spoils {
            let mut folder = Folder::read(base.dir());
            spoil(&mut folder, scale);
            let verification = check(&folder, base.dir());
            let found = codes(&verification);
            assert!(found.iter().any(|(found, _)| *found == code), "{base:?} {what}: {found:?}");
            assert!(verification.verdict == Verdict::AtFault, "{base:?} {what}");
            // The scale of a lost weight is not missed as well.
            assert!(code != "Q503" || found == [("Q503", weight(Q))], "{base:?} {what}: {found:?}");
        }
    }
}

/// Every form is read as a source: the values differ where the result was made from others, and that is a finding.
#[test]
fn sources_in_another_form_are_compared_by_value() {
    for base in [Base::Packed, Base::Int8, Base::Mxfp8, Base::Nvfp4, Base::Mixed] {
        let verification = verify(Base::Block.dir(), Some(base.dir()), &[], &()).unwrap();
        let found = codes(&verification);
        assert!(found.iter().any(|(code, _)| *code == "Q502"), "{base:?}: {found:?}");
    }
}

#[test]
fn other_quantized_checkpoints_are_refused_as_sources() {
    let refused = |output: &Path, source: &Path| {
        matches!(verify(output, Some(source), &[], &()).unwrap_err(), CheckError::QuantizedSource(_))
    };
    let dir = tempfile::tempdir().unwrap();
    for spoil in [
        |folder: &mut Folder| drop(folder.quantization().insert("scale_fmt".to_owned(), json!("ue4m3"))),
        |folder: &mut Folder| drop(folder.quantization().insert("quant_method".to_owned(), json!("fbgemm_fp8"))),
        |folder: &mut Folder| drop(folder.config.insert("quantization_config".to_owned(), Value::from("fp8"))),
    ] {
        let mut folder = Folder::read(Base::Block.dir());
        spoil(&mut folder);
        folder.write(dir.path());
        assert!(refused(Base::Block.dir(), dir.path()));
    }
}
