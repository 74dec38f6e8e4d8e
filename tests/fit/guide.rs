//! The guide's own case, README's "Serving it on a 16 GB card", and what is said where nothing fits.

use std::path::Path;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::fit::{CacheDtype, Fit, FitRequest, FitSubject};
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::{Recipe, RecipeText};

use crate::support::random::{Random, Scene, Tensors};
use crate::support::shapes::{self, Shapes};

const CARD: FitRequest =
    FitRequest { vram: 16 << 30, gpus: 1, context: None, concurrency: None, cache_dtype: CacheDtype::Auto };

fn of_source(shapes: &Shapes, request: FitRequest) -> Fit {
    let checkpoint = Checkpoint::open(shapes.write_single().path()).unwrap();
    Fit::of(&FitSubject::of_checkpoint(&checkpoint, request.gpus), &request, "MODEL")
}

fn of_fp8(shapes: &Shapes, request: FitRequest) -> Fit {
    let recipe = Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/fp8_dynamic.yaml")).unwrap();
    let plan = Plan::build(recipe, Checkpoint::open(shapes.write_single().path()).unwrap()).unwrap();
    Fit::of(&FitSubject::of_plan(&plan, request.gpus), &request, "MODEL")
}

#[test]
fn the_8b_model_in_fp8_fits_a_card_of_16_gb() {
    let fit = of_fp8(&shapes::qwen3_vl_8b(), FitRequest { context: Some(2048), ..CARD });
    assert!(fit.fits && fit.requests >= 4, "{fit:#?}");
    assert_eq!((fit.weights.per_gpu, fit.weights.all), (10_589_327_840, 10_589_327_840));
    // A token takes 144 KiB: keys and values of 8 heads of 128 in 36 layers.
    let cache = fit.cache.unwrap();
    assert_eq!(cache.bytes_per_block, 16 * 144 * 1024);
    assert_eq!(cache.bytes_per_request, 2048 * 144 * 1024);
    // The line that README has.
    let readme = FitRequest { context: Some(16384), concurrency: Some(1), ..CARD };
    assert!(of_fp8(&shapes::qwen3_vl_8b(), readme).fits);
    let words = fit.serve[0].words.join(" ");
    assert!(words.starts_with("vllm serve MODEL --max-model-len 2048 --max-num-seqs "), "{words}");
    assert!(words.contains("--gpu-memory-utilization 0.92 --limit-mm-per-prompt '{\"image\": "), "{words}");
}

