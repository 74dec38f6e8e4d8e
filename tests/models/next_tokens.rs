//! The layers that predict further tokens: what vLLM's class for them asks, and what the lists hold.

use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::models::Model;
use qwen_fp8::checkpoint::models::catalogue::ListFormat;
use serde_json::{Value, json};

use super::facts::all_facts;

/// The number of layers of the models, so that layer 2 is the first that predicts further tokens.
const LAYERS: u64 = 2;

/// Classes whose tensors on disk are in no facts, with the beginning that published files have.
const ON_DISK: &[(&str, &str)] =
    &[("ErnieMTP", "model.mtp_block.0."), ("MiMoV2MTP", "model.mtp.layers.0."), ("ExaoneMoeMTP", "mtp.layers.0.")];

/// The parts of the layers that vLLM fuses.
const PARTS: &[(&str, &[&str])] =
    &[("qkv_proj", &["q_proj", "k_proj", "v_proj"]), ("gate_up_proj", &["gate_proj", "up_proj"])];

fn model(class: &Value, model_type: &Value) -> Model {
    let config = json!({"architectures": [class], "model_type": model_type, "num_hidden_layers": LAYERS});
    Model::of(&Config::parse(config.to_string().as_bytes()).unwrap(), std::iter::empty())
}

/// The name of a form: the layer behind the last one where layers are numbered on, else the first, and the first expert.
fn name_of(form: &str) -> String {
    let first = if form.starts_with("mtp.") || form.contains(".mtp.") { 0 } else { LAYERS };
    form.replacen('*', &first.to_string(), 1).replace('*', "0")
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The modules on disk that a layer of the draft is made of, and the names that vLLM asks the list for.
fn layers(draft: &Value) -> Vec<(Vec<String>, Vec<String>)> {
    let class = draft["class"].as_str().unwrap();
    let beginning = ON_DISK.iter().find(|(known, _)| *known == class).map(|(_, beginning)| *beginning);
    let asked = draft["layers"].as_array().unwrap().iter().filter(|layer| layer["quantized"] == true);
    let found = asked.filter_map(|layer| {
        let names: Vec<String> = texts(&layer["asks_fp8"]).map(name_of).collect();
        // One name of a stack of experts is a part of every expert's name, which is enough for vLLM.
        if names.iter().any(|name| name.ends_with(".experts")) {
            return None;
        }
        let mut modules: Vec<String> =
            texts(&layer["from"]).map(|form| name_of(form.strip_suffix(".weight").unwrap())).collect();
        if let (true, Some(beginning)) = (modules.is_empty(), beginning) {
            // `model.layers.*.self_attn.qkv_proj` is made of the three under the beginning.
            let below = layer["asks_fp8"][0].as_str().unwrap().split_once("layers.*.").map(|(_, below)| below)?;
            let (parent, last) = below.rsplit_once('.').unwrap();
            let parts = PARTS.iter().find(|(fused, _)| *fused == last).map_or(vec![last], |(_, parts)| parts.to_vec());
            modules = parts.iter().map(|part| format!("{beginning}{parent}.{part}")).collect();
        }
        (!modules.is_empty()).then_some((modules, names))
    });
    found.collect()
}

#[test]
fn lists_hold_the_names_that_draft_classes_ask_for() {
    let (mut wrong, mut families) = (Vec::new(), Vec::new());
    for facts in all_facts() {
        let draft = &facts["vllm"]["draft"];
        if !draft["layers"].is_array() {
            continue;
        }
        let model = model(&facts["architecture"], &facts["model_type"]);
        let layers = layers(draft);
        if model.family().is_none() || layers.is_empty() {
            continue;
        }
        families.push(facts["model_type"].as_str().unwrap().to_owned());
        for (modules, asked) in layers {
            for format in [ListFormat::Fp8, ListFormat::CompressedTensors] {
                for module in &modules {
                    assert!(model.predicts_further_tokens(module), "{module}");
                    let listed = [Some(module.clone()), model.asked_for_next_tokens(module, format)];
                    let is_held = |asked: &String| listed.iter().flatten().any(|listed| listed == asked);
                    // A merged tensor on disk has no name of its own that is asked for.
                    if !asked.iter().all(is_held) && !module.ends_with("gate_up_proj") {
                        wrong.push(format!("{}: for {module} vLLM asks {asked:?}: {listed:?}", facts["model_type"]));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
    for family in [
        "deepseek_v3",
        "deepseek_v32",
        "glm4_moe",
        "qwen3_next",
        "qwen3_5",
        "qwen3_5_moe",
        "ernie4_5_moe",
        "mimo_v2_flash",
    ] {
        assert!(families.iter().any(|known| known == family), "{family}: {families:?}");
    }
}

#[test]
fn mimo_has_its_own_layers_numbered_on() {
    // As vLLM 0.33's mimo_mtp.py builds them; transformers has no class of which facts could be taken.
    let model = model(&json!("MiMoForCausalLM"), &json!("mimo"));
    for (module, asked) in [
        ("model.mtp_layers.0.self_attn.q_proj", "model.layers.2.self_attn.qkv_proj"),
        ("model.mtp_layers.0.self_attn.o_proj", "model.layers.2.self_attn.o_proj"),
        ("model.mtp_layers.1.mlp.up_proj", "model.layers.3.mlp.gate_up_proj"),
    ] {
        assert_eq!(model.asked_for_next_tokens(module, ListFormat::Fp8).as_deref(), Some(asked));
    }
    // A layer of the model itself, and one of a tower that has more layers.
    for module in ["model.layers.1.self_attn.q_proj", "vision_tower.layers.7.self_attn.q_proj"] {
        assert_eq!(model.asked_for_next_tokens(module, ListFormat::Fp8), None);
    }
}
