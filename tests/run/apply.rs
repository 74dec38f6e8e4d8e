//! The whole way: a recipe and a checkpoint in, a directory out, read back with a decoder of this test's own.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::program;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture() -> PathBuf {
    repository().join("tests/fixtures/tiny-qwen3-vl")
}

/// Runs `apply`, which must succeed.
fn apply(recipe: &Path, model: &Path, output: &Path) {
    let mut command = Command::new(program());
    command.arg("apply").arg(recipe).arg("--model").arg(model).arg("--output").arg(output);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}: {}", recipe.display(), String::from_utf8_lossy(&done.stderr));
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Every tensor of a directory, and the file that holds it; an index must say the same.
fn read(dir: &Path) -> (BTreeMap<String, Tensor>, BTreeMap<String, String>) {
    let (mut tensors, mut files) = (BTreeMap::new(), BTreeMap::new());
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = fs::read(file.path()).unwrap();
        for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let read = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            assert!(tensors.insert(tensor.clone(), read).is_none(), "{tensor} is there twice");
            files.insert(tensor, name.clone());
        }
    }
    if let Ok(index) = fs::read(dir.join("model.safetensors.index.json")) {
        let index: Value = serde_json::from_slice(&index).unwrap();
        let listed: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).unwrap();
        assert_eq!(listed, files);
        assert_eq!(index["metadata"]["total_size"], tensors.values().map(|tensor| tensor.bytes.len()).sum::<usize>());
    } else {
        assert!(files.values().all(|file| file == "model.safetensors"), "several files and no index");
    }
    (tensors, files)
}

/// E4M3 as it is defined: a sign, four bits of exponent biased by seven, three of mantissa, and no infinity.
fn e4m3(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The distance from a magnitude to its neighbours in E4M3.
fn step(magnitude: f64) -> f64 {
    let exponent = magnitude.max(2f64.powi(-6)).log2().floor() as i32;
    2f64.powi(exponent - 3)
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    let pairs = || tensor.bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match tensor.dtype {
        Dtype::BF16 => pairs().map(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))).collect(),
        Dtype::F16 => pairs().map(|bits| half::f16::from_bits(bits).to_f64()).collect(),
        Dtype::F32 => {
            tensor.bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
        }
        Dtype::F8_E4M3 => tensor.bytes.iter().map(|&byte| e4m3(byte)).collect(),
        other => panic!("{other:?} holds no numbers that this test reads"),
    }
}

/// Asserts that each number is the nearest that its scale allows, and that the largest of each scale comes to a number of
/// this range under it.
fn check_quantized(name: &str, source: &Tensor, weight: &Tensor, scale: &Tensor, reach: &RangeInclusive<f64>) {
    assert_eq!((weight.dtype, &weight.shape), (Dtype::F8_E4M3, &source.shape), "{name}");
    let (rows, columns) = (source.shape[0], source.shape[1]);
    let (height, width) = match scale.shape[..] {
        [1] => (rows, columns),
        [tall, 1] if tall == rows => (1, columns),
        [tall, wide] => {
            assert_eq!((tall, wide), (rows.div_ceil(128), columns.div_ceil(128)), "{name}");
            (128, 128)
        }
        _ => panic!("{name}: a scale of shape {:?}", scale.shape),
    };
    let across = columns.div_ceil(width);
    let (values, codes, scales) = (floats(source), floats(weight), floats(scale));
    let mut largest = vec![0f64; scales.len()];
    for (index, (value, code)) in values.iter().zip(&codes).enumerate() {
        let group = index / columns / height * across + index % columns / width;
        let quotient = value / scales[group];
        // One rounding of the quotient to f32 comes before the one to E4M3.
        let most = step(quotient.abs().min(448.0)) / 2.0 * (1.0 + 1e-5);
        assert!((quotient.clamp(-448.0, 448.0) - code).abs() <= most, "{name}[{index}]: {value} became {code}");
        largest[group] = largest[group].max(value.abs());
    }
    for (group, (largest, scale)) in largest.iter().zip(&scales).enumerate() {
        assert!(reach.contains(&(largest / scale)), "{name}: group {group} reaches {}", largest / scale);
    }
}

