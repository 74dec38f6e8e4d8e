//! Warnings about what nobody has seen: unknown families, families that nobody has loaded, promised layers that are missing.

use std::fs;
use std::process::Command;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::init::draft_family;
use qwen_fp8::plan::{Job, Plan};
use serde_json::{Value, json};

use super::{BLOCKS, plan, try_plan};
use crate::support::program::program;
use crate::support::shapes::{self, Shapes};

const ROWS: &str = "format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n";

/// A small language model as this class, with further matrices.
fn class(class: &str, model_type: &str, more: &[&str]) -> Shapes {
    let model =
        shapes::small_text().with_config("architectures", json!([class])).with_config("model_type", model_type.into());
    more.iter().fold(model, |model, name| model.with(&format!("{name}.weight"), &[128, 256]))
}

fn warnings(plan: &Plan) -> Vec<&str> {
    plan.warnings.iter().map(|warning| warning.message.as_str()).collect()
}

fn quantized(plan: &Plan) -> Vec<&str> {
    let tensors = plan.inputs.iter().zip(&plan.jobs);
    tensors.filter(|(_, job)| matches!(job, Job::Quantize { .. })).map(|(input, _)| input.module()).collect()
}

fn ignored(plan: &Plan) -> Vec<String> {
    let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
    let config: Value = serde_json::from_slice(config).unwrap();
    let config = &config["quantization_config"];
    let list = config.get("ignore").or(config.get("ignored_layers")).unwrap().as_array().unwrap();
    list.iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_family_that_nobody_has_loaded_is_said_to_be_one_where_something_stays() {
    for recipe in [BLOCKS, ROWS] {
        let tower = ["vision_tower.layers.0.fc1", "multi_modal_projector.linear_1"];
        let aya = class("AyaVisionForConditionalGeneration", "aya_vision", &tower);
        let planned = plan(recipe, &aya);
        let [warning] = &warnings(&planned)[..] else { panic!("{:?}", warnings(&planned)) };
        assert!(warning.starts_with("nobody has seen vLLM load `AyaVisionForConditionalGeneration` ("), "{warning}");
        assert!(warning.contains("may look for 2 unquantized layers under other names than the list has"), "{warning}");
        assert!(planned.warnings[0].help[0].contains("qwen-fp8 models --draft"), "{:?}", planned.warnings);
        // Nothing stays but head, embedding and norms, which no list is asked for.
        assert_eq!(warnings(&plan(recipe, &class("AyaVisionForConditionalGeneration", "aya_vision", &[]))), [""; 0]);
        // A family whose loading was seen.
        let gemma = class("Gemma3ForConditionalGeneration", "gemma3", &tower);
        assert_eq!(warnings(&plan(recipe, &gemma)), [""; 0]);
    }
}

#[test]
fn layers_that_are_promised_and_missing_are_told() {
    for (class_name, model_type, key) in [
        ("DeepseekV3ForCausalLM", "deepseek_v3", "num_nextn_predict_layers"),
        ("Qwen3_5ForCausalLM", "qwen3_5_text", "mtp_num_hidden_layers"),
        ("MiniMaxM2ForCausalLM", "minimax_m2", "num_mtp_modules"),
        ("NonesuchForCausalLM", "nonesuch", "num_nextn_predict_layers"),
    ] {
        let promised = class(class_name, model_type, &[]).with_config(key, 1.into());
        let planned = plan(BLOCKS, &promised);
        let expected =
            format!("config.json says `{key}: 1`, and the checkpoint has no tensor of a layer that predicts");
        assert!(matches!(&warnings(&planned)[..], [only] if only.starts_with(&expected)), "{:?}", warnings(&planned));
        // The help leads to a run without the warning, as do the tensors.
        assert_eq!(warnings(&plan(BLOCKS, &promised.clone().with_config(key, 0.into()))), [""; 0]);
        for there in ["mtp.layers.0.input_layernorm", "model.layers.2.enorm", "model.mtp_block.0.input_layernorm"] {
            let there = promised.clone().with(&format!("{there}.weight"), &[256]);
            assert_eq!(warnings(&plan(BLOCKS, &there)), [""; 0]);
        }
    }
}

#[test]
fn lists_for_layers_that_predict_further_tokens_have_the_forms_that_servers_obey() {
    let layer = |at: &str| ["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| format!("{at}.self_attn.{part}"));
    for (class_name, model_type, at, asked) in [
        ("Glm4MoeForCausalLM", "glm4_moe", "model.layers.2", "model.layers.2.self_attn.qkv_proj"),
        ("Qwen3NextForCausalLM", "qwen3_next", "mtp.layers.0", "mtp.layers.0.self_attn.qkv_proj"),
        ("Qwen3_5ForCausalLM", "qwen3_5_text", "mtp.layers.0", "mtp.layers.0.self_attn.qkv_proj"),
        ("Ernie4_5_MoeForCausalLM", "ernie4_5_moe", "model.mtp_block.0", "model.layers.2.self_attn.qkv_proj"),
        ("MiMoForCausalLM", "mimo", "model.mtp_layers.0", "model.layers.2.self_attn.qkv_proj"),
    ] {
        let modules = layer(at);
        let shapes = class(class_name, model_type, &modules.each_ref().map(String::as_str));
        for format in ["fp8", "compressed-tensors"] {
            let kept = format!(
                "format: {format}\nserving: warn\nrules:\n  - {{scheme: PASSTHROUGH, targets: ['re:{}.*']}}\n  \
                 - {{scheme: FP8_BLOCK, targets: Linear}}\n",
                at.replace('.', "\\.")
            );
            let planned = plan(&kept, &shapes);
            let list = ignored(&planned);
            for name in modules.iter().map(String::as_str).chain([asked]) {
                assert!(list.iter().any(|entry| entry == name), "{class_name}: {name}: {list:?}");
            }
            // Layers before keep no name of their own.
            assert!(!list.iter().any(|entry| entry == "model.layers.1.self_attn.qkv_proj"), "{list:?}");
            let has_pattern = list.iter().any(|entry| entry == r"re:^mtp\..*");
            assert_eq!(has_pattern, format == "compressed-tensors" && at.starts_with("mtp."), "{list:?}");
        }
    }
}

#[test]
fn weights_that_are_stored_transposed_are_refused_for_what_they_are() {
    let blocks = [("attn.c_attn", [256, 768]), ("attn.c_proj", [256, 256]), ("mlp.c_fc", [256, 1024])];
    let names = blocks.map(|(name, shape)| (format!("transformer.h.0.{name}.weight"), shape));
    let tensors = names.iter().map(|(name, shape)| (name.as_str(), &shape[..]));
    let gpt2 = shapes::of_tensors(tensors.chain([("transformer.wte.weight", &[512, 256][..])]))
        .with_config("architectures", json!(["GPT2LMHeadModel"]))
        .with_config("model_type", "gpt2".into())
        .with_config("tie_word_embeddings", true.into());
    for (targets, said) in [
        ("Linear", "`Linear` takes none of the 3 linear layers"),
        ("'re:.*c_.*'", "3 layers among the layers that are stored"),
    ] {
        let refused = try_plan(&ROWS.replace("Linear", targets), &gpt2).unwrap_err();
        let found = refused.iter().find(|refused| refused.message.contains(said));
        let found = found.unwrap_or_else(|| panic!("{targets}: {refused:#?}"));
        assert!(found.help.iter().any(|help| help.contains("and not the scales")), "{found:#?}");
    }
}

/// The drafted file is read, with it the plan is made without a word, and it takes what it took before.
#[test]
fn a_drafted_file_of_an_unknown_family_leads_to_a_plan_without_a_word() {
    let dense = ["model.layers.0.mixer.in_proj", "audio_head.linear", "model.layers.1.mlp.gate"];
    let outside: Vec<String> = (0..3).map(|index| format!("backbone.{index}.dense")).collect();
    for (index, shapes) in [
        class("NonesuchForCausalLM", "nonesuch", &dense),
        class("Strange2ForConditionalGeneration", "strange2", &["tower.blocks.0.fc1", "tower.blocks.1.fc1"]),
        class("Odd\u{202e}Model", "odd", &outside.iter().map(String::as_str).collect::<Vec<_>>()),
    ]
    .iter()
    .enumerate()
    {
        let dir = shapes.write_single();
        let before = plan(ROWS, shapes);
        assert_eq!(warnings(&before).len(), 1, "{:?}", warnings(&before));
        let text = draft_family(&Checkpoint::open(dir.path()).unwrap()).unwrap();
        assert!(!text.contains('\u{202e}'), "{text}");
        let models = tempfile::tempdir().unwrap();
        fs::write(models.path().join("drafted.yaml"), &text).unwrap();
        fs::write(dir.path().join("recipe.yaml"), format!("model: {}\noutput: out\n{ROWS}", dir.path().display()))
            .unwrap();
        // A process of its own: the families of a user are those of the process.
        let run = Command::new(program())
            .args(["plan", "--json", "--models"])
            .arg(models.path())
            .arg(dir.path().join("recipe.yaml"))
            .output()
            .unwrap();
        assert!(run.status.success(), "{index}: {}\n{text}", String::from_utf8_lossy(&run.stderr));
        let planned: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(planned["warnings"], json!([]), "{index}: {text}");
        assert_eq!(planned["quantized_tensors"], quantized(&before).len(), "{index}: {text}");
    }
}

#[test]
fn a_drafted_file_of_a_family_that_nobody_has_loaded_is_like_it() {
    let dir = class("AyaVisionForConditionalGeneration", "aya_vision", &["vision_tower.layers.0.fc1"]).write_single();
    let text = draft_family(&Checkpoint::open(dir.path()).unwrap()).unwrap();
    assert!(text.contains("\nlike: ") && text.contains("aya_vision"), "{text}");
    let nameless = class("X", "x", &[]).with_config("architectures", json!([])).with_config("model_type", Value::Null);
    let dir = nameless.write_single();
    let error = draft_family(&Checkpoint::open(dir.path()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("names no class"), "{error}");
}
