//! Sources with an FP8 cache of keys and values: its scales are kept, and `config.json` goes on to ask for it.

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::quantized_sources::{DECODE, MODULE, run, vectors};
use crate::support::random::{Scene, Tensor, Tensors};

/// The scales as llm-compressor and ModelOpt name them.
const NAMES: [[&str; 2]; 2] =
    [["self_attn.k_scale", "self_attn.v_scale"], ["self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale"]];

fn pass(format: &str) -> String {
    format!("format: {format}\nserving: warn\nrules:\n- {{scheme: PASSTHROUGH, targets: Linear}}\n")
}

fn scale(value: f32) -> Tensor {
    Tensor { dtype: Dtype::F32, shape: vec![1], bytes: value.to_le_bytes().to_vec() }
}

fn add(tensors: &mut Tensors, names: [&str; 2]) -> [String; 2] {
    let names = names.map(|name| format!("model.layers.0.{name}"));
    for (name, value) in names.iter().zip([0.25, 0.375]) {
        tensors.insert(name.clone(), scale(value));
    }
    names
}

/// As compressed-tensors declares an FP8 cache.
fn declare(config: &mut Value) {
    config["quantization_config"]["kv_cache_scheme"] =
        json!({ "num_bits": 8, "type": "float", "symmetric": true, "strategy": "tensor", "dynamic": false });
}

#[test]
fn a_cache_stays_fp8_under_its_scales() {
    let vector = vectors().into_iter().find(|vector| vector.name == "ct_mxfp8").unwrap();
    for names in NAMES {
        let (scene, mut stored) = (Scene::new(), Default::default());
        let source = vector.checkpoint(&scene, "source", |tensors, config| {
            stored = add(tensors, names);
            declare(config);
        });
        let (passes, said) = run(&["lint", source.to_str().unwrap()]);
        assert!(passes, "{names:?}: {said}");
        // Passed through, the cache is asked for as before; decoded, there is no config to ask in.
        for (recipe, name, scheme) in
            [(pass("compressed-tensors"), "passed", json!("tensor")), (DECODE.to_owned(), "decoded", Value::Null)]
        {
            let output = scene.apply(&recipe, &source, name, &[]);
            assert_eq!(output.config["quantization_config"]["kv_cache_scheme"]["strategy"], scheme, "{names:?}");
            for (stored, value) in stored.iter().zip([0.25, 0.375]) {
                assert_eq!(*output.tensor(stored), scale(value), "{stored}");
            }
            let dirs = [scene.path(name), source.clone()].map(|dir| dir.to_str().unwrap().to_owned());
            let (passes, said) = run(&["verify", &dirs[0], "--source", &dirs[1]]);
            assert!(passes && said.contains("proven against"), "{names:?}: {said}");
        }
    }
}

#[test]
fn the_cache_of_modelopt_is_asked_for_in_compressed_tensors() {
    let vector = vectors().into_iter().find(|vector| vector.name == "fp8_static").unwrap();
    let scene = Scene::new();
    let source = |name: &str, cache: &str| {
        vector.checkpoint(&scene, name, |tensors, config| {
            for (old, new) in [("weight_scale_inv", "weight_scale"), ("activation_scale", "input_scale")] {
                let moved = tensors.remove(&format!("{MODULE}.{old}")).unwrap();
                tensors.insert(format!("{MODULE}.{new}"), moved);
            }
            add(tensors, NAMES[1]);
            config["quantization_config"] =
                json!({ "quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": cache });
        })
    };
    let fp8 = source("source", "FP8");
    let output = scene.apply(&pass("compressed-tensors"), &fp8, "output", &[]);
    let scheme = &output.config["quantization_config"]["kv_cache_scheme"];
    assert_eq!(
        (&scheme["num_bits"], &scheme["type"], &scheme["strategy"]),
        (&json!(8), &json!("float"), &json!("tensor"))
    );
    let plan = |recipe: &str, source: &Path| {
        let path = scene.path("recipe.yaml");
        std::fs::write(&path, recipe).unwrap();
        run(&["plan", path.to_str().unwrap(), "--model", source.to_str().unwrap()]).1
    };
    let said = plan(&pass("compressed-tensors"), &fp8);
    assert!(said.contains("stays FP8, as the source has it, under its 2 scales"), "{said}");
    // What cannot be asked for is said.
    let said = plan(&pass("fp8"), &fp8);
    assert!(said.contains("`format: fp8` has no key for it; the result keeps its 2 scales"), "{said}");
    let said = plan(DECODE, &fp8);
    assert!(said.contains("a result without quantization asks for none; vLLM leaves its 2 scales aside"), "{said}");
    let said = plan(&pass("compressed-tensors"), &source("other", "NVFP4"));
    assert!(said.contains("a cache of keys and values of its own (`NVFP4`), and the result asks for none"), "{said}");
    let said = plan(&pass("compressed-tensors"), &source("none", "none"));
    assert!(!said.contains("cache of keys"), "{said}");
}

#[test]
fn scales_of_a_cache_are_judged() {
    let vector = vectors().into_iter().find(|vector| vector.name == "ct_mxfp8").unwrap();
    let scene = Scene::new();
    let without = vector.checkpoint(&scene, "without", |_, _| {});
    scene.apply(DECODE, &without, "original", &[]);
    let with = |name: &str, value: f32| {
        vector.checkpoint(&scene, name, |tensors, config| {
            let [key, _] = add(tensors, NAMES[0]);
            tensors.insert(key, scale(value));
            declare(config);
        })
    };
    // Data alone gives them: nothing is added that should not be there, and they are not proven.
    let sound = with("sound", 0.5);
    let original = scene.path("original");
    let (_, said) = run(&["verify", sound.to_str().unwrap(), "--source", original.to_str().unwrap()]);
    assert!(said.contains("not proven: 2 scales of the cache of keys and values") && !said.contains("Q504"), "{said}");
    for (number, value) in [0.0, -1.0, f32::NAN, f32::INFINITY].into_iter().enumerate() {
        let bad = with(&format!("bad{number}"), value);
        let (passes, said) = run(&["lint", bad.to_str().unwrap()]);
        assert!(!passes && said.contains("Q401") && said.contains("self_attn.k_scale"), "{value}: {said}");
    }
}
