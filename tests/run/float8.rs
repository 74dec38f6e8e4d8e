//! FP8 checkpoints as sources: passed through, decoded, and quantized again, and never without a word on it.

use std::path::{Path, PathBuf};

use half::bf16;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const ROWS: &str = "format: compressed-tensors\nrules:\n- {scheme: FP8_DYNAMIC, targets: Linear}\n";
const BLOCKS: &str = "format: fp8\nrules:\n- {scheme: FP8_BLOCK, targets: Linear}\n";
const BLOCKS_F32: &str = "format: fp8\nrules:\n- {scheme: FP8_BLOCK, scale_dtype: f32, targets: Linear}\n";
const TENSOR: &str = "format: fp8\nrules:\n- {scheme: FP8, targets: Linear}\n";
const DECODE: &str = "rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n";

/// Two layers with a ragged projection, whose rows end inside a block.
fn tensors() -> Tensors {
    let mut random = Random::new(11);
    let mut tensors = Tensors::new();
    for layer in ["model.layers.0", "model.layers.1"] {
        for (name, shape) in [
            ("self_attn.q_proj", &[256, 384][..]),
            ("self_attn.k_proj", &[128, 384]),
            ("self_attn.v_proj", &[128, 384]),
            ("self_attn.o_proj", &[384, 256]),
            ("mlp.down_proj", &[384, 128]),
        ] {
            tensors.insert(format!("{layer}.{name}.weight"), random.tensor(shape));
        }
        tensors.insert(format!("{layer}.self_attn.q_proj.bias"), random.tensor(&[256]));
        tensors.insert(format!("{layer}.input_layernorm.weight"), random.tensor(&[384]));
    }
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        tensors.insert(name.to_owned(), random.tensor(&[16, 384]));
    }
    tensors
}

/// A scene with a BF16 checkpoint in two shards.
fn scene() -> (Scene, PathBuf) {
    let scene = Scene::new();
    let mut first = tensors();
    let second = first.split_off("model.layers.1");
    let source = scene.checkpoint("source", &[first, second], json!({ "torch_dtype": "bfloat16" }));
    (scene, source)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype {
        Dtype::BF16 => tensor.bytes.as_chunks().0.iter().map(|raw| bf16::from_le_bytes(*raw).to_f32()).collect(),
        Dtype::F32 => tensor.bytes.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect(),
        Dtype::F8_E4M3 => tensor.bytes.iter().map(|&code| float8(code)).collect(),
        other => panic!("{other}"),
    }
}

/// By the definition: sign, four bits of exponent, three of mantissa.
fn float8(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) };
    if code < 128 { magnitude } else { -magnitude }
}

/// The weight of a module of an FP8 checkpoint as BF16.
fn decoded(quantized: &Output, module: &str) -> Tensor {
    let weight = quantized.tensor(&format!("{module}.weight"));
    let scale = ["weight_scale", "weight_scale_inv"].map(|suffix| format!("{module}.{suffix}"));
    let (_, scale) = scale.iter().find_map(|name| quantized.tensors.get(name)).unwrap();
    let ([rows, columns], scales) = (<[usize; 2]>::try_from(weight.shape.clone()).unwrap(), values(scale));
    let of = |row: usize, column: usize| match scale.shape[..] {
        [1] => scales[0],
        [_, 1] if scale.shape[0] == rows => scales[row],
        [_, across] => scales[row / 128 * across + column / 128],
        _ => panic!("{:?}", scale.shape),
    };
    let codes = values(weight);
    let value = |at: usize| bf16::from_f32(codes[at] * of(at / columns, at % columns)).to_le_bytes();
    Tensor { dtype: Dtype::BF16, shape: weight.shape.clone(), bytes: (0..rows * columns).flat_map(value).collect() }
}

fn quantized_modules(output: &Output) -> Vec<String> {
    let weights = output.tensors.iter().filter(|(_, (_, tensor))| tensor.dtype == Dtype::F8_E4M3);
    weights.map(|(name, _)| name.strip_suffix(".weight").unwrap().to_owned()).collect()
}