/// Applies a recipe to the fixture and checks every tensor and file; the config that came out.
fn check_on_fixture(recipe: &Path) -> Value {
    let output = tempfile::tempdir().unwrap();
    let output = output.path().join("out");
    apply(recipe, &fixture(), &output);
    let reach = match recipe.ends_with("fp8_dynamic_mse.yaml") {
        // The search looks at scales from three quarters to seven quarters of the maximum's, and 3/64 around them.
        true => 448.0 / 1.8..=448.0 / 0.7,
        // The scale is stored in eight bits of precision at least.
        false => 448.0 * (1.0 - 1.0 / 256.0)..=448.0 * (1.0 + 1.0 / 256.0),
    };
    let config: Value = serde_json::from_slice(&fs::read(output.join("config.json")).unwrap()).unwrap();
    let scale_name = match config["quantization_config"]["quant_method"].as_str() {
        Some("fp8") => "weight_scale_inv",
        Some("compressed-tensors") => "weight_scale",
        other => panic!("{}: a method that this test does not know: {other:?}", recipe.display()),
    };
    let ((source, source_files), (made, made_files)) = (read(&fixture()), read(&output));
    let mut left = made.clone();
    let mut quantized = 0;
    for (name, tensor) in &source {
        let weight = left.remove(name).unwrap_or_else(|| panic!("{name} is lost"));
        assert_eq!(made_files[name], source_files[name], "{name} changed its file");
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let is_language = name.contains("language_model.layers") && name.ends_with("_proj.weight");
        if is_language {
            let scale = left.remove(&format!("{module}.{scale_name}")).unwrap_or_else(|| panic!("{name} has no scale"));
            check_quantized(name, tensor, &weight, &scale, &reach);
            quantized += 1;
        } else {
            assert_eq!(&weight, tensor, "{name} changed");
        }
    }
    assert_eq!((quantized, left.keys().collect::<Vec<_>>()), (14, Vec::<&String>::new()));

    let before: Value = serde_json::from_slice(&fs::read(fixture().join("config.json")).unwrap()).unwrap();
    for (key, value) in before.as_object().unwrap() {
        assert_eq!(&config[key], value, "{key}");
    }
    for file in fs::read_dir(fixture()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()) {
        // To the model card something is added: tests/plan/card.rs.
        let has_more = ["config.json", "README.md"].contains(&file.as_str());
        let is_rewritten = file.ends_with(".safetensors") || has_more || file.ends_with(".index.json");
        if !is_rewritten {
            assert!(
                fs::read(fixture().join(&file)).unwrap() == fs::read(output.join(&file)).unwrap(),
                "{file} changed"
            );
        }
    }
    // The manifest is the one file more.
    assert_eq!(fs::read_dir(&output).unwrap().count(), fs::read_dir(fixture()).unwrap().count() + 1);
    config["quantization_config"].clone()
}

#[test]
fn every_ready_recipe_does_what_it_says() {
    let mut configs = BTreeMap::new();
    for file in fs::read_dir(repository().join("recipes")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_file() {
            configs.insert(name, check_on_fixture(&path));
        }
    }
    for name in ["fp8_dynamic.yaml", "fp8_dynamic.toml"] {
        let config = &configs[name];
        assert_eq!(config["weight_block_size"], serde_json::json!([128, 128]), "{name}");
        assert_eq!(config["ignored_layers"], config["modules_to_not_convert"], "{name}");
        // The head, 14 layers of the tower, its three norms, its convolution and its positions.
        assert_eq!(config["ignored_layers"].as_array().unwrap().len(), 20, "{name}");
    }
    for name in ["fp8_per_channel.yaml", "llmcompressor_fp8_dynamic.yaml"] {
        assert_eq!(configs[name]["config_groups"]["group_0"]["weights"]["strategy"], "channel", "{name}");
    }
}

#[test]
fn every_ready_recipe_for_fp8_sources_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    apply(&repository().join("recipes/fp8_dynamic.yaml"), &fixture(), &at("fp8"));
    let (fp8, _) = read(&at("fp8"));
    for name in ["dequantize", "retag", "blocks_to_channels"] {
        apply(&repository().join(format!("recipes/from_fp8/{name}.yaml")), &at("fp8"), &at(name));
    }
    // `float_scales` and `tensors_to_channels` are for other scales: tests/run/carried_scales.rs.
    assert_eq!(fs::read_dir(repository().join("recipes/from_fp8")).unwrap().count(), 5);
    let config =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(at(name).join("config.json")).unwrap()).unwrap() };

    let (plain, _) = read(&at("dequantize"));
    let (source, _) = read(&fixture());
    assert!(plain.keys().eq(source.keys()) && plain.values().all(|tensor| tensor.dtype == Dtype::BF16));
    assert_eq!(config("dequantize").get("quantization_config"), None);

    let (retagged, _) = read(&at("retag"));
    for (name, tensor) in &fp8 {
        assert_eq!(&retagged[&name.replace("weight_scale_inv", "weight_scale")], tensor, "{name}");
    }
    assert_eq!(config("retag")["quantization_config"]["config_groups"]["group_0"]["weights"]["strategy"], "block");

    let (channels, _) = read(&at("blocks_to_channels"));
    let scale = &channels["model.language_model.layers.0.mlp.up_proj.weight_scale"];
    assert_eq!(scale.shape, [source["model.language_model.layers.0.mlp.up_proj.weight"].shape[0], 1]);
}

