//! FP8 codes that pass through under scales in another form.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use super::quantized_sources::run;
use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const Q: &str = "model.layers.0.self_attn.q_proj";
const EXPERT: &str = "model.layers.0.mlp.experts.0.gate_proj";

fn blocks() -> Value {
    json!({ "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
            "scale_fmt": "ue8m0" })
}

/// FP8 codes without NaN.
fn codes(rows: usize, columns: usize) -> Tensor {
    let bytes = (0..rows * columns).map(|at| (((at * 31 + at / columns) % 0x7F) | ((at % 2) << 7)) as u8).collect();
    Tensor { dtype: Dtype::F8_E4M3, shape: vec![rows, columns], bytes }
}

/// A weight of 128 rows with a block for every byte of E8M0 that has a value.
fn every_exponent(scene: &Scene, name: &str, dtype: Dtype, scale: &str) -> PathBuf {
    let mut tensors = Tensors::new();
    tensors.insert(format!("{Q}.weight"), codes(128, 255 * 128));
    tensors.insert(format!("{Q}.{scale}"), Tensor { dtype, shape: vec![1, 255], bytes: (0..=254).collect() });
    tensors.insert("model.embed_tokens.weight".to_owned(), Random::new(3).tensor(&[4, 8]));
    scene.checkpoint(name, &[tensors], json!({ "torch_dtype": "bfloat16", "quantization_config": blocks() }))
}

fn verified(output: &Path, source: &Path) -> (bool, String) {
    run(&["verify", output.to_str().unwrap(), "--source", source.to_str().unwrap()])
}

fn floats(output: &Output, name: &str) -> Vec<f32> {
    let tensor = output.tensor(name);
    assert_eq!(tensor.dtype, Dtype::F32);
    tensor.bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect()
}

#[test]
fn every_exponent_becomes_the_float_that_it_stands_for() {
    let scene = Scene::new();
    for (at, (dtype, scale)) in
        [(Dtype::F8_E8M0, "weight_scale_inv"), (Dtype::F8_E8M0, "scale"), (Dtype::U8, "weight_scale_inv")]
            .into_iter()
            .enumerate()
    {
        let source = every_exponent(&scene, &format!("source-{at}"), dtype, scale);
        for format in ["fp8", "compressed-tensors"] {
            let recipe =
                format!("format: {format}\nrules:\n- {{scheme: PASSTHROUGH, targets: Linear, scale_dtype: f32}}\n");
            let name = format!("{format}-{at}");
            let output = scene.apply(&recipe, &source, &name, &["--threads", "2"]);
            assert!(output.tensor(&format!("{Q}.weight")).bytes == codes(128, 255 * 128).bytes);
            let scale = if format == "fp8" { scale } else { "weight_scale" };
            let found = floats(&output, &format!("{Q}.{scale}"));
            let expected = (0..255).map(|byte| 2f64.powi(byte - 127));
            assert!(found.iter().map(|&scale| f64::from(scale)).eq(expected), "{name}");
            assert!(output.config["quantization_config"].get("scale_fmt").is_none());
            let (passes, said) = verified(&scene.path(&name), &source);
            assert!(passes && said.contains("proven") && said.contains("1 passed through"), "{name}: {said}");
            // Without its manifest it is proven too.
            std::fs::remove_file(scene.path(&name).join("qwen-fp8-manifest.json")).unwrap();
            let (passes, said) = verified(&scene.path(&name), &source);
            assert!(passes && said.contains("1 passed through"), "{name}: {said}");
        }
    }
    // As they are, compressed-tensors cannot hold them, and the message leads on.
    let recipe = "format: compressed-tensors\nrules:\n- {scheme: PASSTHROUGH, targets: Linear}\n";
    let said = scene.refused(recipe, &scene.path("source-0"));
    assert!(said.contains("scale_dtype: f32"), "{said}");
}

