//! Recipes by budget: what is drafted fits by the verdict of `fit`, loses least, and mixes nothing that a server cannot.

use std::path::{Path, PathBuf};

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::fit::{CacheDtype, Fit, FitRequest, FitSubject};
use qwen_fp8::init::{BudgetDraft, BudgetLayers, BudgetRequest, InitError, Request};
use qwen_fp8::plan::{Job, Plan};
use qwen_fp8::run::{MeasuredWeight, measure};
use qwen_fp8::schemes::Simd;
use serde_json::json;

use super::recipe;
use crate::support::program::program;
use crate::support::random::{Random, Scene, Tensor, Tensors};

const LAYERS: usize = 4;
/// The layer whose `down_proj` has outliers in every group, which four bits cannot hold.
const TAILED: usize = 2;

/// A Qwen3 of four layers with a scene to keep it.
fn dense() -> (Scene, PathBuf) {
    let mut random = Random::new(11);
    let mut tensors = Tensors::from([
        ("model.embed_tokens.weight".to_owned(), random.tensor(&[512, 256])),
        ("model.norm.weight".to_owned(), random.tensor(&[256])),
    ]);
    for layer in 0..LAYERS {
        for (projection, shape) in [
            ("self_attn.q_proj", [256, 256]),
            ("self_attn.k_proj", [128, 256]),
            ("self_attn.v_proj", [128, 256]),
            ("self_attn.o_proj", [256, 256]),
            ("mlp.gate_proj", [512, 256]),
            ("mlp.up_proj", [512, 256]),
            ("mlp.down_proj", [256, 512]),
        ] {
            let mut tensor = random.tensor(&shape);
            if layer == TAILED && projection == "mlp.down_proj" {
                give_tails(&mut tensor);
            }
            tensors.insert(format!("model.layers.{layer}.{projection}.weight"), tensor);
        }
    }
    let scene = Scene::new();
    let dir = scene.checkpoint("source", &[tensors], config("Qwen3ForCausalLM", "qwen3"));
    (scene, dir)
}

/// Makes a weight of every 32 six times as large as most: four bits keep less of the others, which still have half of the
/// signal.
fn give_tails(tensor: &mut Tensor) {
    for chunk in tensor.bytes.chunks_mut(64) {
        chunk[..2].copy_from_slice(&half::bf16::from_f32(0.13).to_le_bytes());
    }
}

/// A Qwen3-MoE of two layers of four experts.
fn experts() -> (Scene, PathBuf) {
    let mut random = Random::new(5);
    let mut tensors = Tensors::from([("model.embed_tokens.weight".to_owned(), random.tensor(&[512, 256]))]);
    for layer in 0..2 {
        tensors.insert(format!("model.layers.{layer}.mlp.gate.weight"), random.tensor(&[4, 256]));
        tensors.insert(format!("model.layers.{layer}.self_attn.o_proj.weight"), random.tensor(&[256, 256]));
        for expert in 0..4 {
            for (projection, shape) in [("gate_proj", [128, 256]), ("up_proj", [128, 256]), ("down_proj", [256, 128])] {
                let name = format!("model.layers.{layer}.mlp.experts.{expert}.{projection}.weight");
                tensors.insert(name, random.tensor(&shape));
            }
        }
    }
    let scene = Scene::new();
    let dir = scene.checkpoint("source", &[tensors], config("Qwen3MoeForCausalLM", "qwen3_moe"));
    (scene, dir)
}

fn config(class: &str, model_type: &str) -> serde_json::Value {
    json!({
        "architectures": [class], "model_type": model_type, "hidden_size": 256, "intermediate_size": 512,
        "moe_intermediate_size": 128, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 128, "vocab_size": 512,
        "max_position_embeddings": 4096, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    })
}

fn request(dir: &Path, vram: u64) -> BudgetRequest {
    BudgetRequest {
        draft: Request { model: dir.to_str().unwrap().to_owned(), schema: None, granularity: None },
        fit: FitRequest { vram, gpus: 1, context: Some(1024), concurrency: Some(2), cache_dtype: CacheDtype::Auto },
        server: "vLLM",
        generation: None,
        preprocessor: None,
    }
}

