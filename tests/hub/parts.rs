//! Runs over the hub, whole and in parts, of every kind of source: the bytes are those of the snapshot's run on one machine.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{APPLY, done, files, fixture, home, home_with_snapshot_of};
use crate::support::hub::HubServer;
use crate::support::random::{Random, Scene, Tensor, Tensors};

const EXPERTS: usize = 4;
const HIDDEN: usize = 256;
const INNER: usize = 128;

/// As many blocks as are kept without a limit, and blocks so small that they come and go, for one worker and for many.
const LIMITS: [&[&str]; 3] =
    [&[], &["--max-memory", "2MiB", "--threads", "16"], &["--max-memory", "2MiB", "--threads", "1"]];

/// Compares runs over the hub, whole and in two and three parts, with that from a snapshot in the cache.
fn assert_as_from_disk(model: &Path, recipe: &str) {
    let write = |home: &Path| fs::write(home.join("recipe.yaml"), recipe).unwrap();
    let hub = HubServer::of(model);
    let disk = home_with_snapshot_of(model);
    write(disk.path());
    done(&hub, disk.path(), &APPLY);
    assert!(hub.requests().is_empty());
    let expected = files(disk.path());
    for limit in LIMITS {
        for parts in [&[][..], &["1/2", "2/2"], &["3/3", "1/3", "2/3"]] {
            let home = home();
            write(home.path());
            let run = |more: &[&str]| done(&hub, home.path(), &[&APPLY[..], limit, more].concat());
            for part in parts {
                run(&["--part", part]);
                assert!(!home.path().join("out").exists(), "{part}");
            }
            run(if parts.is_empty() { &[] } else { &["--join"] });
            assert!(files(home.path()) == expected, "{recipe}: {limit:?} {parts:?}");
            assert!(!home.path().join(".cache").exists());
        }
    }
}

/// What a model has beside its experts or its quantized weights.
fn rest(random: &mut Random) -> Tensors {
    let shapes: [(&str, &[usize]); 6] = [
        ("model.embed_tokens.weight", &[16, HIDDEN]),
        ("model.layers.0.input_layernorm.weight", &[HIDDEN]),
        ("model.layers.0.self_attn.q_proj.weight", &[HIDDEN, HIDDEN]),
        ("model.layers.0.self_attn.k_proj.weight", &[128, HIDDEN]),
        ("model.layers.0.self_attn.v_proj.weight", &[128, HIDDEN]),
        ("model.layers.0.self_attn.o_proj.weight", &[HIDDEN, HIDDEN]),
    ];
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), random.tensor(shape))).collect()
}

/// A model of two shards.
fn checkpoint(scene: &Scene, mut tensors: Tensors, config: Value) -> PathBuf {
    let second = tensors.split_off("model.layers.0.mlp.experts.2");
    scene.checkpoint("source", &[tensors, second], config)
}

#[test]
fn parts_of_a_model_in_four_shards() {
    // Parts begin within rows of weights, whose scales are shared.
    let recipe = "format: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\nignore: ['re:.*visual.*', lm_head]\n";
    assert_as_from_disk(&fixture(), recipe);
    assert_as_from_disk(&fixture(), super::RECIPE);
}

#[test]
fn stacks_of_experts_stored_by_rows_and_by_columns() {
    for transposed in [true, false] {
        let (scene, mut random) = (Scene::new(), Random::new(11));
        let mut tensors = rest(&mut random);
        tensors.insert("model.layers.0.mlp.gate.weight".to_owned(), random.tensor(&[EXPERTS, HIDDEN]));
        for (name, rows, columns) in [("gate_up_proj", 2 * INNER, HIDDEN), ("down_proj", HIDDEN, INNER)] {
            let shape = if transposed { [EXPERTS, columns, rows] } else { [EXPERTS, rows, columns] };
            tensors.insert(format!("model.layers.0.mlp.experts.{name}"), random.tensor(&shape));
        }
        let source = checkpoint(&scene, tensors, json!({}));
        for scheme in ["FP8_BLOCK", "NVFP4A16"] {
            let recipe = format!(
                "experts: split\nformat: compressed-tensors\nrules:\n- {{scheme: {scheme}, targets: Linear}}\n"
            );
            assert_as_from_disk(&source, &recipe);
        }
    }
}

#[test]
fn a_source_of_float8_blocks() {
    let (scene, mut random) = (Scene::new(), Random::new(12));
    let mut tensors = rest(&mut random);
    tensors.insert("model.layers.0.mlp.gate.weight".to_owned(), random.tensor(&[EXPERTS, HIDDEN]));
    let attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| format!("self_attn.{part}"));
    let experts = (0..EXPERTS)
        .flat_map(|expert| ["gate_proj", "up_proj", "down_proj"].map(|part| format!("mlp.experts.{expert}.{part}")));
    for module in attention.into_iter().chain(experts) {
        let name = format!("model.layers.0.{module}.weight");
        let shape = match tensors.get(&name) {
            Some(tensor) => tensor.shape.clone(),
            None if module.ends_with("down_proj") => vec![HIDDEN, INNER],
            None => vec![INNER, HIDDEN],
        };
        // Codes of all values but those that are no number, and a scale for each 128 × 128.
        let codes = (0..shape[0] * shape[1]).map(|_| (random.next() % 127) as u8).collect();
        let blocks = vec![shape[0] / 128, shape[1] / 128];
        let scales = (0..blocks[0] * blocks[1]).flat_map(|_| (random.weight().abs() + 0.01).to_le_bytes()).collect();
        tensors.insert(format!("{name}_scale_inv"), Tensor { dtype: Dtype::F32, shape: blocks, bytes: scales });
        tensors.insert(name, Tensor { dtype: Dtype::F8_E4M3, shape, bytes: codes });
    }
    let quantization = json!({ "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": [128, 128] });
    let source = checkpoint(&scene, tensors, json!({ "quantization_config": quantization }));
    for recipe in [
        "rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n",
        "format: compressed-tensors\nrules:\n- {scheme: FP8_DYNAMIC, targets: Linear, requantize: true}\n",
    ] {
        assert_as_from_disk(&source, recipe);
    }
}
