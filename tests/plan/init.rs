//! First recipes: what `init` drafts is planned without a word, whatever the family.

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::text::human;
use qwen_fp8::init::{DraftGranularity, InitError, Request, draft};
use qwen_fp8::plan::summary::Summary;
use qwen_fp8::plan::{Job, Plan};
use serde_json::json;

use super::{plan, recipe};
use crate::support::shapes::{self, Shapes, bf16, deepseek, gemma, hybrid, llama, qwen2_5_vl, qwen3};

fn request(granularity: Option<DraftGranularity>) -> Request {
    Request { model: "org/model".to_owned(), schema: Some("file:///schema.json".to_owned()), granularity }
}

fn try_init(shapes: &Shapes, granularity: Option<DraftGranularity>) -> Result<String, InitError> {
    draft(Checkpoint::open(shapes.write_single().path()).unwrap(), &request(granularity))
}

fn init(shapes: &Shapes, granularity: Option<DraftGranularity>) -> String {
    try_init(shapes, granularity).unwrap_or_else(|error| panic!("{error:#?}"))
}

fn quantized(plan: &Plan) -> Vec<&str> {
    let tensors = plan.inputs.iter().zip(&plan.jobs);
    tensors.filter(|(_, job)| matches!(job, Job::Quantize { .. })).map(|(tensor, _)| tensor.name.as_str()).collect()
}