#[test]
fn dequantizing_gives_code_times_scale_and_an_unquantized_checkpoint() {
    let (scene, source) = scene();
    let plain = Output::read(&source);
    for (name, recipe) in [("rows", ROWS), ("blocks", BLOCKS), ("f32", BLOCKS_F32), ("tensor", TENSOR)] {
        let quantized = scene.apply(recipe, &source, name, &[]);
        let modules = quantized_modules(&quantized);
        assert_eq!(modules.len(), 10, "{name}");
        let output = scene.apply(DECODE, &scene.path(name), &format!("{name}-bf16"), &[]);
        assert_eq!(output.tensors.keys().collect::<Vec<_>>(), plain.tensors.keys().collect::<Vec<_>>());
        for (tensor, (file, found)) in &output.tensors {
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            let expected = match modules.iter().any(|quantized| quantized == module) {
                true => decoded(&quantized, module),
                false => plain.tensor(tensor).clone(),
            };
            assert!(*found == expected, "{name}: {tensor}");
            assert_eq!(*file, plain.tensors[tensor].0);
        }
        // As it was before it was quantized.
        assert_eq!(output.config, plain.config, "{name}");
        let small = scene.apply(DECODE, &scene.path(name), &format!("{name}-small"), &["--max-memory", "32KiB"]);
        assert_eq!(small, output);
    }
}

#[test]
fn the_format_changes_without_a_byte_of_the_weights() {
    let (scene, source) = scene();
    let official = scene.apply(BLOCKS, &source, "official", &[]);
    let retag = |format: &str| format!("format: {format}\nrules:\n- {{scheme: PASSTHROUGH, targets: Linear}}\n");
    let other = scene.apply(&retag("compressed-tensors"), &scene.path("official"), "other", &[]);
    // What the other format would have been from the start.
    let straight = "format: compressed-tensors\nrules:\n- {scheme: FP8_BLOCK, scale_dtype: bf16, targets: Linear}\n";
    assert_eq!(other, scene.apply(straight, &source, "straight", &[]));
    let back = scene.apply(&retag("fp8"), &scene.path("other"), "back", &[]);
    assert_eq!(back, official);
    // One scale for a tensor has a place in both; one for a row has none in the official format.
    let official = scene.apply(TENSOR, &source, "tensor", &[]);
    scene.apply(&retag("compressed-tensors"), &scene.path("tensor"), "tensor-other", &[]);
    assert_eq!(scene.apply(&retag("fp8"), &scene.path("tensor-other"), "tensor-back", &[]), official);
    scene.apply(ROWS, &source, "rows", &[]);
    let said = scene.refused(&retag("fp8"), &scene.path("rows"));
    assert!(said.contains("`format: fp8` has no per-channel scales"), "{said}");
}

#[test]
fn requantizing_is_quantizing_what_was_dequantized() {
    let (scene, source) = scene();
    for (name, first) in [("rows", ROWS), ("blocks", BLOCKS), ("tensor", TENSOR)] {
        scene.apply(first, &source, name, &[]);
        scene.apply(DECODE, &scene.path(name), &format!("{name}-bf16"), &[]);
        for scheme in ["FP8_DYNAMIC", "FP8_BLOCK", "FP8", "W8A8", "W4A16", "MXFP8", "NVFP4A16"] {
            let recipe = format!("format: compressed-tensors\nrules:\n- {{scheme: {scheme}, targets: Linear}}\n");
            let expected = scene.apply(&recipe, &scene.path(&format!("{name}-bf16")), &format!("{name}-{scheme}"), &[]);
            let again = recipe.replace("targets:", "requantize: true, targets:");
            let found = scene.apply(&again, &scene.path(name), &format!("{name}-{scheme}-again"), &["--threads", "3"]);
            assert_eq!(found.tensors, expected.tensors, "{name} {scheme}");
            assert_eq!(found.config, expected.config, "{name} {scheme}");
        }
    }
}

/// What docs/recipes.md promises of BF16 to FP8, to BF16, and to FP8 again: for each of the 128 mantissas that the largest
/// weight of a row can have, whatever its exponent.
#[test]
fn a_round_trip_keeps_every_byte() {
    let scene = Scene::new();
    let mut tensors = tensors();
    let mut random = Random::new(5);
    let row = |mantissa: u16| {
        let exponent = 100 + random.next() % 50;
        let largest = bf16::from_bits((exponent as u16) << 7 | mantissa);
        let mut row: Vec<bf16> =
            (0..128).map(|_| bf16::from_f32(largest.to_f32() * random.weight().clamp(-1.0, 1.0))).collect();
        let at = random.next() as usize % row.len();
        row[at] = if random.next().is_multiple_of(2) { largest } else { -largest };
        row.into_iter().flat_map(bf16::to_le_bytes).collect::<Vec<u8>>()
    };
    let bytes = (0..384).map(|index| index % 128).flat_map(row).collect();
    let every = Tensor { dtype: Dtype::BF16, shape: vec![384, 128], bytes };
    tensors.insert("model.layers.0.mlp.down_proj.weight".to_owned(), every);
    let source = scene.checkpoint("source", &[tensors], json!({}));
    for (name, recipe) in [("rows", ROWS), ("blocks", BLOCKS), ("f32", BLOCKS_F32), ("tensor", TENSOR)] {
        let first = scene.apply(recipe, &source, name, &[]);
        scene.apply(DECODE, &scene.path(name), &format!("{name}-bf16"), &[]);
        let again = scene.apply(recipe, &scene.path(&format!("{name}-bf16")), &format!("{name}-again"), &[]);
        for (tensor, found) in &again.tensors {
            assert!(found == &first.tensors[tensor], "{name}: {tensor}");
        }
        assert_eq!((again.tensors.len(), again.config), (first.tensors.len(), first.config));
    }
}

