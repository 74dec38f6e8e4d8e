//! What servers refuse or load wrong: the error, that its help works to the letter, and the neighbour that is accepted.

use std::path::Path;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::diagnostic::{Diagnostic, Level};
use qwen_fp8::recipe::{Recipe, RecipeText};
use serde_json::{Value, json};

use super::{BLOCKS, errors, plan, shown, try_plan};
use crate::support::shapes::{self, Shapes};

/// Rows in llm-compressor's layout.
pub(super) const CHANNELS: &str = "
format: compressed-tensors
rules:
  - scheme: PASSTHROUGH
    targets: ['re:.*visual.*']
    optional: true
  - scheme: FP8_DYNAMIC
    targets: [Linear]
";

/// `FP8_DYNAMIC` in blocks for these targets, under `format: fp8`.
pub(super) fn blocks(targets: &str) -> String {
    format!(
        "rules:\n  - scheme: PASSTHROUGH\n    targets: [embed_tokens]\n    optional: true\n  - scheme: FP8_DYNAMIC\n    block_size: 128\n    targets: [{targets}]\n"
    )
}

/// The rest of a help that leaves something unquantized in this way.
fn unquantized<'a>(help: &'a str, how: &str) -> Option<&'a str> {
    let rest = help.strip_prefix("to leave it ").or_else(|| help.strip_prefix("to leave them "))?;
    rest.strip_prefix("unquantized, ")?.strip_prefix(how)
}

/// The recipe as the help of the diagnostic tells to change it.
fn follow(recipe: &str, diagnostic: &Diagnostic) -> String {
    for help in &diagnostic.help {
        if let Some(rest) = unquantized(help, "put this rule before rule ") {
            let (label, rule) = rest.split_once(":\n").unwrap();
            let before: usize = label.split(' ').next().unwrap().parse().unwrap();
            let (at, _) = recipe.match_indices("\n  - ").nth(before - 1).unwrap();
            return format!("{}\n  {rule}{}", &recipe[..at], &recipe[at..]);
        }
        if let Some(list) = unquantized(help, "add to `ignore`: ") {
            return match recipe.split_once("ignore: [") {
                Some((before, after)) => format!("{before}ignore: [{list}, {after}"),
                None => format!("{recipe}ignore: [{list}]\n"),
            };
        }
        if let Some(rest) = help.strip_prefix("add to `targets` of rule ") {
            let (label, list) = rest.split_once(": ").unwrap();
            let rule: usize = label.split(' ').next().unwrap().parse().unwrap();
            let (at, open) = recipe.match_indices("targets: [").nth(rule - 1).unwrap();
            let at = at + open.len();
            return format!("{}{list}, {}", &recipe[..at], &recipe[at..]);
        }
        if help.contains("`format: compressed-tensors`") {
            assert!(recipe.contains("format: fp8"));
            return recipe.replace("format: fp8", "format: compressed-tensors");
        }
    }
    panic!("no help to follow: {diagnostic:#?}")
}

/// Asserts that the plan is refused with this in a message, and that doing what each error's help says makes it pass.
pub(super) fn refused_until_followed(recipe: &str, shapes: &Shapes, message: &str) -> Plan {
    let first = errors(recipe, shapes);
    assert!(first.iter().any(|diagnostic| diagnostic.message.contains(message)), "{}", shown(&first));
    let mut text = recipe.to_owned();
    for _ in 0..4 {
        match try_plan(&text, shapes) {
            Ok(plan) => return plan,
            Err(diagnostics) => {
                let error = diagnostics.iter().find(|diagnostic| diagnostic.level == Level::Error).unwrap();
                text = follow(&text, error);
            }
        }
    }
    panic!("still refused:\n{text}\n{}", shown(&errors(&text, shapes)))
}

fn config(plan: &Plan) -> Value {
    let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
    serde_json::from_slice::<Value>(config).unwrap()["quantization_config"].clone()
}

/// Whether the module's weight is quantized.
pub(super) fn is_quantized(plan: &Plan, module: &str) -> bool {
    let weight = format!("{module}.weight");
    let tensors = plan.shards.iter().flat_map(|shard| &shard.tensors);
    let found: Vec<_> = tensors.filter(|placed| placed.entry.name == weight).collect();
    assert_eq!(found.len(), 1, "{weight}");
    found[0].entry.dtype == qwen_fp8::schemes::Dtype::F8_E4M3
}

