//! Sound results of models whose layers differ: verify and lint find nothing, and find what is lost all the same.

use qwen_fp8::check::{Finding, lint, verify};
use serde_json::{Value, json};

use crate::support::random::{Random, Scene, Tensors};

const ROWS: &str = "format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n";
const BLOCKS: &str = "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: Linear\n";

/// The modules of a layer with attention and a dense MLP.
const DENSE: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// A model of layers that have these modules, one list for each layer.
fn model(layers: &[Vec<String>]) -> Tensors {
    let mut random = Random::new(7);
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize]| drop(tensors.insert(name, random.tensor(shape)));
    add("model.embed_tokens.weight".to_owned(), &[64, 128]);
    add("lm_head.weight".to_owned(), &[64, 128]);
    add("model.norm.weight".to_owned(), &[128]);
    for (number, modules) in layers.iter().enumerate() {
        add(format!("model.layers.{number}.input_layernorm.weight"), &[128]);
        for module in modules {
            add(format!("model.layers.{number}.{module}.weight"), &[128, 128]);
        }
    }
    tensors
}

fn dense(without: &[&str]) -> Vec<String> {
    DENSE.iter().filter(|module| !without.contains(module)).map(|module| (*module).to_owned()).collect()
}

fn with_experts() -> Vec<String> {
    let mut modules: Vec<String> = DENSE[..4].iter().map(|module| (*module).to_owned()).collect();
    modules.push("mlp.gate".to_owned());
    modules.extend(
        (0..2).flat_map(|expert| {
            ["gate_proj", "up_proj", "down_proj"].map(|part| format!("mlp.experts.{expert}.{part}"))
        }),
    );
    modules
}

/// What verify and lint find in the result of a model, after `edit` has changed the files of the result.
fn found(layers: &[Vec<String>], config: Value, edit: impl Fn(&mut Tensors)) -> [Vec<String>; 2] {
    let scene = Scene::new();
    let mut keys = json!({ "num_hidden_layers": layers.len(), "tie_word_embeddings": false });
    keys.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let source = scene.checkpoint("source", &[model(layers)], keys.clone());
    let result = scene.apply(ROWS, &source, "out", &[]);
    let mut tensors: Tensors = result.tensors.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, tensor)| {
        (name, safetensors::tensor::TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap())
    });
    let out = scene.path("out");
    for entry in std::fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") || path.ends_with("model.safetensors.index.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    safetensors::serialize_to_file(views, None, &out.join("model.safetensors")).unwrap();
    let errors = |findings: &[Finding]| {
        let errors = findings.iter().filter(|finding| finding.severity == qwen_fp8::check::Severity::Error);
        errors.map(|finding| format!("{}: {}", finding.rule.code, finding.message)).collect()
    };
    let proof = verify(&out, Some(&source), &[], &()).unwrap();
    [errors(&proof.findings), errors(&lint(&out, &()).unwrap())]
}

/// No error, of either.
const NOTHING: [Vec<String>; 2] = [Vec::new(), Vec::new()];

fn nothing(_: &mut Tensors) {}

#[test]
fn dense_layers_before_layers_of_experts_are_no_fault() {
    let layers: Vec<Vec<String>> = [vec![dense(&[])], vec![with_experts(); 9]].concat();
    let config = json!({ "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3" });
    assert_eq!(found(&layers, config.clone(), nothing), NOTHING);
    // One matrix of an expert is.
    let lost = "model.layers.4.mlp.experts.1.down_proj";
    for errors in found(&layers, config, |tensors| tensors.retain(|name, _| !name.starts_with(lost))) {
        assert!(errors.iter().any(|error| error.starts_with("Q312") && error.contains(lost)), "{errors:?}");
    }
}

#[test]
fn layers_without_gates_or_values_are_no_fault_where_the_model_has_none() {
    let nemotron = json!({ "architectures": ["NemotronForCausalLM"], "model_type": "nemotron" });
    let layers = [dense(&["mlp.gate_proj"]), dense(&["mlp.gate_proj"])];
    assert_eq!(found(&layers, nemotron, nothing), NOTHING);
    let gemma = json!({ "architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text" });
    let layers = [dense(&[]), dense(&["self_attn.v_proj"])];
    assert_eq!(found(&layers, gemma, nothing), NOTHING);
}

/// A class of no family.
const UNKNOWN: &str = "NobodyKnowsForCausalLM";

/// All that verify and lint find in the result of a model of this class, warnings too, as code and message, after `edit` has
/// changed its config.json.
fn all_found(class: &str, tensors: Tensors, recipe: &str, edit: impl Fn(&mut String)) -> Vec<String> {
    let scene = Scene::new();
    let config = json!({
        "architectures": [class], "model_type": class, "num_hidden_layers": 2, "tie_word_embeddings": false,
    });
    let source = scene.checkpoint("source", &[tensors], config);
    scene.apply(recipe, &source, "out", &[]);
    let out = scene.path("out");
    let path = out.join("config.json");
    let mut config = std::fs::read_to_string(&path).unwrap();
    edit(&mut config);
    std::fs::write(&path, config).unwrap();
    let proof = verify(&out, Some(&source), &[], &()).unwrap();
    let all = proof.findings.into_iter().chain(lint(&out, &()).unwrap());
    let all = all.filter(|finding| finding.rule.code.starts_with("Q2") || finding.rule.code.starts_with("Q3"));
    all.map(|finding| format!("{}: {}", finding.rule.code, finding.message)).collect()
}