#[test]
fn one_scale_of_a_weight_is_repeated_for_its_rows() {
    let scene = Scene::new();
    let mut tensors = Tensors::new();
    let scalar =
        |number: f32| Tensor { dtype: Dtype::BF16, shape: vec![], bytes: number.to_bits().to_le_bytes()[2..].to_vec() };
    for (part, scale) in [("q_proj", 0.5f32), ("k_proj", 0.0078125), ("v_proj", 2.0)] {
        let module = Q.replace("q_proj", part);
        tensors.insert(format!("{module}.weight"), codes(64, 32));
        tensors.insert(format!("{module}.weight_scale_inv"), scalar(scale));
        tensors.insert(format!("{module}.activation_scale"), scalar(0.25));
    }
    tensors.insert("model.embed_tokens.weight".to_owned(), Random::new(3).tensor(&[4, 8]));
    let config = json!({ "quant_method": "fp8", "activation_scheme": "static", "weight_block_size": null });
    let source =
        scene.checkpoint("source", &[tensors], json!({ "torch_dtype": "bfloat16", "quantization_config": config }));
    let plain = "format: compressed-tensors\nrules:\n- {scheme: PASSTHROUGH, targets: Linear, granularity: channel}\n";
    // The ready recipe asks for F32 too.
    for (name, recipe) in [("plain", plain), ("ready", include_str!("../../recipes/from_fp8/tensors_to_channels.yaml"))]
    {
        let output = scene.apply(recipe, &source, name, &[]);
        for (part, number) in [("q_proj", 0.5f32), ("k_proj", 0.0078125), ("v_proj", 2.0)] {
            let module = Q.replace("q_proj", part);
            assert!(output.tensor(&format!("{module}.weight")).bytes == codes(64, 32).bytes);
            let scale = output.tensor(&format!("{module}.weight_scale"));
            assert_eq!(scale.shape, [64, 1]);
            let bytes = number.to_bits().to_le_bytes();
            let each = if name == "plain" { &bytes[2..] } else { &bytes[..] };
            assert!(scale.bytes == each.repeat(64), "{part}");
            assert!(output.tensor(&format!("{module}.input_scale")).bytes == scalar(0.25).bytes);
        }
        let group = &output.config["quantization_config"]["config_groups"]["group_0"];
        assert_eq!(
            (&group["weights"]["strategy"], &group["input_activations"]["strategy"]),
            (&json!("channel"), &json!("tensor"))
        );
        let dir = scene.path(name);
        let (passes, said) = verified(&dir, &source);
        assert!(passes && said.contains("3 passed through"), "{said}");
        let (passes, said) = run(&["lint", dir.to_str().unwrap()]);
        assert!(passes, "{said}");
        // One row under another scale.
        let mut paths = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let path = paths.find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let scale = file.tensor(&format!("{Q}.weight_scale")).unwrap().data();
        let at = scale.as_ptr() as usize - bytes.as_ptr() as usize + scale.len() - 1;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (passes, said) = verified(&dir, &source);
        assert!(!passes && said.contains(Q), "{said}");
    }
    let rule = "rules:\n- {scheme: PASSTHROUGH, targets: Linear, granularity: channel}\n";
    let said = scene.refused(&format!("format: fp8\n{rule}"), &source);
    assert!(said.contains("by one scale where the weight has one"), "{said}");
}

#[test]
fn scales_that_have_no_such_form_are_refused() {
    let scene = Scene::new();
    let source = every_exponent(&scene, "source", Dtype::F8_E8M0, "scale");
    let refused = |rule: &str, source: &Path| {
        scene.refused(&format!("format: compressed-tensors\nserving: warn\nrules:\n- {rule}\n"), source)
    };
    let said = refused("{scheme: PASSTHROUGH, targets: Linear, granularity: channel}", &source);
    assert!(said.contains("its scales are for blocks"), "{said}");
    let said = refused("{scheme: PASSTHROUGH, targets: Linear, scale_dtype: bf16}", &source);
    assert!(said.contains("f32"), "{said}");
    let experts = v4(&scene, "experts");
    let said = refused("{scheme: PASSTHROUGH, targets: Linear, scale_dtype: f32}", &experts);
    assert!(said.contains("it is MXFP4, and `scale_dtype` and `granularity` are for FP8"), "{said}");
}

/// A layer of DeepSeek-V4: FP8 under exponents, and an expert in MXFP4.
fn v4(scene: &Scene, name: &str) -> PathBuf {
    let mut tensors = Tensors::new();
    tensors.insert(format!("{Q}.weight"), codes(128, 256));
    let exponents = Tensor { dtype: Dtype::F8_E8M0, shape: vec![1, 2], bytes: vec![120, 131] };
    tensors.insert(format!("{Q}.scale"), exponents);
    let bytes: Vec<u8> = (0..128 * 64).map(|at| (at * 7 % 256) as u8).collect();
    tensors.insert(format!("{EXPERT}.weight"), Tensor { dtype: Dtype::I8, shape: vec![128, 64], bytes });
    let bytes: Vec<u8> = (0..128 * 4).map(|at| 118 + (at % 9) as u8).collect();
    tensors.insert(format!("{EXPERT}.scale"), Tensor { dtype: Dtype::F8_E8M0, shape: vec![128, 4], bytes });
    tensors.insert("model.embed_tokens.weight".to_owned(), Random::new(3).tensor(&[4, 8]));
    let mut config = blocks();
    config["expert_dtype"] = json!("fp4");
    scene.checkpoint(name, &[tensors], json!({ "torch_dtype": "bfloat16", "quantization_config": config }))
}

#[test]
fn the_ready_recipe_makes_fp8_of_all_of_it_without_loss() {
    let scene = Scene::new();
    let source = v4(&scene, "source");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/from_fp8/float_scales.yaml");
    let recipe = std::fs::read_to_string(recipe).unwrap();
    let output = scene.apply(&recipe, &source, "output", &[]);
    assert!(output.tensor(&format!("{Q}.weight")).bytes == codes(128, 256).bytes);
    assert_eq!(floats(&output, &format!("{Q}.scale")), [2f32.powi(-7), 2f32.powi(4)]);
    assert_eq!(output.tensor(&format!("{EXPERT}.weight")).dtype, Dtype::F8_E4M3);
    let (passes, said) = verified(&scene.path("output"), &source);
    assert!(passes && said.contains("1 passed through") && said.contains("1 quantized, lossless"), "{said}");
}
