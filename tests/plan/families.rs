//! The ready recipes on the model families that they are for: what is quantized, and exactly what is kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qwen_fp8::plan::{Job, Plan};

use super::{plan, try_plan};
use crate::support::shapes::{self, Shapes, deepseek, gemma, hybrid, llama, qwen2_5_vl, qwen3};

const BLOCKS: &str = "fp8_dynamic.yaml";
const ROWS: &str = "fp8_per_channel.yaml";

fn ready(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)).unwrap()
}

fn is_quantized(job: &Job) -> bool {
    matches!(job, Job::Quantize { .. })
}

fn quantized(plan: &Plan) -> usize {
    plan.jobs.iter().filter(|job| is_quantized(job)).count()
}

/// The modules with a matrix that stays as it is, vision tower aside; each layer's number is a star.
fn kept(plan: &Plan) -> BTreeSet<String> {
    let tensors = plan.inputs.iter().zip(&plan.jobs);
    let kept = tensors.filter(|(tensor, job)| tensor.shape.len() == 2 && !is_quantized(job));
    let modules = kept.map(|(tensor, _)| tensor.target_name()).filter(|module| !module.contains("vis"));
    let starred = |module: &str| {
        let parts: Vec<&str> =
            module.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part }).collect();
        parts.join(".")
    };
    modules.map(starred).collect()
}

/// Plans without a word, with so many tensors quantized and these modules kept.
#[track_caller]
fn assert_planned(recipe: &str, shapes: &Shapes, number: usize, expected: &[&str]) {
    let plan = plan(&ready(recipe), shapes);
    assert_eq!(quantized(&plan), number, "{recipe}");
    let expected: BTreeSet<String> = expected.iter().map(|&module| module.to_owned()).collect();
    assert_eq!(kept(&plan), expected, "{recipe}");
    // What SGLang cannot load is told of Llama and Mistral, see `known`.
    let said = plan.warnings.iter().map(|warning| warning.message.as_str());
    let said: Vec<&str> = said.filter(|message| !message.starts_with("SGLang 0.5.23 cannot load")).collect();
    assert!(said.is_empty(), "{recipe}: {said:?}");
    let tower = plan.inputs.iter().zip(&plan.jobs).filter(|(tensor, _)| tensor.name.contains("vis"));
    assert!(tower.into_iter().all(|(_, job)| !is_quantized(job)), "{recipe}");
}

#[test]
fn the_formulas_give_the_sizes_of_the_hub() {
    for (shapes, bytes, tensors) in [
        (qwen3::qwen3_0_6b(), 1_503_264_768, 311),
        (qwen3::qwen3_30b_a3b(), 61_064_245_248, 18_867),
        (qwen2_5_vl::qwen2_5_7b(), 15_231_233_024, 339),
        (qwen2_5_vl::qwen2_5_vl_7b(), 16_584_333_312, 729),
        (llama::llama_3_1_8b(), 16_060_522_496, 291),
        (llama::mistral_7b(), 14_496_047_104, 291),
        (gemma::gemma_3_4b(), 8_600_158_944, 883),
    ] {
        assert_eq!((shapes.bytes(), shapes.tensors.len()), (bytes, tensors), "{}", shapes.config["model_type"]);
    }
    let text = |tensor: &&shapes::Shape| !tensor.name.starts_with("mtp.") && !tensor.name.contains("visual");
    assert_eq!(hybrid::qwen3_5_27b().tensors.iter().filter(text).count(), 851);
}

#[test]
fn dense_models_need_no_rule_of_their_own() {
    let head = ["lm_head", "model.embed_tokens"];
    for (shapes, layers) in [
        (qwen2_5_vl::qwen2_5_7b(), 28),
        (qwen3::qwen3_0_6b(), 28),
        (shapes::qwen3_8b(), 36),
        (llama::llama_3_1_8b(), 32),
        (llama::mistral_7b(), 32),
    ] {
        assert_planned(BLOCKS, &shapes, layers * 7, &head);
        assert_planned(ROWS, &shapes, layers * 7, &head);
    }
}

#[test]
fn vision_towers_stay_unquantized_under_every_name() {
    let qwen = qwen2_5_vl::qwen2_5_vl_7b();
    let gemma_kept = ["language_model.model.embed_tokens", "multi_modal_projector.mm_input_projection_weight"];
    for recipe in [BLOCKS, ROWS] {
        assert_planned(recipe, &qwen, 28 * 7, &["lm_head", "model.embed_tokens"]);
        assert_planned(recipe, &gemma::gemma_3_4b(), 34 * 7, &gemma_kept);
        assert_planned(recipe, &gemma::gemma_3_12b(), 48 * 7, &gemma_kept);
    }
}

#[test]
fn experts_are_quantized_and_routers_are_not() {
    let kept = ["lm_head", "model.embed_tokens", "model.layers.*.mlp.gate"];
    for recipe in [BLOCKS, ROWS] {
        assert_planned(recipe, &qwen3::qwen3_30b_a3b(), 48 * (4 + 3 * 128), &kept);
    }
}

#[test]
fn stacked_experts_are_split_and_quantized() {
    let kept = ["lm_head", "model.language_model.embed_tokens", "model.language_model.layers.*.mlp.gate"];
    for recipe in [BLOCKS, ROWS, "fp8_dynamic_mse.yaml"] {
        assert_planned(recipe, &shapes::qwen3_vl_30b_stacked(), 48 * (4 + 3 * 128), &kept);
        assert_planned(recipe, &shapes::qwen3_vl_30b_per_expert(), 48 * (4 + 3 * 128), &kept);
    }
    // Split or stored one by one: the same output, to the byte of every header.
    let [stacked, single] = [shapes::qwen3_vl_30b_stacked(), shapes::qwen3_vl_30b_per_expert()]
        .map(|shapes| plan(&ready(BLOCKS).replace("experts:", "max_shard_size: 100TB\nexperts:"), &shapes));
    let header = |plan: &Plan| plan.shards.iter().map(|shard| shard.header.clone()).collect::<Vec<_>>();
    assert_eq!(header(&stacked), header(&single));
}