fn try_draft(dir: &Path, request: &BudgetRequest, workers: usize) -> Result<BudgetDraft, InitError> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let layers = BudgetLayers::of(&checkpoint, request)?;
    let weights = layers.measured(&checkpoint.model).into_iter();
    let weights: Vec<_> = weights.map(|(input, schemes, leader)| MeasuredWeight { input, schemes, leader }).collect();
    let noise = measure(&checkpoint, &weights, workers, Simd::detect(), &()).unwrap();
    drop(weights);
    layers.draft(&checkpoint, &noise, request)
}

fn draft(dir: &Path, request: &BudgetRequest) -> BudgetDraft {
    try_draft(dir, request, 2).unwrap_or_else(|error| panic!("{error:#?}"))
}

/// The memory of a GPU on which so many bytes of weights just fit.
fn vram_for(dir: &Path, weights: u64) -> u64 {
    let ample = draft(dir, &request(dir, 1 << 30)).fit;
    let cache = ample.cache.as_ref().unwrap().bytes_per_request * ample.requests;
    let others: u64 = ample.budget.estimates.iter().map(|estimate| estimate.bytes).sum();
    // The first block is vLLM's own.
    let block = ample.cache.as_ref().unwrap().bytes_per_block;
    (weights + cache + others + block) * 100 / 92
}

/// Budgets from all unquantized to what only the smallest fits.
fn budgets(dir: &Path) -> Vec<u64> {
    let all = draft(dir, &request(dir, 1 << 30));
    let sizes = all.uniform.iter().map(|recipe| recipe.weights);
    let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
    (0..=8).map(|part| vram_for(dir, least + (most - least) * part / 8)).rev().collect()
}

fn planned(dir: &Path, draft: &BudgetDraft) -> Plan {
    Plan::build(recipe(&draft.recipe), Checkpoint::open(dir).unwrap()).unwrap_or_else(|refused| {
        panic!("{}\n{:#?}", draft.recipe, refused.diagnostics);
    })
}

/// The scheme that a weight gets, with its bits; 16 where it stays.
fn bits(plan: &Plan, name: &str) -> u8 {
    let at = plan.inputs.iter().position(|input| input.name == name).unwrap();
    match &plan.jobs[at] {
        Job::Quantize { rule, .. } => plan.scheme(*rule).unwrap().weights().num_bits,
        _ => 16,
    }
}

#[test]
fn what_is_drafted_fits_and_loses_no_more_than_a_smaller_budget() {
    for (_scene, dir) in [dense(), experts()] {
        let mut before = 0.0;
        let mut mixed = 0;
        for vram in budgets(&dir) {
            let request = request(&dir, vram);
            let draft = draft(&dir, &request);
            let plan = planned(&dir, &draft);
            assert!(
                plan.warnings.iter().all(|warning| !warning.message.contains("vLLM has no kernel")),
                "{:#?}",
                plan.warnings
            );
            let fit = Fit::of(&FitSubject::of_plan(&plan, 1), &request.fit, "out");
            assert!(fit.fits && fit.requests == 2 && fit.context == 1024, "{}\n{fit:#?}", draft.recipe);
            assert_eq!(fit.weights, draft.fit.weights);
            let lost = draft.sqnr_db.map_or(0.0, |ratio| 10f64.powf(-ratio / 10.0));
            assert!(lost >= before, "{vram}: {lost} after {before}");
            before = lost;
            for uniform in draft.uniform.iter().filter(|uniform| uniform.fits) {
                assert!(uniform.sqnr_db <= draft.sqnr_db || draft.sqnr_db.is_none(), "{uniform:?}\n{}", draft.recipe);
            }
            mixed += usize::from(draft.nothing_gained_over.is_none());
        }
        assert!(before > 1e-3, "the smallest budget takes four bits: {before}");
        assert!(mixed >= 4, "{mixed} budgets gain from mixing");
    }
}

