//! What the catalogue knows of a model, in plans: names in lists, formats that a class cannot load, unknown families.

use std::collections::BTreeSet;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::init::{DraftGranularity, Request, draft};
use qwen_fp8::plan::{Job, Plan};
use qwen_fp8::recipe::diagnostic::Level;
use serde_json::{Value, json};

use super::{BLOCKS, error, listed, plan};
use crate::support::shapes::{self, Shapes};

const ROWS: &str = "format: compressed-tensors\nexperts: split\nscheme: FP8_DYNAMIC\ntargets: Linear\n";

/// A small language model as this class, with further tensors.
fn class(class: &str, model_type: &str, more: &[(&str, &[usize])]) -> Shapes {
    let model =
        shapes::small_text().with_config("architectures", json!([class])).with_config("model_type", model_type.into());
    more.iter().fold(model, |model, (name, shape)| model.with(name, shape))
}

fn quantized(plan: &Plan) -> BTreeSet<&str> {
    let tensors = plan.inputs.iter().zip(&plan.jobs);
    tensors.filter(|(_, job)| matches!(job, Job::Quantize { .. })).map(|(input, _)| input.module()).collect()
}

fn says(plan: &Plan, words: &str) -> bool {
    plan.warnings.iter().any(|warning| warning.message.contains(words))
}

#[test]
fn linear_takes_no_part_that_servers_build_unquantized() {
    let more: &[(&str, &[usize])] = &[
        ("model.audio_tower.layers.0.self_attn.q_proj.weight", &[128, 128]),
        ("model.multi_modal_projector.linear_1.weight", &[128, 128]),
        ("model.embed_vision.embedding_projection.weight", &[128, 128]),
        ("model.embed_tokens_per_layer.weight", &[128, 128]),
        ("model.layers.0.self_attn.indexer.weights_proj.weight", &[128, 128]),
        ("model.layers.0.mixer.gate.weight", &[128, 128]),
        ("model.layers.1.eh_proj.weight", &[128, 256]),
        ("model.layers.1.shared_head.head.weight", &[128, 128]),
        ("mtp.layers.0.mlp.up_proj.weight", &[128, 128]),
        ("score.weight", &[128, 128]),
    ];
    for shapes in [class("Qwen3ForCausalLM", "qwen3", more), class("NonesuchForCausalLM", "nonesuch", more)] {
        for recipe in [BLOCKS, ROWS] {
            let plan = plan(recipe, &shapes);
            let taken = quantized(&plan);
            assert_eq!(taken.len(), 2 * 7);
            assert!(more.iter().all(|(name, _)| !taken.contains(name.strip_suffix(".weight").unwrap())), "{taken:?}");
        }
    }
}

#[test]
fn a_part_that_no_server_reads_quantized_is_refused_by_its_name() {
    let shapes = class("Qwen3ForCausalLM", "qwen3", &[("model.audio_tower.layers.0.q_proj.weight", &[128, 128])]);
    let refused = error("format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: 're:.*'\n", &shapes);
    assert!(refused.message.contains("1 layer of the audio tower would be quantized"), "{}", refused.message);
    assert!(refused.help.iter().any(|help| help.contains("re:.*audio_tower.*")), "{:?}", refused.help);
}

#[test]
fn an_unknown_family_is_said_to_be_one() {
    let shapes = class("NonesuchForCausalLM", "nonesuch", &[("model.layers.0.mixer.in_proj.weight", &[128, 128])]);
    let plan = plan(BLOCKS, &shapes);
    assert!(says(
        &plan,
        "`NonesuchForCausalLM` is of no family that is known here, and `Linear` leaves 1 linear layer out"
    ));
    assert_eq!(plan.warnings.len(), 1);
    // Nothing is left out of a model whose names are all known.
    assert!(super::plan(BLOCKS, &class("NonesuchForCausalLM", "nonesuch", &[])).warnings.is_empty());
    let outside = shapes::of_tensors([("encoder.a.weight", &[128, 128][..]), ("encoder.b.weight", &[128, 128])]);
    let outside =
        outside.with_config("architectures", json!(["NonesuchModel"])).with_config("model_type", "nonesuch".into());
    let refused = error(BLOCKS, &outside.with_config("tie_word_embeddings", true.into()));
    assert!(refused.message.contains("`Linear` takes none of the 2 linear layers"), "{}", refused.message);
}