#[test]
fn a_cache_is_counted_in_the_dtype_that_config_json_asks_for() {
    let shapes = shapes::qwen3_vl_8b();
    let request = FitRequest { context: Some(2048), ..CARD };
    let text = "kv_cache: fp8\nscheme: FP8_BLOCK\ntargets: Linear\nignore: ['re:.*visual.*']\n";
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), text)).unwrap();
    let plan = Plan::build(recipe, Checkpoint::open(shapes.write_single().path()).unwrap()).unwrap();
    let fit = Fit::of(&FitSubject::of_plan(&plan, 1), &request, "MODEL");
    let cache = fit.cache.unwrap();
    // Half of what `the_8b_model_in_fp8_fits_a_card_of_16_gb` has.
    assert_eq!((cache.dtype, cache.bytes_per_block), (CacheDtype::Fp8, 16 * 72 * 1024));
    for (line, option) in fit.serve.iter().zip(["--kv-cache-dtype fp8", "--kv-cache-dtype fp8_e4m3"]) {
        assert!(line.words.join(" ").contains(option), "{line:?}");
    }
    // The same of a checkpoint, as llm-compressor and ModelOpt write it.
    for (quantization, dtype) in [
        (r#"{"quant_method":"compressed-tensors","kv_cache_scheme":{"num_bits":8,"type":"float"}}"#, CacheDtype::Fp8),
        (r#"{"quant_method":"modelopt","kv_cache_quant_algo":"FP8"}"#, CacheDtype::Fp8),
        (r#"{"quant_method":"modelopt","kv_cache_scheme":{"num_bits":8,"type":"float"}}"#, CacheDtype::Fp8),
        (r#"{"quant_method":"compressed-tensors","kv_cache_scheme":null}"#, CacheDtype::Auto),
        (r#"{"quant_method":"fp8","kv_cache_scheme":{"num_bits":8,"type":"float"}}"#, CacheDtype::Auto),
    ] {
        let dir = shapes.write_single();
        let path = dir.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["quantization_config"] = serde_json::from_str(quantization).unwrap();
        std::fs::write(&path, config.to_string()).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let fit =
            Fit::of(&FitSubject::of_checkpoint(&checkpoint, 1), &FitRequest { vram: 80 << 30, ..request }, "MODEL");
        assert_eq!(fit.cache.unwrap().dtype, dtype, "{quantization}");
    }
}

#[test]
fn the_8b_model_in_bf16_does_not_and_fp8_is_named() {
    let fit = of_source(&shapes::qwen3_vl_8b(), FitRequest { context: Some(2048), ..CARD });
    assert!(!fit.fits && fit.serve.is_empty());
    assert!(fit.budget.missing > 0);
    let remedies = fit.remedies.join("\n");
    for expected in ["quantize it: in FP8", "more GPUs: `--tensor-parallel 2`", "there are cards of 24 GiB"] {
        assert!(remedies.contains(expected), "{remedies}");
    }
    // The remedies hold.
    assert!(of_source(&shapes::qwen3_vl_8b(), FitRequest { vram: 24 << 30, context: Some(2048), ..CARD }).fits);
    assert!(of_source(&shapes::qwen3_vl_8b(), FitRequest { gpus: 2, context: Some(2048), ..CARD }).fits);
}

#[test]
fn too_much_context_names_what_fits() {
    let asked = FitRequest { context: Some(200_000), concurrency: Some(2), ..CARD };
    let fit = of_fp8(&shapes::qwen3_vl_8b(), asked);
    assert!(!fit.fits && fit.budget.missing == 0);
    let context = fit.remedies.iter().find_map(|line| line.split("`--context ").nth(1)?.split('`').next());
    let context = context.unwrap().parse().unwrap();
    assert!(of_fp8(&shapes::qwen3_vl_8b(), FitRequest { context: Some(context), ..asked }).fits);
    assert!(!of_fp8(&shapes::qwen3_vl_8b(), FitRequest { context: Some(context + 16), ..asked }).fits);
    assert!(fit.remedies.iter().any(|line| line.contains("`--kv-cache-dtype fp8`")), "{:?}", fit.remedies);
}

#[test]
fn more_context_than_the_model_has_does_not_fit() {
    let mut shapes = shapes::qwen3_vl_2b();
    shapes.config["text_config"]["max_position_embeddings"] = 8192.into();
    let of = |shapes: &Shapes, context| of_fp8(shapes, FitRequest { context: Some(context), ..CARD });
    assert!(of(&shapes, 8192).fits);
    let fit = of(&shapes, 8193);
    assert!(!fit.fits && fit.serve.is_empty() && fit.remedies[0].contains("`--context 8192`"), "{fit:#?}");
    // Scaled positions reach further where the factor is not in the number already.
    for (kind, most) in [("linear", 16384), ("yarn", 8192)] {
        shapes.config["text_config"]["rope_parameters"] = serde_json::json!({ "rope_type": kind, "factor": 2.0 });
        assert_eq!(of(&shapes, 1024).model_context, Some(most), "{kind}");
    }
}

#[test]
fn gpus_that_cannot_share_a_model_are_named() {
    let fit = of_fp8(&shapes::qwen3_vl_8b(), FitRequest { gpus: 3, ..CARD });
    assert!(!fit.fits);
    assert_eq!(fit.misfit.as_deref(), Some("32 attention heads cannot be shared by 3 GPUs"));
    assert_eq!(fit.cache_not_known, None);
}

#[test]
fn layers_that_marlin_pads_are_told() {
    let mut random = Random::new(1);
    let name = |projection| format!("model.layers.0.{projection}.weight");
    let shapes = [
        ("self_attn.q_proj", [192, 192]),
        ("self_attn.k_proj", [64, 192]),
        ("self_attn.v_proj", [64, 192]),
        ("self_attn.o_proj", [192, 192]),
        ("mlp.gate_proj", [256, 192]),
        ("mlp.up_proj", [256, 192]),
        ("mlp.down_proj", [192, 256]),
    ];
    let tensors: Tensors = shapes.map(|(projection, shape)| (name(projection), random.tensor(&shape))).into();
    let scene = Scene::new();
    let config = serde_json::json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 192, "intermediate_size": 256,
        "num_hidden_layers": 1, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 64,
        "max_position_embeddings": 4096,
    });
    let dir = scene.checkpoint("source", &[tensors], config);
    let notes = |scheme: &str, gpus: u64| {
        let text = format!("format: compressed-tensors\nrules:\n  - {{scheme: {scheme}, targets: Linear}}\n");
        let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), text)).unwrap();
        let plan = Plan::build(recipe, Checkpoint::open(&dir).unwrap()).unwrap();
        Fit::of(&FitSubject::of_plan(&plan, gpus), &FitRequest { gpus, ..CARD }, "MODEL").notes.join("\n")
    };
    let one = notes("FP8_DYNAMIC", 1);
    assert!(
        one.contains("it pads 2 layers") && one.contains("`model.layers.0.self_attn.o_proj` has 192 × 192"),
        "{one}"
    );
    let two = notes("FP8_DYNAMIC", 2);
    assert!(
        two.contains("it pads 2 layers") && two.contains("`model.layers.0.self_attn.o_proj` has 192 × 96"),
        "{two}"
    );
    assert!(!notes("PASSTHROUGH", 1).contains("Marlin"));
}