#[test]
fn a_layer_with_heavy_tails_keeps_more_bits() {
    let (_scene, dir) = dense();
    // The codes of NVFP4 lie closer near zero: it holds such tails as well as other weights, and SGLang has no kernel for it on every GPU.
    let request = |vram: u64| BudgetRequest { server: "SGLang", ..request(&dir, vram) };
    let all = draft(&dir, &request(1 << 30));
    let size = |scheme: &str| all.uniform.iter().find(|recipe| recipe.scheme == scheme).unwrap().weights;
    let vram = vram_for(&dir, size("W4A16").midpoint(size("W8A16")));
    let plan = planned(&dir, &draft(&dir, &request(vram)));
    let of = |layer: usize| bits(&plan, &format!("model.layers.{layer}.mlp.down_proj.weight"));
    assert!(of(TAILED) > 4, "{}", of(TAILED));
    assert!((0..LAYERS).filter(|layer| *layer != TAILED).any(|layer| of(layer) == 4), "{:?}", [of(0), of(1), of(3)]);
}

#[test]
fn where_a_uniform_recipe_loses_as_little_it_is_drafted() {
    let (_scene, dir) = dense();
    let ample = draft(&dir, &request(&dir, 1 << 30));
    assert_eq!((ample.nothing_gained_over.as_deref(), ample.sqnr_db), (Some("unquantized"), None));
    assert!(planned(&dir, &ample).jobs.iter().all(|job| matches!(job, Job::Copy { .. })));
    // The smallest of all has no choice left.
    let least = ample.uniform.iter().map(|recipe| recipe.weights).min().unwrap();
    let smallest = draft(&dir, &request(&dir, vram_for(&dir, least)));
    let uniform = ample.uniform.iter().find(|recipe| recipe.weights == least).unwrap();
    assert_eq!(smallest.nothing_gained_over.as_ref(), Some(&uniform.scheme));
    assert_eq!(smallest.fit.weights.per_gpu, least);
}

#[test]
fn less_than_the_smallest_does_not_fit() {
    let (_scene, dir) = dense();
    let ample = draft(&dir, &request(&dir, 1 << 30));
    let least = ample.uniform.iter().map(|recipe| recipe.weights).min().unwrap();
    let draft = draft(&dir, &request(&dir, vram_for(&dir, least) - (1 << 20)));
    assert!(!draft.fit.fits && !draft.fit.remedies.is_empty());
    assert_eq!(draft.fit.weights.per_gpu, least, "it tells of the smallest");
}

#[test]
fn the_draft_is_one_for_any_number_of_workers() {
    let (_scene, dir) = dense();
    let vram = budgets(&dir)[5];
    let [alone, many] = [1, 7].map(|workers| try_draft(&dir, &request(&dir, vram), workers).unwrap());
    assert!(alone.nothing_gained_over.is_none());
    assert_eq!(alone.recipe, many.recipe);
}

#[test]
fn only_what_the_server_and_the_gpu_run_is_chosen() {
    let (_scene, dir) = dense();
    let schemes = |server, generation| {
        let request = BudgetRequest { server, generation, ..request(&dir, 1 << 30) };
        draft(&dir, &request).uniform.into_iter().map(|recipe| recipe.scheme).collect::<Vec<_>>()
    };
    let has = |schemes: &[String], name: &str| schemes.iter().any(|scheme| scheme.starts_with(name));
    assert!(has(&schemes("vLLM", Some("Ada")), "MXFP4A16"));
    assert!(!has(&schemes("vLLM", Some("Turing")), "MXFP4A16"));
    assert!(!has(&schemes("vLLM", None), "MXFP4A16"));
    // vLLM has kernels for NVFP4 on every generation, for zero points on all but Turing.
    assert!(has(&schemes("vLLM", None), "NVFP4A16") && has(&schemes("vLLM", Some("Turing")), "NVFP4A16"));
    assert!(has(&schemes("vLLM", Some("Ada")), "W4A16_ASYM") && !has(&schemes("vLLM", Some("Turing")), "W4A16_ASYM"));
    assert!(schemes("vLLM", None).contains(&"FP8".to_owned()));
    let sglang = schemes("SGLang", Some("Hopper"));
    assert!(has(&sglang, "W4A16") && has(&sglang, "FP8_DYNAMIC") && !has(&sglang, "MX"), "{sglang:?}");
    assert!(sglang.contains(&"FP8".to_owned()) && has(&sglang, "NVFP4A16"), "{sglang:?}");
    assert!(!has(&schemes("SGLang", Some("Turing")), "NVFP4A16"));
    // Blocks are for classes that load no rows.
    assert!(!schemes("vLLM", None).iter().any(|scheme| scheme.contains("block_size")));
}