/// A model whose second layer has stacks of experts that no file describes.
fn with_unknown_stacks() -> Tensors {
    let mut tensors = model(&[dense(&[]), dense(&["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"])]);
    let mut random = Random::new(8);
    for stack in ["moe.down_proj.weight", "mlp.shared_experts.down_proj", "mlp.experts.fc1.weight"] {
        tensors.insert(format!("model.layers.1.{stack}"), random.tensor(&[2, 128, 128]));
    }
    tensors
}

#[test]
fn stacks_that_no_file_describes_are_found_in_lists() {
    for recipe in [ROWS, BLOCKS].map(|recipe| format!("{recipe}ignore: [Experts]\n")) {
        let recipe = &recipe;
        assert_eq!(all_found(UNKNOWN, with_unknown_stacks(), recipe, |_| ()), [""; 0], "{recipe}");
        let stack = "\"model.layers.1.moe\"";
        // Nobody knows which name a server asks for: the tensor's does too, and one of the two has to be there.
        let renamed = |config: &mut String| *config = config.replace(stack, "\"model.layers.1.moe.down_proj\"");
        assert_eq!(all_found(UNKNOWN, with_unknown_stacks(), recipe, renamed), [""; 0], "{recipe}");
        let lost = |config: &mut String| *config = config.replace(stack, "\"lm_head\"");
        let found = all_found(UNKNOWN, with_unknown_stacks(), recipe, lost);
        assert!(found.iter().any(|found| found.starts_with("Q202: `model.layers.1.moe`")), "{found:?}");
    }
}

#[test]
fn parts_that_no_layer_of_an_unknown_model_has_are_not_missing() {
    let without = |part: &'static str| model(&[dense(&[part]), dense(&[part])]);
    for part in ["mlp.gate_proj", "self_attn.v_proj"] {
        assert_eq!(all_found(UNKNOWN, without(part), ROWS, |_| ()), [""; 0], "{part}");
    }
    // One layer has it.
    let found = all_found(UNKNOWN, model(&[dense(&[]), dense(&["mlp.gate_proj"])]), ROWS, |_| ());
    assert!(
        found.iter().any(|found| found.starts_with("Q311: ") && found.contains("layers.1.mlp.gate_proj")),
        "{found:?}"
    );
}

#[test]
fn the_gate_of_attention_is_no_part_of_an_mlp() {
    let gated: Vec<String> = dense(&[]).into_iter().chain(["self_attn.gate_proj".to_owned()]).collect();
    assert_eq!(all_found("AfmoeForCausalLM", model(&[gated.clone(), gated]), ROWS, |_| ()), [""; 0]);
}

#[test]
fn layers_that_config_counts_twice_are_not_missing() {
    let scene = Scene::new();
    let tensors = model(&[dense(&[]), dense(&[])]);
    let tensors: Tensors =
        tensors.into_iter().map(|(name, tensor)| (name.replace("model.", "backbone."), tensor)).collect();
    for (class, warns) in [("DoryForCausalLM", false), (UNKNOWN, true)] {
        let config = json!({
            "architectures": [class], "model_type": class, "num_hidden_layers": 4, "tie_word_embeddings": false,
        });
        let source = scene.checkpoint(class, std::slice::from_ref(&tensors), config);
        let output = format!("{class}-FP8");
        scene.apply(ROWS, &source, &output, &[]);
        let found = lint(&scene.path(&output), &()).unwrap();
        assert_eq!(found.iter().any(|finding| finding.rule.code == "Q312"), warns, "{class}: {found:?}");
    }
}

#[test]
fn what_the_source_lacks_too_is_a_warning() {
    let qwen = json!({ "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3" });
    let layers = [dense(&[]), dense(&["self_attn.v_proj"])];
    assert_eq!(found(&layers, qwen.clone(), nothing), NOTHING);
    // Lost on the way it is a fault.
    let lost = "model.layers.1.self_attn.v_proj";
    for errors in found(&[dense(&[]), dense(&[])], qwen, |tensors| tensors.retain(|name, _| !name.starts_with(lost))) {
        assert!(errors.iter().any(|error| error.starts_with("Q311") && error.contains(lost)), "{errors:?}");
    }
}

#[test]
fn a_second_stack_of_layers_may_be_shorter() {
    // Modules of other stacks stand below the first layer's name, whose part they are not.
    let mut tensors = model(&[dense(&[]), dense(&[]), dense(&[])]);
    let first: Vec<_> = tensors.iter().filter(|(name, _)| name.starts_with("model.layers.0.")).collect();
    let talker: Tensors =
        first.into_iter().map(|(name, tensor)| (name.replace("model.", "talker."), tensor.clone())).collect();
    tensors.extend(talker);
    let scene = Scene::new();
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 3, "tie_word_embeddings": false,
    });
    let source = scene.checkpoint("source", &[tensors], config);
    scene.apply(ROWS, &source, "out", &[]);
    let out = scene.path("out");
    assert!(verify(&out, Some(&source), &[], &()).unwrap().findings.is_empty());
    assert!(lint(&out, &()).unwrap().is_empty());
}