#[test]
fn yaml_and_toml_make_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [yaml, toml] = ["yaml", "toml"].map(|language| {
        let output = folder.path().join(language);
        apply(&repository().join(format!("recipes/fp8_dynamic.{language}")), &fixture(), &output);
        output
    });
    for file in fs::read_dir(&yaml).unwrap() {
        let name = file.unwrap().file_name();
        if name == "qwen-fp8-manifest.json" || name == "README.md" {
            // They hold the recipe's own text.
            continue;
        }
        assert!(fs::read(yaml.join(&name)).unwrap() == fs::read(toml.join(&name)).unwrap(), "{name:?}");
    }
}

#[test]
fn shards_of_another_size_hold_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = fs::read_to_string(repository().join("recipes/fp8_dynamic.yaml")).unwrap();
    let made = ["300000", "1GB"].map(|size| {
        let path = folder.path().join(format!("{size}.yaml"));
        fs::write(&path, format!("{recipe}\nmax_shard_size: {size}\n")).unwrap();
        let output = folder.path().join(size);
        apply(&path, &fixture(), &output);
        read(&output)
    });
    assert_eq!(made[0].0, made[1].0);
    let files: std::collections::BTreeSet<&String> = made[0].1.values().collect();
    assert!(files.len() > 4 && files.contains(&format!("model-00001-of-{:05}.safetensors", files.len())), "{files:?}");
}

/// A checkpoint of the golden file's inputs, the recipe that the file names, and the tensors that must come out.
fn golden(path: &Path) -> (TempDir, BTreeMap<String, Tensor>) {
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = BTreeMap::new();
    let mut expected = BTreeMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let (kind, suffix) = name.split_once('.').unwrap();
        let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        let module = format!("model.{kind}_proj");
        match suffix {
            "input" => drop(inputs.insert(format!("{module}.weight"), tensor)),
            suffix => drop(expected.insert(format!("{module}.{suffix}"), tensor)),
        }
    }
    // Where the range of a group overflows, the reference stores an infinite scale, and we publish none such.
    let poisoned: Vec<String> = expected
        .iter()
        .filter(|(name, tensor)| {
            let is_float = matches!(tensor.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32);
            name.ends_with(".weight_scale") && is_float && floats(tensor).iter().any(|scale| !scale.is_finite())
        })
        .map(|(name, _)| name.replace(".weight_scale", "."))
        .collect();
    inputs.retain(|name, _| !poisoned.iter().any(|module| name.starts_with(module)));
    expected.retain(|name, _| !poisoned.iter().any(|module| name.starts_with(module)));
    assert!(!inputs.is_empty() && expected.len() >= 2 * inputs.len());
    let model = folder.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), r#"{"model_type": "golden"}"#).unwrap();
    let views = inputs
        .iter()
        .map(|(name, tensor)| (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &model.join("model.safetensors")).unwrap();
    let mut recipe: Value = serde_json::from_str(&metadata["options"]).unwrap();
    recipe["scheme"] = metadata["scheme"].as_str().into();
    // Names without a model around them, of which `Linear` takes none.
    recipe["targets"] = "re:.*_proj".into();
    recipe["format"] = "compressed-tensors".into();
    // The shapes try quantizers, not servers.
    recipe["serving"] = "warn".into();
    // JSON is YAML.
    fs::write(folder.path().join("recipe.yaml"), recipe.to_string()).unwrap();
    (folder, expected)
}

#[test]
fn the_reference_writes_the_same_bytes() {
    let mut seen = 0;
    for file in fs::read_dir(repository().join("tests/golden")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let (folder, expected) = golden(&path);
        let output = folder.path().join("out");
        apply(&folder.path().join("recipe.yaml"), &folder.path().join("model"), &output);
        let (made, _) = read(&output);
        assert_eq!(made.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", path.display());
        for (name, tensor) in &expected {
            assert!(&made[name] == tensor, "{}: {name} differs", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}
