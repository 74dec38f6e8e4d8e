//! The parts of a merged layer share a figure, in whichever shards they lie.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::support::program::program;

const RECIPE: &str = "format: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\n";

#[test]
fn the_global_scale_is_that_of_the_largest_part() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, output) = (scratch.path().join("source"), scratch.path().join("output"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("config.json"), r#"{"architectures":["Qwen3ForCausalLM"],"model_type":"qwen3"}"#)
        .unwrap();
    let attention = |part: &str| format!("model.layers.0.self_attn.{part}_proj");
    let expert = |part: &str| format!("model.layers.0.mlp.experts.0.{part}_proj");
    // Powers of two: the largest of a set is all that its scale depends on.
    write(
        &source,
        "model-00001-of-00002.safetensors",
        &[(attention("q"), 1.0), (attention("o"), 8.0), (expert("up"), 2.0)],
    );
    write(
        &source,
        "model-00002-of-00002.safetensors",
        &[(attention("k"), 4.0), (attention("v"), 2.0), (expert("gate"), 1.0), (expert("down"), 0.5)],
    );
    std::fs::write(scratch.path().join("recipe.yaml"), RECIPE).unwrap();
    for threads in ["1", "4"] {
        let run = Command::new(program())
            .arg("apply")
            .arg(scratch.path().join("recipe.yaml"))
            .arg("--model")
            .arg(&source)
            .arg("--output")
            .arg(&output)
            .args(["--threads", threads])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let scales = global_scales(&output);
        for (part, largest) in [("q", 4.0), ("k", 4.0), ("v", 4.0), ("o", 8.0)] {
            assert_eq!(scales[&attention(part)], 2688.0 / largest, "{part}");
        }
        for (part, largest) in [("gate", 2.0), ("up", 2.0), ("down", 0.5)] {
            assert_eq!(scales[&expert(part)], 2688.0 / largest, "{part}");
        }
        std::fs::remove_dir_all(&output).unwrap();
    }
}

/// Writes square weights of one value each.
fn write(directory: &Path, name: &str, modules: &[(String, f32)]) {
    let bytes: Vec<Vec<u8>> =
        modules.iter().map(|(_, value)| bf16::from_f32(*value).to_le_bytes().repeat(32 * 32)).collect();
    let views = modules.iter().zip(&bytes).map(|((module, _), bytes)| {
        (format!("{module}.weight"), TensorView::new(Dtype::BF16, vec![32, 32], bytes).unwrap())
    });
    std::fs::write(directory.join(name), safetensors::serialize(views, None).unwrap()).unwrap();
    let path = directory.join("model.safetensors.index.json");
    let mut index = std::fs::read_to_string(&path).map_or_else(
        |_| serde_json::json!({ "metadata": {}, "weight_map": {} }),
        |text| serde_json::from_str(&text).unwrap(),
    );
    for (module, _) in modules {
        index["weight_map"][format!("{module}.weight")] = name.into();
    }
    std::fs::write(path, index.to_string()).unwrap();
}

fn global_scales(directory: &Path) -> BTreeMap<String, f32> {
    let mut scales = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            if let Some(module) = name.strip_suffix(".weight_global_scale") {
                assert_eq!(tensor.shape(), [1]);
                scales.insert(module.to_owned(), f32::from_le_bytes(tensor.data().try_into().unwrap()));
            }
        }
    }
    scales
}