#[test]
fn hybrids_leave_the_small_projections_of_linear_attention_unquantized() {
    let shapes = hybrid::qwen3_5_27b();
    let all =
        ready(BLOCKS).replace("targets: Linear", "targets: 're:.*'").replace("on_misfit: leave", "on_misfit: error");
    let refused = try_plan(&all, &shapes).unwrap_err();
    assert!(refused.iter().any(|finding| finding.message.contains("cut inside a block")), "{refused:#?}");
    let kept = [
        "lm_head",
        "model.language_model.embed_tokens",
        "model.language_model.layers.*.linear_attn.in_proj_a",
        "model.language_model.layers.*.linear_attn.in_proj_b",
        "mtp.fc",
        "mtp.layers.*.mlp.down_proj",
        "mtp.layers.*.mlp.gate_proj",
        "mtp.layers.*.mlp.up_proj",
        "mtp.layers.*.self_attn.k_proj",
        "mtp.layers.*.self_attn.o_proj",
        "mtp.layers.*.self_attn.q_proj",
        "mtp.layers.*.self_attn.v_proj",
    ];
    for recipe in ["fp8_dynamic.yaml", "fp8_per_channel.yaml"] {
        // Queries, keys and values in one matrix, the gate, the way out, and the MLP.
        assert_planned(recipe, &shapes, 16 * 7 + 48 * 6, &kept);
    }
}

#[test]
fn hybrids_with_experts_leave_all_their_gates_unquantized() {
    let shapes = hybrid::qwen3_next_80b_a3b();
    let mtp = ["mlp.experts.*", "mlp.shared_expert"]
        .iter()
        .flat_map(|mlp| ["gate_proj", "up_proj", "down_proj"].map(|part| format!("mtp.layers.*.{mlp}.{part}")));
    let mtp = mtp.chain(["q_proj", "k_proj", "v_proj", "o_proj"].map(|part| format!("mtp.layers.*.self_attn.{part}")));
    let mtp: Vec<String> = mtp.collect();
    let mut kept = vec![
        "lm_head",
        "model.embed_tokens",
        "model.layers.*.linear_attn.in_proj_ba",
        "model.layers.*.mlp.gate",
        "model.layers.*.mlp.shared_expert_gate",
        "mtp.fc",
        "mtp.layers.*.mlp.gate",
        "mtp.layers.*.mlp.shared_expert_gate",
    ];
    kept.extend(mtp.iter().map(String::as_str));
    let mlps = 48 * 3 * (512 + 1);
    assert_planned("fp8_dynamic.yaml", &shapes, 12 * 4 + 36 * 2 + mlps, &kept);
}

#[test]
fn latent_attention_is_quantized_with_the_layers_that_end_inside_a_block() {
    let shapes = deepseek::deepseek_v3();
    let kept = [
        "lm_head",
        "model.embed_tokens",
        "model.layers.*.eh_proj",
        "model.layers.*.embed_tokens",
        "model.layers.*.mlp.gate",
        "model.layers.*.shared_head.head",
    ];
    let mlps = 3 * (3 + 59 * (256 + 1));
    assert_planned(BLOCKS, &shapes, 62 * 5 + mlps, &kept);
    assert_planned(ROWS, &shapes, 62 * 5 + mlps, &kept);
}

/// The tensors of the official FP8 files: every linear layer but heads, embeddings, routers and the projection of the layer that
/// predicts further tokens, each with a scale for every block, cut ones included.
#[test]
fn latent_attention_gets_the_layout_of_the_official_files() {
    let in_bf16 = ["embed_tokens", "lm_head", "norm", "mlp.gate.", "eh_proj", "shared_head"];
    for mut shapes in [deepseek::deepseek_v3(), deepseek::deepseek_v32(), deepseek::glm_5()] {
        // Two of the 256 experts stand for all.
        let is_further = |name: &str| {
            name.split_once(".experts.").is_some_and(|(_, rest)| !rest.starts_with("0.") && !rest.starts_with("1."))
        };
        shapes.tensors.retain(|tensor| !is_further(&tensor.name));
        let mut official = BTreeSet::new();
        for tensor in &shapes.tensors {
            let name = tensor.name.as_str();
            // vLLM decodes what the official files have of the indexer in FP8, and runs it in BF16.
            let is_of_indexer = name.contains("indexer.weights_proj") || name.contains("indexer.wk");
            if tensor.shape.len() != 2 || is_of_indexer || in_bf16.iter().any(|word| name.contains(word)) {
                official.insert((name.to_owned(), tensor.dtype.to_owned(), tensor.shape.clone()));
                continue;
            }
            official.insert((name.to_owned(), "F8_E4M3".to_owned(), tensor.shape.clone()));
            let scales = tensor.shape.iter().map(|length| length.div_ceil(128)).collect();
            official.insert((format!("{name}_scale_inv"), "BF16".to_owned(), scales));
        }
        let plan = plan(&ready(BLOCKS), &shapes);
        let entries = plan.shards.iter().flat_map(|shard| &shard.tensors).map(|placed| &placed.entry);
        let written: BTreeSet<_> =
            entries.map(|entry| (entry.name.clone(), format!("{:?}", entry.dtype), entry.shape.clone())).collect();
        let difference: Vec<_> = official.symmetric_difference(&written).take(5).collect();
        assert!(difference.is_empty(), "{}: {difference:?}", shapes.config["model_type"]);
    }
}