/// Drafts the recipe again, and holds it against what this ready recipe quantizes.
fn assert_drafted(shapes: &Shapes, granularity: Option<DraftGranularity>, ready: &str) -> String {
    let text = assert_clean(shapes, granularity);
    assert_eq!(init(shapes, granularity), text, "a second draft differs");
    let ready = std::fs::read_to_string(format!("{}/recipes/{ready}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(quantized(&plan(&text, shapes)), quantized(&plan(&ready, shapes)), "{text}");
    text
}

/// Drafts a recipe that is valid and planned without a word, and whose figures are the plan's.
fn assert_clean(shapes: &Shapes, granularity: Option<DraftGranularity>) -> String {
    let text = init(shapes, granularity);
    let drafted = plan(&text, shapes);
    assert!(Plan::check_recipe(&drafted.recipe).is_empty());
    assert!(drafted.warnings.is_empty(), "{text}\n{:#?}", drafted.warnings);
    assert!(drafted.recipe.rules.iter().all(|rule| !rule.optional), "a draft knows what there is:\n{text}");
    let summary = Summary::of(&drafted);
    let sizes = format!("{} now, and {} quantized", human(summary.source_bytes), human(summary.output_bytes));
    assert!(text.contains(&sizes), "{sizes}:\n{text}");
    assert!(text.contains(&format!("# {} linear layers of the language model", summary.quantized_tensors)), "{text}");
    text
}

#[test]
fn dense_families_and_their_towers_get_recipes_that_plan() {
    for shapes in [
        qwen3::qwen3_0_6b(),
        shapes::qwen3_8b(),
        shapes::qwen3_vl_2b(),
        shapes::qwen3_vl_8b(),
        qwen2_5_vl::qwen2_5_7b(),
        qwen2_5_vl::qwen2_5_vl_7b(),
        llama::llama_3_1_8b(),
        llama::mistral_7b(),
        gemma::gemma_3_4b(),
        gemma::gemma_3_12b(),
    ] {
        assert_drafted(&shapes, None, "fp8_dynamic.yaml");
        let text = assert_drafted(&shapes, Some(DraftGranularity::Channel), "fp8_per_channel.yaml");
        assert!(!text.contains("no family that is known"), "{text}");
    }
}

#[test]
fn families_with_experts_get_recipes_that_plan() {
    assert_drafted(&qwen3::qwen3_30b_a3b(), None, "fp8_dynamic.yaml");
    // A draft was planned before it is handed out; the ready recipe takes as many layers, see `families`.
    insta::assert_snapshot!("qwen3_next", init(&hybrid::qwen3_next_80b_a3b(), None));
}

#[test]
fn hybrids_get_a_recipe_that_plans() {
    let shapes = hybrid::qwen3_5_27b();
    insta::assert_snapshot!("qwen3_5", assert_drafted(&shapes, None, "fp8_dynamic.yaml"));
    assert_drafted(&shapes, Some(DraftGranularity::Channel), "fp8_per_channel.yaml");
}

#[test]
fn latent_attention_gets_a_recipe_that_plans() {
    // The ready recipe takes as many, see `families`.
    insta::assert_snapshot!("deepseek_v3", assert_clean(&deepseek::deepseek_v3(), None));
}

#[test]
fn stacked_experts_are_split() {
    let shapes = shapes::qwen3_vl_30b_stacked();
    let text = init(&shapes, None);
    let plan = plan(&text, &shapes);
    assert_eq!((quantized(&plan).len(), plan.warnings.len()), (48 * (4 + 3 * 128), 0));
    insta::assert_snapshot!("qwen3_vl_moe", text);
    assert_drafted(&shapes, Some(DraftGranularity::Channel), "fp8_per_channel.yaml");
}

#[test]
fn a_tower_that_no_single_word_names_is_left_out_by_the_names_of_its_layers() {
    let tower = |name: &str, layer: usize| format!("{name}.encoder.layers.{layer}.mlp.fc1.weight");
    let names = [tower("image_tower", 0), tower("image_tower", 1), tower("video_tower", 0), tower("video_tower", 1)];
    let shapes = names.iter().fold(shapes::small_text(), |shapes, name| shapes.with(name, &[128, 128]));
    let shapes = shapes
        .with_config("architectures", json!(["VideoLlavaForConditionalGeneration"]))
        .with_config("model_type", "video_llava".into());
    let drafted = init(&shapes, None);
    assert!(drafted.contains(r"re:image_tower\.encoder\.layers\.\d+\.mlp\.fc1$"), "{drafted}");
    let planned = plan(&drafted, &shapes);
    let taken = quantized(&planned);
    assert!(!taken.is_empty() && taken.iter().all(|name| !name.contains("_tower")), "{taken:?}");
}

#[test]
fn rows_where_blocks_fit_little() {
    // The shapes of SmolLM-135M.
    let layers = (0..2).flat_map(|layer| {
        [("q", [576, 576]), ("k", [192, 576]), ("v", [192, 576]), ("o", [576, 576])]
            .map(|(part, shape)| bf16(format!("model.layers.{layer}.self_attn.{part}_proj.weight"), &shape))
    });
    let mut shapes = shapes::of_tensors([("model.embed_tokens.weight", &[49_152, 576][..])])
        .with_config("tie_word_embeddings", true.into());
    shapes.tensors.extend(layers);
    let text = init(&shapes, None);
    let planned = plan(&text, &shapes);
    assert_eq!((quantized(&planned).len(), planned.warnings.len()), (8, 0));
    assert!(text.contains("Blocks of 128 do not fit most of them, hence rows."), "{text}");
    assert!(matches!(try_init(&shapes, Some(DraftGranularity::Block)), Err(InitError::Nothing { .. })));
}

#[test]
fn rows_where_blocks_are_not_loaded() {
    let falcon = shapes::small_text()
        .with_config("architectures", json!(["FalconForCausalLM"]))
        .with_config("model_type", "falcon".into());
    let text = assert_clean(&falcon, None);
    assert!(text.contains("Rows, since vLLM 0.33 loads no blocks for this model."), "{text}");
    let Err(InitError::Refused(refused)) = try_init(&falcon, Some(DraftGranularity::Block)) else { panic!("drafted") };
    let said = &refused.diagnostics[0];
    assert!(said.message.starts_with("vLLM 0.33 cannot load this for `FalconForCausalLM`"), "{}", said.message);
    assert!(said.help[0].contains("leave `block_size` out"), "{:?}", said.help);
}

#[test]
fn rows_where_a_misfit_would_keep_what_no_list_keeps() {
    let small = shapes::small_text()
        .with_config("architectures", json!(["MiniCPM3ForCausalLM"]))
        .with_config("model_type", "minicpm3".into());
    let shapes = small
        .with("model.layers.0.self_attn.q_a_proj.weight", &[128, 200])
        .with("model.layers.1.self_attn.q_a_proj.weight", &[128, 256]);
    let text = assert_clean(&shapes, None);
    assert!(text.contains("Blocks of 128 do not fit model.layers.0.self_attn.q_a_proj"), "{text}");
}

#[test]
fn a_misfit_draws_no_layer_along_that_the_family_does_not_fuse_with_it() {
    let small = shapes::small_text()
        .with("model.layers.0.self_attn.q_a_proj.weight", &[128, 256])
        .with("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", &[200, 256]);
    let of_class = |class: &str, model: &str| {
        let shapes = small.clone().with_config("architectures", json!([class])).with_config("model_type", model.into());
        let text = assert_clean(&shapes, None);
        assert!(text.contains("block_size: 128"), "{text}");
        quantized(&plan(&text, &shapes)).contains(&"model.layers.0.self_attn.q_a_proj.weight")
    };
    assert!(of_class("MiniCPM3ForCausalLM", "minicpm3"));
    assert!(!of_class("KimiLinearForCausalLM", "kimi_linear"));
}

/// vLLM puts a layer with a row for each head between those of attention: no block behind it would begin where one ends.
#[test]
fn layers_behind_one_of_few_rows_stay_with_all_that_is_fused() {
    let kimi = shapes::small_text()
        .with_config("architectures", json!(["KimiLinearForCausalLM"]))
        .with_config("model_type", "kimi_linear".into())
        .with("model.layers.0.self_attn.b_proj.weight", &[4, 256])
        .with("model.layers.0.self_attn.f_a_proj.weight", &[128, 256]);
    let text = assert_clean(&kimi, None);
    let planned = plan(&text, &kimi);
    let taken = quantized(&planned);
    let is_taken = |layer: &str| taken.contains(&format!("model.layers.{layer}_proj.weight").as_str());
    for part in ["q", "k", "v", "b", "f_a"] {
        assert!(!is_taken(&format!("0.self_attn.{part}")), "{part}: {taken:?}");
    }
    for other in ["0.self_attn.o", "0.mlp.up", "1.self_attn.q", "1.self_attn.k"] {
        assert!(is_taken(other), "{other}: {taken:?}");
    }
}

#[test]
fn a_misfit_stays_unquantized_with_its_fused_layer() {
    let mut shapes = shapes::small_text();
    shapes.tensor("model.layers.1.self_attn.v_proj.weight").shape = vec![200, 256];
    let text = init(&shapes, None);
    let planned = plan(&text, &shapes);
    assert_eq!((quantized(&planned).len(), planned.warnings.len()), (2 * 7 - 3, 0));
    assert!(text.contains("3 linear layers: blocks of 128 do not fit [200, 256], and"), "{text}");
    for part in ["q", "k", "v"] {
        assert!(text.contains(&format!("- 'model.layers.1.self_attn.{part}_proj'")), "{text}");
    }
}

#[test]
fn an_unknown_family_is_quantized_where_names_say_what_layers_are() {
    let shapes = shapes::small_text()
        .with_config("model_type", "nonesuch".into())
        .with_config("architectures", serde_json::json!(["None\u{1b}suchForCausalLM"]))
        .with("model.layers.0.mixer.in_proj.weight", &[512, 256])
        .with("model.layers.1.mixer.in_proj.weight", &[512, 256])
        .with("audio_tower.layers.0.self_attn.q_proj.weight", &[256, 256])
        .with("projector.li\u{202e}near.weight", &[256, 256]);
    let text = init(&shapes, None);
    let plan = plan(&text, &shapes);
    // That nothing is known of the four layers is said once.
    assert_eq!((quantized(&plan).len(), plan.warnings.len()), (2 * 7, 1));
    assert!(plan.warnings[0].message.contains("may look for 4 unquantized layers under other names"));
    assert!(quantized(&plan).iter().all(|name| name.starts_with("model.layers.") && !name.contains("mixer")));
    insta::assert_snapshot!("unknown", text);
}

#[test]
fn quantized_sources_and_those_without_linear_layers_are_refused() {
    let quantized = shapes::small_text().with_config("quantization_config", serde_json::json!({"quant_method": "fp8"}));
    let error = try_init(&quantized, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint is quantized already: `quantization_config` in `config.json` says `fp8`"
    );
    let nothing = shapes::of_tensors([("model.norm.weight", &[256][..])]);
    assert!(matches!(try_init(&nothing, None), Err(InitError::Nothing { .. })));
    // What stays for a reason is told with the reason, and no recipe is offered that a plan refuses.
    let gpt2 = shapes::of_tensors([("transformer.h.0.mlp.c_fc.weight", &[256, 1024][..])])
        .with_config("architectures", serde_json::json!(["GPT2LMHeadModel"]));
    let help = try_init(&gpt2, None).unwrap_err().help();
    assert_eq!(
        help,
        [
            "1 linear layer among the layers that are stored transposed: vLLM turns their weights round on loading, and not the scales"
        ]
    );
}

#[test]
fn names_are_quoted_so_that_the_recipe_reads_them_back() {
    let dir = shapes::small_text().write_single();
    for (model, output) in [
        ("Qwen/Qwen3-0.6B@main", "Qwen3-0.6B-FP8"),
        ("/data/it's here: #1/", "it's here: #1-FP8"),
        ("-1e-5", "-1e-5-FP8"),
        ("a\nrules: []", "a\nrules: []-FP8"),
        ("null", "null-FP8"),
        ("a\u{202e}\"\\b\u{85}\u{1f642}", "a\u{202e}\"\\b\u{85}\u{1f642}-FP8"),
    ] {
        let request = Request { model: model.to_owned(), schema: None, granularity: None };
        let text = draft(Checkpoint::open(dir.path()).unwrap(), &request).unwrap();
        assert!(!text.contains(['\u{202e}', '\u{85}']), "{text:?}");
        let read = recipe(&text);
        assert_eq!((read.model.as_deref(), read.output.as_deref()), (Some(model), Some(output)));
    }
}