#[test]
fn one_recipe_passes_through_dequantizes_and_requantizes() {
    let (scene, source) = scene();
    let first = scene.apply(BLOCKS, &source, "blocks", &[]);
    let recipe = "format: compressed-tensors\nrules:\n\
                  - {scheme: PASSTHROUGH, targets: ['re:.*layers.0.self_attn.*']}\n\
                  - {scheme: DEQUANTIZE, targets: ['re:.*layers.0.mlp.*']}\n\
                  - {scheme: W4A16, requantize: true, targets: Linear}\n";
    let output = scene.apply(recipe, &scene.path("blocks"), "mixed", &[]);
    let q = "model.layers.0.self_attn.q_proj";
    assert_eq!(output.tensor(&format!("{q}.weight")), first.tensor(&format!("{q}.weight")));
    assert_eq!(output.tensor(&format!("{q}.weight_scale")), first.tensor(&format!("{q}.weight_scale_inv")));
    let down = "model.layers.0.mlp.down_proj";
    assert_eq!(*output.tensor(&format!("{down}.weight")), decoded(&first, down));
    assert_eq!(output.tensor("model.layers.1.mlp.down_proj.weight_packed").dtype, Dtype::I32);
    let groups = &output.config["quantization_config"]["config_groups"];
    assert_eq!(groups["group_0"]["weights"]["block_structure"], json!([128, 128]));
    assert_eq!(groups["group_1"]["format"], "pack-quantized");
    assert!(output.config["quantization_config"]["ignore"].to_string().contains(down));
    let plan = scene.run("plan", recipe, &["--model", scene.path("blocks").to_str().unwrap()]).unwrap();
    for word in [
        "pass through · rule 1 (PASSTHROUGH)",
        "dequantize · rule 2",
        "quantize · rule 3 (W4A16)",
        "F8_E4M3 [384, 128]",
    ] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
    let (path, blocks) = (scene.path("recipe.yaml"), scene.path("blocks"));
    let explained = ["explain", path.to_str().unwrap(), q, "--model", blocks.to_str().unwrap()];
    let said = scene.tool(&explained, &[]).unwrap();
    assert!(said.contains("passed through unchanged: it is FP8 already"), "{said}");
}