#[test]
fn gpus_that_share_a_layer_get_whole_groups() {
    let (_scene, dir) = dense();
    let mut shared = request(&dir, 1 << 30);
    shared.fit.gpus = 4;
    // Four key heads for a GPU each, or a copy: the columns of `o_proj` are 64 each, no group of 128.
    let draft = draft(&dir, &BudgetRequest { fit: FitRequest { gpus: 2, ..shared.fit }, ..shared });
    for uniform in &draft.uniform {
        assert!(uniform.fits, "{uniform:?}");
    }
    assert!(draft.fit.fits && draft.fit.gpus == 2);
}

#[test]
fn a_quantized_source_is_refused() {
    let scene = Scene::new();
    let mut config = config("Qwen3ForCausalLM", "qwen3");
    config["quantization_config"] = json!({"quant_method": "fp8"});
    let tensors = Tensors::from([("model.layers.0.mlp.up_proj.weight".to_owned(), Random::new(1).tensor(&[128, 128]))]);
    let dir = scene.checkpoint("source", &[tensors], config);
    assert!(matches!(try_draft(&dir, &request(&dir, 1 << 30), 1), Err(InitError::Quantized { .. })));
}

/// Runs `init --fit`; its exit code, standard output and standard error.
fn init(dir: &Path, more: &[&str]) -> (i32, String, String) {
    let command = program();
    let done = std::process::Command::new(command).arg("init").arg(dir).args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_command_writes_a_recipe_that_apply_takes_and_fit_agrees_with() {
    let (scene, dir) = dense();
    let file = scene.path("mine.yaml");
    let file = file.to_str().unwrap();
    let vram = budgets(&dir)[4].to_string();
    let budget = ["--fit", &vram, "--context", "1024", "--concurrency", "2"];
    let (code, printed, said) = init(&dir, &budget);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("what each step down costs") && said.contains("recipes of one scheme"), "{said}");
    assert!(said.contains("self_attn.qkv_proj") && said.contains("mlp.gate_up_proj"), "{said}");
    let (code, nothing, said) = init(&dir, &[&budget[..], &["--output", file]].concat());
    assert_eq!((code, nothing.as_str()), (0, ""), "{said}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), printed);
    scene.tool(&["fit", file, "--vram", &vram, "--context", "1024", "--concurrency", "2"], &[]).unwrap();
    let output = scene.path("output");
    scene.tool(&["apply", file, "--output", output.to_str().unwrap(), "--verify", "-q"], &[]).unwrap();
    // Told before anything is measured.
    let (code, _, said) = init(&dir, &[&budget[..], &["--output", file]].concat());
    assert!(code == 2 && said.contains("exists already") && !said.contains("costs"), "{said}");
    // Where nothing is gained it says so.
    let (code, _, said) = init(&dir, &["--fit", "1GiB", "--context", "1024"]);
    assert!(code == 0 && said.contains("the recipe: it fits without a loss"), "{said}");
    let least = draft(&dir, &request(&dir, 1 << 30)).uniform.iter().map(|recipe| recipe.weights).min().unwrap();
    let least = vram_for(&dir, least).to_string();
    let (code, _, said) = init(&dir, &["--fit", &least, "--context", "1024", "--concurrency", "2"]);
    assert!(code == 0 && said.contains("; nothing is gained over a uniform W4A16, which it is"), "{said}");
    let (code, printed, said) = init(&dir, &["--fit", "256MiB", "--context", "1024"]);
    assert_eq!((code, printed.as_str()), (5, ""), "{said}");
    assert!(said.contains("what would fit") && said.contains("is not written"), "{said}");
    // No recipe changes the context that the model has.
    let (code, printed, said) = init(&dir, &["--fit", "1GiB", "--context", "5000"]);
    assert_eq!((code, printed.as_str()), (5, ""), "{said}");
    assert!(said.contains("--context 4096") && !said.contains("recipes of one scheme"), "{said}");
    let (code, _, said) = init(&dir, &["--context", "1024"]);
    assert!(code == 2 && said.contains("--fit"), "{said}");
}