#[test]
fn the_parts_of_a_fused_layer_agree() {
    let shapes = shapes::small_text();
    for part in ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"] {
        let recipe = BLOCKS.replace("'re:.*visual.*'", &format!("'re:.*{part}'"));
        let plan = refused_until_followed(&recipe, &shapes, "stays unquantized");
        let parent = if part.len() == 6 { "self_attn" } else { "mlp" };
        assert!(!is_quantized(&plan, &format!("model.layers.0.{parent}.{part}")));
        assert!(is_quantized(&plan, "model.layers.1.self_attn.o_proj"));
    }
    // What no server fuses may differ.
    for part in ["o_proj", "down_proj", "(q|k|v)_proj", "(gate|up)_proj", "layers.1.self_attn"] {
        plan(&BLOCKS.replace("'re:.*visual.*'", &format!("'re:.*{part}'")), &shapes);
    }
}

#[test]
fn the_fix_for_one_split_fused_layer_names_that_layer_alone() {
    let recipe = BLOCKS.replace("'re:.*visual.*'", "model.layers.1.self_attn.k_proj");
    let plan =
        refused_until_followed(&recipe, &shapes::small_text(), "`model.layers.1.self_attn.k_proj` stays unquantized");
    for (layer, quantized) in [(0, true), (1, false)] {
        for part in ["q_proj", "k_proj", "v_proj"] {
            assert_eq!(is_quantized(&plan, &format!("model.layers.{layer}.self_attn.{part}")), quantized);
        }
    }
}

#[test]
fn the_parts_of_a_fused_layer_have_one_scheme() {
    let recipe = "
format: compressed-tensors
rules:
  - scheme: FP8_BLOCK
    targets: ['re:.*k_proj', 're:.*down_proj']
  - scheme: FP8_DYNAMIC
    targets: [Linear]
";
    let plan = refused_until_followed(recipe, &shapes::small_text(), "goes to rule 1 (FP8_BLOCK)");
    let groups = &config(&plan)["config_groups"];
    // By name, since vLLM would hold a fused layer against a class before it looks at the names of its parts.
    assert_eq!(
        groups["group_0"]["targets"],
        json!([
            "model.layers.0.mlp.down_proj",
            "model.layers.0.self_attn.k_proj",
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.self_attn.v_proj",
            "model.layers.1.mlp.down_proj",
            "model.layers.1.self_attn.k_proj",
            "model.layers.1.self_attn.q_proj",
            "model.layers.1.self_attn.v_proj"
        ])
    );
    assert_eq!(groups["group_1"]["targets"].as_array().unwrap().len(), 6);
    assert_eq!(groups["group_0"]["weights"]["strategy"], "block");
    assert_eq!(groups["group_1"]["weights"]["strategy"], "channel");
}

#[test]
fn the_experts_of_a_layer_have_one_scheme() {
    let shapes = shapes::small_moe();
    let recipe = BLOCKS.replace("'re:.*visual.*'", "model.layers.1.mlp.experts.2.down_proj");
    let plan = refused_until_followed(&recipe, &shapes, "`model.layers.1.mlp.experts.2.down_proj` stays unquantized");
    assert!(is_quantized(&plan, "model.layers.0.mlp.experts.3.up_proj"));
    assert!(!is_quantized(&plan, "model.layers.1.mlp.experts.3.up_proj"));
    super::plan(&BLOCKS.replace("'re:.*visual.*'", "'re:.*layers\\.1\\.mlp\\.experts.*'"), &shapes);
}

