//! The models that people quantize, to the byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qwen_fp8::plan::Plan;
use qwen_fp8::plan::summary::Summary;
use serde_json::Value;

use super::{BLOCKS, plan, try_plan};
use crate::support::shapes::{self, Shapes};

/// Bytes of tensor data, and tensors, of the whole output.
fn totals(plan: &Plan) -> (u64, usize) {
    let bytes = plan.shards.iter().map(|shard| shard.data_len()).sum();
    (bytes, plan.shards.iter().map(|shard| shard.tensors.len()).sum())
}

fn quantization_config(plan: &Plan) -> Value {
    let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
    serde_json::from_slice::<Value>(config).unwrap()["quantization_config"].clone()
}

fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap();
    let names: BTreeSet<String> = list.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), list.len(), "a name stands twice in the list");
    names
}

/// The tensor-parallel sizes that fit.
fn fits(plan: &Plan) -> Vec<usize> {
    plan.alignments.iter().filter(|alignment| alignment.misfit.is_none()).map(|alignment| alignment.size).collect()
}

#[test]
fn qwen3_vl_8b_becomes_what_the_official_one_is() {
    let shapes = shapes::qwen3_vl_8b();
    assert_eq!((shapes.bytes(), shapes.tensors.len()), (17_534_247_392, 750));
    let bf16 = plan(BLOCKS, &shapes);
    let summary = Summary::of(&bf16);
    assert_eq!((summary.quantized_tensors, summary.copied_tensors), (252, 498));
    assert_eq!(totals(&bf16), (10_589_327_840, 1002));
    assert_eq!((summary.source_bytes, summary.output_bytes), (17_534_247_392, 10_589_327_840));

    let config = quantization_config(&bf16);
    let mut expected: BTreeSet<String> = BTreeSet::from(["lm_head".to_owned()]);
    for block in 0..27 {
        for layer in ["attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"] {
            expected.insert(format!("model.visual.blocks.{block}.{layer}"));
        }
    }
    for merger in ["merger", "deepstack_merger_list.0", "deepstack_merger_list.1", "deepstack_merger_list.2"] {
        expected.extend(["linear_fc1", "linear_fc2", "norm"].map(|layer| format!("model.visual.{merger}.{layer}")));
    }
    expected.extend(["model.visual.patch_embed.proj".to_owned(), "model.visual.pos_embed".to_owned()]);
    assert_eq!(expected.len(), 123);
    assert_eq!(names(&config["ignored_layers"]), expected);
    assert_eq!(config["modules_to_not_convert"], config["ignored_layers"]);
    assert_eq!(config["ignored_layers"][0], "lm_head");
    for (key, value) in [
        ("quant_method", Value::from("fp8")),
        ("fmt", "e4m3".into()),
        ("activation_scheme", "dynamic".into()),
        ("weight_block_size", vec![128, 128].into()),
    ] {
        assert_eq!(config[key], value, "{key}");
    }

    let f32 = plan(&BLOCKS.replace("block_size: 128", "block_size: 128\n    scale_dtype: f32"), &shapes);
    assert_eq!(totals(&f32), (10_590_175_712, 1002));
}

#[test]
fn every_dense_model_of_the_family_is_planned() {
    for (shapes, bytes, tensors, quantized, served) in [
        (shapes::qwen3_vl_2b(), 4_255_064_064, 625, 28 * 7, &[1, 2, 4, 8, 16][..]),
        (shapes::qwen3_vl_4b(), 8_875_631_616, 713, 36 * 7, &[1, 2, 4]),
        (shapes::qwen3_vl_8b(), 17_534_247_392, 750, 36 * 7, &[1, 2, 4, 8, 16]),
        (shapes::qwen3_vl_32b(), 66_714_780_128, 1058, 64 * 7, &[1, 2, 4, 8]),
        (shapes::qwen3_8b(), 16_381_470_720, 399, 36 * 7, &[1, 2, 4, 8, 16]),
    ] {
        assert_eq!((shapes.bytes(), shapes.tensors.len()), (bytes, tensors));
        let plan = plan(BLOCKS, &shapes);
        assert_eq!(Summary::of(&plan).quantized_tensors, quantized);
        assert_eq!(totals(&plan).1, tensors + quantized);
        assert_eq!(fits(&plan), served);
        assert_eq!(plan.warnings, []);
    }
}