#[test]
fn lists_hold_merged_and_renamed_names() {
    let glm = class(
        "Glm4vForConditionalGeneration",
        "glm4v",
        &[
            ("model.visual.blocks.0.attn.qkv.weight", &[384, 128]),
            ("model.visual.blocks.0.mlp.gate_proj.weight", &[128, 128]),
            ("model.visual.blocks.0.mlp.up_proj.weight", &[128, 128]),
        ],
    );
    let (blocks, rows) = (listed(&plan(BLOCKS, &glm)), listed(&plan(ROWS, &glm)));
    for list in [&blocks, &rows] {
        for name in ["attn.qkv", "mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj"] {
            assert!(list.contains(&format!("model.visual.blocks.0.{name}")), "{name}: {list:?}");
        }
    }
    // Only the reader of compressed-tensors asks for this one, and only it reads patterns.
    for name in ["model.visual.blocks.0.attn.qkv_proj", r"re:.*visual\..*"] {
        assert!(rows.contains(name) && !blocks.contains(name), "{name}");
    }
    let granite = class("GraniteMoeHybridForCausalLM", "granitemoehybrid", &[]);
    let granite = granite.with("model.layers.0.mamba.in_proj.weight", &[256, 256]);
    let kept =
        "rules:\n  - {scheme: PASSTHROUGH, targets: ['re:.*mamba.*']}\n  - {scheme: FP8_DYNAMIC, targets: Linear}\n";
    let list = listed(&plan(&format!("format: compressed-tensors\n{kept}"), &granite));
    assert!(list.contains("model.layers.0.mamba.in_proj") && list.contains("model.layers.0.mixer.in_proj"), "{list:?}");
}

#[test]
fn lists_hold_the_parts_that_a_block_lacks() {
    let kept = "format: fp8\nrules:\n  - {scheme: PASSTHROUGH, targets: ['re:.*self_attn.*']}\n  - {scheme: FP8_BLOCK, targets: Linear}\n";
    let lacking = |class_name, model_type| {
        let shapes = class(class_name, model_type, &[]).without("model.layers.1.self_attn.v_proj.weight");
        listed(&plan(kept, &shapes)).contains("model.layers.1.self_attn.v_proj")
    };
    assert!(lacking("Gemma4ForCausalLM", "gemma4_text"));
    // Elsewhere a part that is not there is no part.
    assert!(!lacking("Qwen3ForCausalLM", "qwen3"));
}

#[test]
fn a_pattern_is_listed_where_all_that_it_reaches_stays() {
    let shapes = class(
        "Mistral3ForConditionalGeneration",
        "mistral3",
        &[
            ("vision_tower.transformer.layers.0.attention.q_proj.weight", &[128, 128]),
            ("vision_tower.transformer.layers.0.attention.o_proj.weight", &[128, 128]),
        ],
    );
    assert!(listed(&plan(ROWS, &shapes)).contains(r"re:.*vision_tower\..*"));
    let one =
        "format: compressed-tensors\nserving: warn\nscheme: FP8_DYNAMIC\ntargets: [Linear, 're:.*attention.q_proj']\n";
    assert!(!listed(&plan(one, &shapes)).contains(r"re:.*vision_tower\..*"));
}