#[test]
fn a_quantized_vision_tower_is_refused() {
    let shapes = shapes::small_vl();
    for recipe in [
        "format: fp8\nscheme: FP8_BLOCK\ntargets: ['re:.*visual.*', Linear]\n".to_owned(),
        "format: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: [Linear, 're:.*visual.*']\n".to_owned(),
        blocks("Linear, 're:.*visual.*'"),
    ] {
        let plan = refused_until_followed(&recipe, &shapes, "of the vision tower would be quantized");
        assert!(!is_quantized(&plan, "model.visual.blocks.0.attn.qkv"));
        assert!(is_quantized(&plan, "model.language_model.layers.0.self_attn.q_proj"));
    }
    // `Linear` takes none of it.
    let plan_of_class = plan(&blocks("Linear"), &shapes);
    assert!(!is_quantized(&plan_of_class, "model.visual.blocks.0.attn.qkv"));
    // A tower by another name is a tower.
    let mut other = shapes::small_text();
    other = other.with("vision_tower.layers.0.self_attn.q_proj.weight", &[128, 128]);
    refused_until_followed(&blocks("Linear, 're:.*vision.*'"), &other, "1 layer of the vision tower");
    // What only sounds alike is none.
    plan(
        &blocks("Linear, 're:.*visualizer.*'"),
        &shapes::small_text().with("model.visualizer.proj.weight", &[128, 128]),
    );
}

#[test]
fn quantized_routers_are_refused() {
    let shapes = shapes::small_moe();
    for target in ["model.layers.0.mlp.gate", "Router"] {
        refused_until_followed(&blocks(&format!("Linear, {target}")), &shapes, "`model.layers.0.mlp.gate`");
    }
    let plan = plan(&blocks("Linear"), &shapes);
    assert!(!is_quantized(&plan, "model.layers.0.mlp.gate"));
    assert_eq!(
        config(&plan)["ignored_layers"],
        json!(["lm_head", "model.layers.0.mlp.gate", "model.layers.1.mlp.gate"])
    );
}

#[test]
fn quantized_embeddings_are_refused() {
    let shapes = shapes::small_text();
    refused_until_followed(&blocks("Linear, model.embed_tokens"), &shapes, "1 embedding would be quantized");
    refused_until_followed(&blocks("Linear, Embedding"), &shapes, "1 embedding would be quantized");
    assert!(!is_quantized(&plan(&blocks("Linear, 're:.*embed.*|.*q_proj'"), &shapes), "model.embed_tokens"));
}

#[test]
fn a_head_is_quantized_where_a_server_finds_it() {
    let shapes = shapes::small_text();
    refused_until_followed(&blocks("Linear, lm_head"), &shapes, "the output head would be quantized");

    let recipe = CHANNELS.replace("[Linear]", "[Linear, lm_head]");
    let tied = shapes.clone().with_config("tie_word_embeddings", true.into());
    refused_until_followed(&recipe, &tied, "the output head would be quantized");

    let plan = plan(&recipe, &shapes);
    assert!(is_quantized(&plan, "lm_head"));
    assert_eq!(plan.warnings.len(), 1);
    let config = config(&plan);
    assert_eq!(config["config_groups"]["group_0"]["targets"], json!(["Linear", "re:.*lm_head"]));
    assert_eq!(config["ignore"], json!([]));
    // Alone, and beside another group.
    let alone = super::plan(&CHANNELS.replace("[Linear]", "[lm_head]"), &shapes);
    assert_eq!(self::config(&alone)["config_groups"]["group_0"]["targets"], json!(["re:.*lm_head"]));
    let mixed = format!("{CHANNELS}  - {{scheme: FP8, targets: [lm_head]}}\n");
    let mixed = self::config(&super::plan(&mixed, &shapes));
    assert_eq!(mixed["config_groups"]["group_0"]["targets"], json!(["re:.*lm_head"]));
    assert_eq!(mixed["config_groups"]["group_1"]["targets"].as_array().unwrap().len(), 14);
    assert_eq!(mixed["format"], "float-quantized");
}

