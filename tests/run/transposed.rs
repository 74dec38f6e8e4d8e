//! AWQ and GPTQ as sources: what cannot be read is refused by name, what is damaged is told, and the source's own form
//! stays with its config.

use serde_json::{Value, json};

use super::quantized_sources::{DECODE, MODULE, Vector, run, vectors};
use crate::support::random::{Scene, Tensor, Tensors};

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

fn tensor<'t>(tensors: &'t mut Tensors, parameter: &str) -> &'t mut Tensor {
    tensors.get_mut(&format!("{MODULE}.{parameter}")).unwrap()
}

#[test]
fn a_config_that_cannot_be_read_is_refused_by_name() {
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("awq_f16", "version", json!("gemv"), &["`gemv` cannot be read", "`version: GEMM`"]),
        ("awq_f16", "checkpoint_format", json!("llm-awq"), &["`llm-awq` cannot be read"]),
        ("awq_f16", "bits", json!(3), &["AWQ with 3 bits"]),
        ("awq_f16", "zero_point", json!(false), &["without zero points", "AutoAWQConverter"]),
        ("awq_f16", "group_size", json!(0), &["`group_size` is `0`"]),
        ("awq_f16", "group_size", json!(40), &["96 columns", "no multiple of 40"]),
        ("gptq_int4_f16", "bits", json!(3), &["GPTQ with `3` bits", "2, 4 and 8 can"]),
        ("gptq_int4_f16", "bits", json!("4"), &["bits cannot be read"]),
        ("gptq_int4_f16", "bits", Value::Null, &["`bits` is missing"]),
        ("gptq_int4_f16", "checkpoint_format", json!("marlin"), &["`marlin`", "`gptq_v2` can be read"]),
        ("gptq_int4_f16", "is_marlin_format", json!(true), &["is_marlin_format"]),
        ("gptq_int4_f16", "pack_dtype", json!("int16"), &["int16"]),
        ("gptq_int4_f16", "dynamic", json!({ "-:.*down.*": {} }), &["`dynamic`"]),
        ("gptq_int4_f16", "rotation", json!("hadamard"), &["`rotation`"]),
        ("gptq_int4_f16", "group_size", json!(-2), &["`group_size` is `-2`"]),
    ];
    for (name, key, value, words) in cases {
        let scene = Scene::new();
        let source = vector(name).checkpoint(&scene, "source", |_, config| {
            config["quantization_config"][*key] = value.clone();
        });
        let said = scene.refused(DECODE, &source);
        for word in words.iter().chain(&["quantized already", "start from an original"]) {
            assert!(said.contains(word), "{name} {key}: {word}: {said}");
        }
        let (_, found) = run(&["lint", source.to_str().unwrap()]);
        // Rules that leave a quantized layer out are read by lint, which says so.
        assert!(["Q1", "Q201", "Q3"].iter().any(|code| found.contains(code)), "{name} {key}: {found}");
    }
    // Empty overrides are none.
    let scene = Scene::new();
    let source = vector("gptq_int4_f16").checkpoint(&scene, "source", |_, config| {
        config["quantization_config"]["dynamic"] = json!({});
    });
    scene.apply(DECODE, &source, "output", &[]);
}