#[test]
fn formats_that_a_class_cannot_load_are_refused_or_told() {
    let mistral3 = class("Mistral3ForConditionalGeneration", "mistral3", &[]);
    let refused = error(BLOCKS, &mistral3);
    assert!(refused.message.starts_with("vLLM 0.33 cannot load this for `Mistral3"), "{}", refused.message);
    assert!(refused.help[0].contains("compressed-tensors"));
    plan(&BLOCKS.replace("format: fp8", "format: compressed-tensors"), &mistral3);
    plan(ROWS, &mistral3);
    let llama = plan(BLOCKS, &class("LlamaForCausalLM", "llama", &[]));
    assert!(
        says(&llama, "SGLang 0.5.23 cannot load this")
            && llama.warnings.iter().all(|said| said.level == Level::Warning)
    );
    // Written all the same where the recipe asks for it, and then nobody is told to serve it there.
    let warned = plan(&format!("serving: warn\n{}", BLOCKS.trim_start()), &mistral3);
    let servers = |plan: &Plan| plan.unserved.keys().cloned().collect::<Vec<_>>();
    assert_eq!((servers(&warned), servers(&llama)), (vec!["vLLM".to_owned()], vec!["SGLang".to_owned()]));
    assert_eq!(servers(&plan(ROWS, &mistral3)), Vec::<String>::new());
    let names_vllm = |plan: &Plan| {
        let (_, card) = plan.documents.iter().find(|(name, _)| name == "README.md").unwrap();
        String::from_utf8_lossy(card).contains("vllm serve")
    };
    assert!(!names_vllm(&warned) && names_vllm(&llama));
    let dir = mistral3.write_single();
    let request = Request { model: "m".to_owned(), schema: None, granularity: Some(DraftGranularity::Block) };
    let drafted = draft(Checkpoint::open(dir.path()).unwrap(), &request).unwrap();
    assert!(drafted.contains("format: compressed-tensors # vLLM 0.33 loads no blocks"), "{drafted}");
}

#[test]
fn a_layer_that_no_list_reaches_cannot_stay() {
    let shapes = class("MiniCPM3ForCausalLM", "minicpm3", &[("model.layers.0.self_attn.q_a_proj.weight", &[128, 256])]);
    plan(ROWS, &shapes);
    let kept = "format: compressed-tensors\nrules:\n  - {scheme: PASSTHROUGH, targets: ['re:.*q_a_proj']}\n  - {scheme: FP8_DYNAMIC, targets: Linear}\n";
    let refused = error(kept, &shapes);
    assert!(
        refused.message.contains("no list tells vLLM so: `model.layers.0.self_attn.q_a_proj`"),
        "{}",
        refused.message
    );
}

#[test]
fn experts_stacked_under_other_names_are_no_convolutions() {
    let shapes = class(
        "GraniteMoeForCausalLM",
        "granitemoe",
        &[
            ("model.layers.0.block_sparse_moe.input_linear.weight", &[4, 256, 128]),
            ("model.layers.0.block_sparse_moe.output_linear.weight", &[4, 128, 128]),
        ],
    );
    let refused = error("format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n", &shapes);
    assert!(refused.message.contains("input_linear"), "{}", refused.message);
}

#[test]
fn config_says_how_experts_are_stored_where_a_server_asks() {
    let shapes = class(
        "DeepseekV4ForCausalLM",
        "deepseek_v4",
        &[
            ("layers.0.ffn.experts.0.w1.weight", &[128, 128]),
            ("layers.0.ffn.experts.0.w2.weight", &[128, 128]),
            ("layers.0.ffn.experts.0.w3.weight", &[128, 128]),
        ],
    );
    let expert_dtype = |plan: &Plan| {
        let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
        serde_json::from_slice::<Value>(config).unwrap().get("expert_dtype").cloned()
    };
    assert_eq!(expert_dtype(&plan(ROWS, &shapes)), Some(json!("fp8")));
    assert_eq!(expert_dtype(&plan(BLOCKS, &shapes)), Some(json!("fp8")));
    let kept = "format: compressed-tensors\nrules:\n  - {scheme: PASSTHROUGH, targets: ['re:.*experts.*']}\n  - {scheme: FP8_DYNAMIC, targets: Linear}\n";
    assert_eq!(expert_dtype(&plan(kept, &shapes)), None);
}