#[test]
fn blocks_are_whole() {
    let with = |name: &str, shape: &[usize]| shapes::small_text().with(name, shape);
    for (name, shape) in [
        ("model.layers.0.extra.proj.weight", [256, 200]),
        ("model.layers.0.extra.proj.weight", [208, 256]),
        ("model.layers.0.extra.proj.weight", [64, 64]),
    ] {
        let plan =
            refused_until_followed(&blocks("Linear"), &with(name, &shape), "1 layer would be cut inside a block");
        assert!(!is_quantized(&plan, "model.layers.0.extra.proj"));
    }
    // Fewer rows than a block have one scale.
    let few = plan(&blocks("Linear"), &with("model.layers.0.extra.proj.weight", &[64, 256]));
    assert!(is_quantized(&few, "model.layers.0.extra.proj"));
    // A scale for each row fits all shapes.
    plan(CHANNELS, &with("model.layers.0.extra.proj.weight", &[208, 200]));
    // Half of all layers at once, and the other parts of their fused layers.
    let mut ragged = shapes::small_text();
    for layer in 0..2 {
        ragged.tensor(&format!("model.layers.{layer}.mlp.up_proj.weight")).shape = vec![512, 200];
    }
    let plan = refused_until_followed(&blocks("Linear"), &ragged, "2 layers would be cut inside a block");
    assert!(!is_quantized(&plan, "model.layers.1.mlp.gate_proj"));
    assert!(is_quantized(&plan, "model.layers.1.mlp.down_proj"));
}

#[test]
fn blocks_do_not_lie_across_the_parts_of_a_fused_layer() {
    let with_rows = |part: &str, rows| {
        let mut shapes = shapes::small_text();
        shapes.tensor(&format!("model.layers.0.self_attn.{part}.weight")).shape = vec![rows, 256];
        shapes
    };
    refused_until_followed(&blocks("Linear"), &with_rows("k_proj", 64), "`model.layers.0.self_attn.k_proj`");
    refused_until_followed(&blocks("Linear"), &with_rows("q_proj", 64), "`model.layers.0.self_attn.q_proj`");
    // Nothing lies behind the last part.
    plan(&blocks("Linear"), &with_rows("v_proj", 64));
}

#[test]
fn the_official_layout_holds_blocks_of_128_and_whole_tensors() {
    let shapes = shapes::small_text();
    let flat = |scheme: &str| format!("format: fp8\nscheme: {scheme}\ntargets: Linear\n");
    for (scheme, message) in [
        ("FP8_DYNAMIC", "`format: fp8` has no per-channel scales"),
        ("FP8_BLOCK\nblock_size: 64", "in blocks of 128 × 128, not 64 × 64"),
        ("FP8_BLOCK\nblock_size: [1, 128]", "in blocks of 128 × 128, not 1 × 128"),
    ] {
        let plan = refused_until_followed(&flat(scheme), &shapes, message);
        assert_eq!(config(&plan)["quant_method"], "compressed-tensors");
    }
    plan(&flat("FP8_DYNAMIC\nblock_size: 128"), &shapes);
    let tensor = config(&plan(&flat("FP8"), &shapes));
    assert_eq!((&tensor["quant_method"], tensor.get("weight_block_size")), (&json!("fp8"), None));
}

#[test]
fn an_fp8_cache_is_asked_for_in_compressed_tensors() {
    let shapes = shapes::small_text();
    let recipe = "kv_cache: fp8\nscheme: FP8_BLOCK\ntargets: Linear\n";
    let asked = plan(recipe, &shapes);
    let scheme = config(&asked)["kv_cache_scheme"].clone();
    for (key, value) in [
        ("num_bits", json!(8)),
        ("type", json!("float")),
        ("symmetric", json!(true)),
        ("strategy", json!("tensor")),
        ("dynamic", json!(false)),
    ] {
        assert_eq!(scheme[key], value, "{key}");
    }
    assert!(asked.notes.iter().any(|note| note.message.contains("`--kv-cache-dtype fp8_e4m3`")), "{:?}", asked.notes);
    // No tensor, and without the key nothing at all.
    let names = |plan: &Plan| -> Vec<String> {
        let tensors = plan.shards.iter().flat_map(|shard| &shard.tensors);
        tensors.map(|placed| placed.entry.name.clone()).collect()
    };
    let without = plan(&recipe.replace("kv_cache: fp8", "format: compressed-tensors"), &shapes);
    assert_eq!((config(&without)["kv_cache_scheme"].clone(), names(&without)), (Value::Null, names(&asked)));
    assert_eq!(without.notes, []);
    // Where no layer is quantized there is no config to ask in.
    let error = super::error("kv_cache: fp8\nscheme: PASSTHROUGH\ntargets: Linear\n", &shapes);
    assert!(error.message.contains("`quantization_config` that is written here, and none is"), "{error:?}");
}