#[test]
fn nothing_is_quantized_twice_by_accident() {
    let (scene, source) = scene();
    scene.apply(BLOCKS, &source, "blocks", &[]);
    let blocks = scene.path("blocks");
    let said = scene.refused(ROWS, &blocks);
    for word in [
        "the checkpoint is quantized already: `quantization_config` in `config.json` says `fp8`",
        "rule 1 (FP8_DYNAMIC) takes 10 FP8 layers, such as `model.layers.0.",
        "`requantize: true` on the rule",
        "start from an original that is not quantized",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let said = scene.refused("rules:\n- {scheme: PASSTHROUGH, targets: ['re:.*layers.0.*']}\n", &blocks);
    assert!(said.contains("no rule takes 5 FP8 layers, such as `model.layers.1."), "{said}");
    // Words about FP8 layers where there are none.
    let said = scene.refused(DECODE, &source);
    assert!(said.contains("rule 1 (DEQUANTIZE) takes no layer that is quantized"), "{said}");
    let said = scene.refused(&ROWS.replace("targets:", "requantize: true, targets:"), &source);
    assert!(said.contains("the checkpoint is not quantized: leave `requantize` out"), "{said}");
    let said = scene.refused("rules:\n- {scheme: PASSTHROUGH, requantize: true, targets: Linear}\n", &source);
    assert!(said.contains("requantize"), "{said}");
}

/// A copy of a checkpoint whose config and tensors were changed.
fn changed(scene: &Scene, from: &Path, name: &str, change: impl FnOnce(&mut Value, &mut Tensors)) -> PathBuf {
    let output = Output::read(from);
    let mut config = output.config;
    let mut tensors: Tensors = output.tensors.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect();
    change(&mut config, &mut tensors);
    // The scales in a shard of their own.
    let (scales, others) = tensors.into_iter().partition(|(name, _)| name.contains("weight_scale"));
    scene.checkpoint(name, &[others, scales], config)
}

#[test]
fn scales_may_lie_in_another_shard() {
    let (scene, source) = scene();
    scene.apply(BLOCKS, &source, "blocks", &[]);
    let expected = scene.apply(DECODE, &scene.path("blocks"), "expected", &[]);
    let apart = changed(&scene, &scene.path("blocks"), "apart", |_, _| {});
    let found = scene.apply(DECODE, &apart, "found", &[]);
    let only = |output: &Output| {
        output.tensors.iter().map(|(name, (_, tensor))| (name.clone(), tensor.clone())).collect::<Vec<_>>()
    };
    assert_eq!(only(&found), only(&expected));
    let carry = "format: fp8\nrules:\n- {scheme: PASSTHROUGH, targets: Linear}\n";
    let carried = scene.apply(carry, &apart, "carried", &[]);
    assert_eq!(only(&carried), only(&Output::read(&scene.path("blocks"))));
}

#[test]
fn what_is_no_readable_source_is_refused_by_name() {
    let (scene, source) = scene();
    scene.apply(BLOCKS, &source, "blocks", &[]);
    scene.apply(ROWS, &source, "rows", &[]);
    let (blocks, rows) = (scene.path("blocks"), scene.path("rows"));
    let q = "model.layers.0.self_attn.q_proj";
    let refused = |name: &str, from: &Path, words: &[&str], change: &dyn Fn(&mut Value, &mut Tensors)| {
        let source = changed(&scene, from, name, change);
        let said = scene.refused(DECODE, &source);
        assert!(said.contains("quantized already"), "{name}: {said}");
        for word in words {
            assert!(said.contains(word), "{name}: {word}: {said}");
        }
    };
    refused("scheme", &blocks, &["`activation_scheme` is", "odd"], &|config, _| {
        config["quantization_config"]["activation_scheme"] = json!("odd");
    });
    refused("method", &blocks, &["it declares `bitsandbytes`", "can be read"], &|config, _| {
        config["quantization_config"]["quant_method"] = json!("bitsandbytes");
    });
    refused("lost", &blocks, &[q, "has no", "weight_scale_inv"], &|_, tensors| {
        tensors.remove(&format!("{q}.weight_scale_inv")).unwrap();
    });
    refused("shape", &blocks, &[q, "has shape [3, 2]", "needs [2, 3]"], &|_, tensors| {
        tensors.get_mut(&format!("{q}.weight_scale_inv")).unwrap().shape.reverse();
    });
    refused("orphan", &rows, &["input_scale", "is not known beside a weight of its format"], &|_, tensors| {
        let scale = Tensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0, 0, 128, 63] };
        tensors.insert(format!("{q}.input_scale"), scale);
    });
    refused("untargeted", &rows, &["no config group targets", "mlp.down_proj"], &|config, _| {
        config["quantization_config"]["config_groups"]["group_0"]["targets"] = json!(["re:.*k_proj"]);
    });
    refused("ints", &rows, &["group_0", "8-bit integers in the format `float-quantized`"], &|config, _| {
        config["quantization_config"]["config_groups"]["group_0"]["weights"]["type"] = json!("int");
    });
    refused("packed", &rows, &["group_0", "8-bit floats in the format `pack-quantized`"], &|config, _| {
        config["quantization_config"]["config_groups"]["group_0"]["format"] = json!("pack-quantized");
    });
    refused("no_config", &rows, &["neither the top level nor `text_config`"], &|config, _| {
        config.as_object_mut().unwrap().remove("quantization_config");
    });
}

#[test]
fn a_damaged_code_or_scale_is_an_error_where_it_is_decoded() {
    let (scene, source) = scene();
    scene.apply(BLOCKS, &source, "blocks", &[]);
    let o = "model.layers.1.self_attn.o_proj.weight";
    let damaged = changed(&scene, &scene.path("blocks"), "code", |_, tensors| {
        tensors.get_mut(o).unwrap().bytes[3 * 256 + 7] = 0x7F;
    });
    let again = BLOCKS.replace("targets:", "requantize: true, targets:");
    for recipe in [DECODE, &again] {
        let said = scene.refused(recipe, &damaged);
        assert!(said.contains(o) && said.contains("row 3, column 7"), "{said}");
    }
    let damaged = changed(&scene, &scene.path("blocks"), "scale", |_, tensors| {
        tensors.get_mut(&format!("{o}_scale_inv")).unwrap().bytes[2..4].copy_from_slice(&[0xC0, 0x7F]);
    });
    let said = scene.refused(DECODE, &damaged);
    assert!(said.contains(o) && said.contains("row 0, column 128"), "{said}");
}