#[test]
fn what_one_server_alone_reads_wrong_is_one_warning_that_promises_no_other_format() {
    let blocks = "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: Linear\n";
    for recipe in [blocks, ROWS] {
        let warnings = plan(recipe, &class("NomicBertModel", "nomic_bert", &[])).warnings;
        let about: Vec<_> = warnings.iter().filter(|warning| warning.message.contains("transformers 5.24")).collect();
        let [warning] = about[..] else { panic!("{warnings:?}") };
        assert!(warning.message.contains("leaves their scales behind"), "{warning:?}");
        assert!(warning.help.iter().all(|help| !help.contains("is loaded")), "{warning:?}");
    }
}

#[test]
fn what_transformers_alone_reads_wrong_is_a_note_with_the_way_out() {
    let fp8 = "format: fp8\nexperts: split\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: Linear\n";
    let stacked = shapes::qwen3_vl_30b_stacked();
    let of = |recipe: &str, shapes: &Shapes| {
        let notes = plan(recipe, shapes).notes;
        let about: Vec<_> = notes.into_iter().filter(|note| note.message.contains("transformers 5.24")).collect();
        assert!(about.iter().all(|note| note.level == Level::Note && about.len() == 1), "{about:?}");
        about.into_iter().next()
    };
    for recipe in [fp8, ROWS] {
        let note = of(recipe, &stacked).unwrap();
        assert!(note.message.contains("leaves them random"), "{}", note.message);
        assert!(note.help[0].contains("`experts: keep`"), "{note:?}");
        let (head, rule) = recipe.split_once("scheme").unwrap();
        let rule = format!("scheme{rule}").lines().map(|line| format!("    {line}\n")).collect::<String>();
        let kept = format!(
            "{}rules:\n  - {{ scheme: PASSTHROUGH, targets: Experts }}\n  - {}",
            head.replace("split", "keep"),
            rule.trim_start()
        );
        assert!(of(&kept, &stacked).is_none());
    }
    assert!(of(fp8, &shapes::deepseek::deepseek_v3()).unwrap().message.contains("end inside a block"));
    assert!(of(ROWS, &shapes::deepseek::deepseek_v3()).is_none());
}

#[test]
fn what_leads_to_a_run_is_said_where_the_file_knows_it() {
    let fused = [("model.layers.0.attention.query_key_value.weight", &[384, 128][..])];
    let saved = class("Glm4MoeForCausalLM", "sarvam_moe", &fused);
    for recipe in [BLOCKS, ROWS] {
        let warnings = plan(recipe, &saved).warnings;
        let about = |server: &str| warnings.iter().find(|warning| warning.message.starts_with(server)).unwrap();
        assert!(about("vLLM 0.33").help[0].contains("write `SarvamMoEForCausalLM` under `architectures`"));
        assert!(about("transformers 5.24").message.contains("leaves their scales behind"));
        let published = class("SarvamMoEForCausalLM", "sarvam_moe", &fused);
        let plan = plan(recipe, &published);
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
        assert!(plan.notes[0].message.contains("leaves their scales behind"), "{:?}", plan.notes);
    }
    let muse = plan(BLOCKS, &class("MuseSparkForConditionalGeneration", "muse_spark", &[]));
    assert!(muse.warnings[0].message.contains("NVFP4"), "{:?}", muse.warnings);
    assert!(muse.warnings[0].help[0].contains("no recipe leads to a result that vLLM 0.33 loads"));
}

#[test]
fn drafts_for_gemma_4_are_listed_as_vllm_asks_for_them() {
    let more: &[(&str, &[usize])] = &[("pre_projection.weight", &[256, 256]), ("post_projection.weight", &[256, 256])];
    let draft = class("Gemma4UnifiedAssistantForCausalLM", "gemma4_unified_assistant", more);
    let kept = "rules:\n  - {scheme: PASSTHROUGH, targets: ['re:.*(post_projection|gate_proj|up_proj)']}\n  - {scheme: FP8_DYNAMIC, targets: Linear}\n";
    let plan = plan(&format!("format: compressed-tensors\n{kept}"), &draft);
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    let list = listed(&plan);
    for name in ["draft_model.post_projection", "draft_model.layers.0.mlp.gate_up_proj"] {
        assert!(list.contains(name), "{name}: {list:?}");
    }
    assert!(quantized(&plan).contains("pre_projection"));
}