#[test]
fn the_official_layout_has_one_scheme() {
    let recipe = "
format: fp8
rules:
  - scheme: FP8
    targets: ['re:.*o_proj']
  - scheme: FP8_BLOCK
    targets: [Linear]
";
    let plan = refused_until_followed(recipe, &shapes::small_text(), "describes one scheme for all layers");
    assert_eq!(config(&plan)["config_groups"].as_object().unwrap().len(), 2);
    // Two rules with one scheme are one to a server.
    super::plan(&recipe.replace("scheme: FP8\n", "scheme: FP8_BLOCK\n    scale_dtype: f32\n"), &shapes::small_text());
}

#[test]
fn an_untied_model_has_its_head() {
    let shapes = shapes::small_text().without("lm_head.weight");
    let error = super::error(&blocks("Linear"), &shapes);
    assert!(error.message.contains("the checkpoint has no `lm_head.weight`"), "{error:#?}");
    let tied = shapes.clone().with_config("tie_word_embeddings", true.into());
    let plan = plan(&blocks("Linear"), &tied);
    assert_eq!(config(&plan)["ignored_layers"], json!(["lm_head"]));
    // An encoder has no head to miss.
    super::plan(&blocks("Linear"), &shapes.with_config("architectures", json!(["Qwen3Model"])));
}

#[test]
fn stacked_experts_are_kept_in_words_and_by_the_names_that_vllm_asks_for() {
    let stacked = || {
        let experts = shapes::small_text();
        experts
            .with("model.layers.0.mlp.experts.gate_up_proj", &[4, 256, 256])
            .with("model.layers.0.mlp.experts.down_proj", &[4, 128, 256])
    };
    for recipe in [blocks("Linear"), "format: fp8\nscheme: FP8_BLOCK\ntargets: Linear\n".to_owned()] {
        let plan = refused_until_followed(&recipe, &stacked(), "2 tensors of stacked experts would stay");
        assert_eq!(config(&plan)["ignored_layers"], json!(["lm_head", "model.layers.0.mlp.experts"]));
    }
    let plan = refused_until_followed(CHANNELS, &stacked(), "2 tensors of stacked experts would stay");
    assert_eq!(
        config(&plan)["ignore"],
        json!([
            "lm_head",
            "model.layers.0.mlp.experts",
            "model.layers.0.mlp.experts.0.down_proj",
            "model.layers.0.mlp.experts.0.gate_proj",
            "model.layers.0.mlp.experts.0.up_proj"
        ])
    );
    let forced = errors(&blocks("Linear, model.layers.0.mlp.experts.down_proj"), &stacked());
    assert!(forced[0].message.contains("its shape [4, 128, 256] is not a matrix"), "{forced:#?}");
}

#[test]
fn no_list_entry_hits_a_quantized_module_in_transformers() {
    // A dense layer beside a router: transformers would take `mlp.gate_proj` for `mlp.gate`.
    let shapes = shapes::small_text().with("model.layers.0.mlp.gate.weight", &[4, 256]);
    let recipe = format!("format: fp8\n{}", blocks("Linear"));
    let plan = refused_until_followed(&recipe, &shapes, "transformers takes `model.layers.0.mlp.gate` for it");
    assert!(is_quantized(&plan, "model.layers.0.mlp.gate_proj"));
    super::plan(&recipe, &shapes::small_moe());
}

#[test]
fn help_speaks_the_language_of_the_recipe() {
    let llmcompressor = "
quant_stage:
  quant_modifiers:
    QuantizationModifier:
      targets: [Linear]
      scheme: FP8_DYNAMIC
      ignore: [lm_head]
";
    let plan = refused_until_followed(llmcompressor, &shapes::small_vl(), "of the vision tower would be quantized");
    assert!(!is_quantized(&plan, "model.visual.merger.linear_fc1"));

    let toml = "[[rules]]\nscheme = \"PASSTHROUGH\"\ntargets = [\"re:.*layers.0.*k_proj\"]\n\n\
                [[rules]]\nscheme = \"FP8_BLOCK\"\ntargets = [\"Linear\", \"re:.*visual.*\"]\n";
    let dir = shapes::small_vl().write_single();
    let build = |toml: &str| {
        let text = RecipeText::new(Path::new("recipe.toml"), toml);
        Plan::build(Recipe::parse(text).unwrap(), Checkpoint::open(dir.path()).unwrap())
    };
    let mut text = toml.to_owned();
    let mut followed = 0;
    while let Err(refused) = build(&text) {
        let keep = refused.diagnostics[0].help.iter().find(|help| help.starts_with("to leave ")).unwrap();
        let (_, rule) = keep.split_once("(FP8_BLOCK):\n").unwrap();
        let (before, last) = text.split_at(text.rfind("[[rules]]").unwrap());
        text = format!("{before}{rule}\n\n{last}");
        followed += 1;
    }
    assert_eq!(followed, 2);
}