/// A change of the tensors, and the words of the refusal.
type Damage = (&'static str, fn(&mut Tensors), &'static [&'static str]);

#[test]
fn a_tensor_of_another_form_is_refused_by_name() {
    const CASES: &[Damage] = &[
        ("awq_f16", |tensors| tensor(tensors, "qweight").shape = vec![768], &["qweight", "1 dimensions"]),
        ("awq_f16", |tensors| tensor(tensors, "qweight").shape = vec![8, 96], &["8 columns", "no multiple of 32"]),
        ("awq_f16", |tensors| tensor(tensors, "scales").shape = vec![64, 3], &["scales", "needs [3, 64]"]),
        ("awq_f16", |tensors| tensor(tensors, "qzeros").shape = vec![24], &["qzeros", "needs [3, 8]"]),
        (
            "awq_f16",
            |tensors| tensor(tensors, "qweight").dtype = safetensors::Dtype::F32,
            &["qweight", "is F32, not I32"],
        ),
        ("gptq_int4_f16", |tensors| tensor(tensors, "g_idx").shape = vec![2, 48], &["g_idx", "needs [96]"]),
        ("gptq_int4_f16", |tensors| tensor(tensors, "g_idx").dtype = safetensors::Dtype::F32, &["g_idx", "not I32"]),
        (
            "gptq_int4_rows",
            |tensors| {
                let extra = tensor(tensors, "g_idx").clone();
                tensors.insert(format!("{MODULE}.weight_scale"), extra);
            },
            &["weight_scale", "not known beside a weight"],
        ),
    ];
    for (name, change, words) in CASES {
        let scene = Scene::new();
        let source = vector(name).checkpoint(&scene, "source", |tensors, _| change(tensors));
        let said = scene.refused(DECODE, &source);
        for word in words.iter().chain(&[MODULE]) {
            assert!(said.contains(word), "{name}: {word}: {said}");
        }
        let (passes, found) = run(&["lint", source.to_str().unwrap()]);
        assert!(!passes && found.contains(MODULE), "{name}: {said} {found}");
    }
}

#[test]
fn a_column_in_a_group_that_is_not_there_is_told() {
    for group in [3i32, -1, i32::MAX] {
        let scene = Scene::new();
        let source = vector("gptq_int4_order").checkpoint(&scene, "source", |tensors, _| {
            tensor(tensors, "g_idx").bytes[20..24].copy_from_slice(&group.to_le_bytes());
        });
        let output = scene.path("output");
        let dirs = ["--model", source.to_str().unwrap(), "--output", output.to_str().unwrap()];
        let said = scene.run("apply", DECODE, &dirs).unwrap_err();
        let words = format!("g_idx` puts column 5 into group {group}, and there are 3");
        assert!(said.contains(&words) && said.contains("model") && said.contains("damaged"), "{said}");
        let (passes, found) = run(&["lint", source.to_str().unwrap()]);
        assert!(!passes && found.contains("Q314") && found.contains(&words), "{found}");
        let (passes, found) = run(&["verify", source.to_str().unwrap()]);
        assert!(!passes && found.contains("Q314"), "{found}");
    }
}

#[test]
fn what_passes_through_keeps_its_config_and_is_proven_to_the_byte() {
    for name in ["awq_bf16", "gptq_int4_order"] {
        let scene = Scene::new();
        let vector = vector(name);
        let source = vector.checkpoint(&scene, "source", |_, _| {});
        let recipe = "rules:\n- {scheme: PASSTHROUGH, targets: Linear}\n";
        let output = scene.apply(recipe, &source, "output", &[]);
        assert_eq!(output.config["quantization_config"], vector.config);
        for (parameter, tensor) in &vector.stored {
            assert!(output.tensor(&format!("{MODULE}.{parameter}")) == tensor, "{name}: {parameter}");
        }
        let dir = scene.path("output");
        let verify = ["verify", dir.to_str().unwrap(), "--source", source.to_str().unwrap()];
        let (passes, said) = run(&verify);
        assert!(passes && said.contains("proven"), "{said}");
        // A bit of every tensor.
        for (parameter, _) in &vector.stored {
            let path = dir.join("model.safetensors");
            let path = if path.exists() { path } else { dir.join("model-00001-of-00001.safetensors") };
            let whole = std::fs::read(&path).unwrap();
            let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
            let data = file.tensor(&format!("{MODULE}.{parameter}")).unwrap().data();
            let at = data.as_ptr() as usize - whole.as_ptr() as usize;
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let (passes, said) = run(&verify);
            assert!(!passes && said.contains(MODULE), "{name} {parameter}: {said}");
            std::fs::write(&path, whole).unwrap();
        }
    }
}

#[test]
fn a_quantized_head_is_decoded_where_the_config_says_so() {
    let scene = Scene::new();
    let vector = vector("gptq_int4_bf16");
    let decode = "rules:\n- {scheme: DEQUANTIZE, targets: LmHead}\n";
    for is_said in [true, false] {
        let source = vector.checkpoint(&scene, &format!("source-{is_said}"), |tensors, config| {
            let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(MODULE)).cloned().collect();
            for name in names {
                let moved = tensors.remove(&name).unwrap();
                tensors.insert(name.replace(MODULE, "lm_head"), moved);
            }
            config["quantization_config"]["lm_head"] = json!(is_said);
        });
        let output = scene.apply(decode, &source, &format!("output-{is_said}"), &[]);
        assert!(*output.tensor("lm_head.weight") == vector.decoded);
        let (_, found) = run(&["lint", source.to_str().unwrap()]);
        assert_eq!(found.contains("Q210"), !is_said, "{found}");
    }
}