#[test]
fn experts_one_by_one_are_quantized_and_their_routers_listed() {
    let plan = plan(BLOCKS, &shapes::qwen3_vl_30b_per_expert());
    assert_eq!(Summary::of(&plan).quantized_tensors, 48 * (4 + 3 * 128));
    let listed = names(&quantization_config(&plan)["ignored_layers"]);
    assert_eq!(listed.len(), 123 + 48);
    assert!(listed.contains("model.language_model.layers.47.mlp.gate"));
    // 768 columns over four are 192, which is no whole number of blocks; the four key heads are copied to eight GPUs.
    assert_eq!(fits(&plan), [1, 2]);
}

#[test]
fn stacked_experts_are_refused_until_the_recipe_says_what_becomes_of_them() {
    let shapes = shapes::qwen3_vl_30b_stacked();
    assert_eq!((shapes.bytes(), shapes.tensors.len()), (62_141_508_064, 882));
    let findings = try_plan(BLOCKS, &shapes).unwrap_err();
    assert!(findings[0].message.contains("96 tensors of stacked experts"), "{findings:#?}");
    let keep = BLOCKS.replace("rules:", "rules:\n  - {scheme: PASSTHROUGH, targets: [Experts]}");
    let plan = plan(&keep, &shapes);
    assert_eq!(Summary::of(&plan).quantized_tensors, 48 * 4);
    let listed = names(&quantization_config(&plan)["ignored_layers"]);
    assert!(listed.contains("model.language_model.layers.0.mlp.experts"));
}

/// The lists that the reference was asked for, where they lie beside the repository.
fn shared(path: &str) -> Option<Value> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1).map(|above| above.join("shared").join(path));
    let found = beside.into_iter().find(|path| path.exists())?;
    Some(serde_json::from_slice(&fs::read(found).unwrap()).unwrap())
}

#[test]
fn the_formulas_are_the_real_shapes() {
    for (name, shapes) in models() {
        let Some(list) = shared(&format!("shapes/qwen3_vl_{name}_tensors.json")) else { continue };
        let expected = list["tensors"].as_object().unwrap();
        assert_eq!(shapes.names(), {
            let mut names: Vec<&str> = expected.keys().map(String::as_str).collect();
            names.sort_unstable();
            names
        });
        for tensor in &shapes.tensors {
            let text = expected[&tensor.name].to_string();
            let shape = serde_json::to_string(&tensor.shape).unwrap();
            assert!(text.contains(&shape), "{name} {}: {shape} in {text}", tensor.name);
        }
    }
}

#[test]
fn the_lists_of_unquantized_modules_are_the_recommended_ones() {
    for (name, shapes) in models() {
        let path = format!("configs/qwen3_vl_{name}_recommended_fp8_block_quantization_config.json");
        let Some(expected) = shared(&path) else { continue };
        let shapes = if name == "30b_a3b" { shapes::qwen3_vl_30b_per_expert() } else { shapes };
        let config = quantization_config(&plan(BLOCKS, &shapes));
        assert_eq!(names(&config["modules_to_not_convert"]), names(&expected["modules_to_not_convert"]), "{name}");
        for (key, value) in expected.as_object().unwrap() {
            // The list itself was compared as a set.
            if value.as_array().is_none_or(|list| list.len() == 2) {
                assert_eq!(&config[key], value, "{name} {key}");
            }
        }
    }
}

fn models() -> [(&'static str, Shapes); 5] {
    [
        ("2b", shapes::qwen3_vl_2b()),
        ("4b", shapes::qwen3_vl_4b()),
        ("8b", shapes::qwen3_vl_8b()),
        ("32b", shapes::qwen3_vl_32b()),
        ("30b_a3b", shapes::qwen3_vl_30b_stacked()),
    ]
}