#[test]
fn a_recipe_may_ask_for_warnings_instead() {
    let shapes = shapes::small_vl().without("lm_head.weight");
    let recipe =
        "format: fp8\nserving: warn\nscheme: FP8_DYNAMIC\ntargets: ['re:.*', Embedding]\nignore: ['re:.*k_proj']\n";
    let plan = plan(recipe, &shapes);
    assert!(is_quantized(&plan, "model.visual.blocks.0.attn.qkv"));
    let enforced = errors(&recipe.replace("serving: warn\n", ""), &shapes);
    let warned: Vec<&String> = plan.warnings.iter().map(|diagnostic| &diagnostic.message).collect();
    assert_eq!(warned, enforced.iter().map(|diagnostic| &diagnostic.message).collect::<Vec<_>>());
    assert!(warned.len() >= 5, "{warned:#?}");
    assert!(plan.warnings.iter().all(|diagnostic| diagnostic.level == Level::Warning));
    // What cannot be done stays an error.
    assert!(try_plan("serving: warn\nscheme: FP8_DYNAMIC\ntargets: Norm\n", &shapes).is_err());
}

#[test]
fn llm_compressors_layout_is_what_vllm_reads() {
    let plan = plan(CHANNELS, &shapes::small_vl());
    let config = config(&plan);
    assert_eq!(config["quant_method"], "compressed-tensors");
    assert_eq!(config["format"], "float-quantized");
    assert_eq!(config["quantization_status"], "compressed");
    let group = &config["config_groups"]["group_0"];
    assert_eq!(group["targets"], json!(["Linear"]));
    assert_eq!(group["format"], "float-quantized");
    let arguments =
        |arguments: &Value| ["num_bits", "type", "symmetric", "dynamic", "strategy"].map(|key| arguments[key].clone());
    assert_eq!(arguments(&group["weights"]), [json!(8), json!("float"), json!(true), json!(false), json!("channel")]);
    let inputs = arguments(&group["input_activations"]);
    assert_eq!(inputs, [json!(8), json!("float"), json!(true), json!(true), json!("token")]);
    let ignore = config["ignore"].as_array().unwrap();
    assert!(ignore.contains(&json!("lm_head")) && ignore.contains(&json!("model.visual.blocks.1.attn.qkv")));
    // Two dimensions, which vLLM insists on.
    let scale =
        plan.shards[0].tensors.iter().find(|placed| placed.entry.name.ends_with("layers.0.mlp.up_proj.weight_scale"));
    assert_eq!(scale.unwrap().entry.shape, [512, 1]);

    let block = CHANNELS.replace("FP8_DYNAMIC", "FP8_BLOCK");
    let group = self::config(&super::plan(&block, &shapes::small_vl()))["config_groups"]["group_0"].clone();
    assert_eq!(
        (&group["weights"]["strategy"], &group["weights"]["block_structure"]),
        (&json!("block"), &json!([128, 128]))
    );
    assert_eq!(
        (&group["input_activations"]["strategy"], &group["input_activations"]["group_size"]),
        (&json!("group"), &json!(128))
    );

    let weights_only = CHANNELS.replace("FP8_DYNAMIC", "FP8_DYNAMIC\n    activations: none");
    let config = self::config(&super::plan(&weights_only, &shapes::small_vl()));
    let group = &config["config_groups"]["group_0"];
    assert_eq!((&config["format"], &group["input_activations"]), (&json!("naive-quantized"), &Value::Null));
}
