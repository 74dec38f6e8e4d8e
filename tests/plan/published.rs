//! The ready recipes and first recipes on models of published size: what is taken is what vLLM builds quantized.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::pattern::Pattern;
use qwen_fp8::init::{DraftGranularity, Request, draft};
use qwen_fp8::plan::{Job, Plan};
use serde_json::Value;

use super::{plan, shown, try_plan};
use crate::support::shapes::Shapes;
use crate::support::shapes::published::{self, Published};

/// What becomes of a model.
struct Expected {
    model: &'static str,
    /// Forms that vLLM would quantize and the recipes leave unquantized; `…**` stands for all that begin so.
    kept: &'static [&'static str],
    /// With blocks and with rows: the numbers of GPUs that the plan fits, or why there is none.
    blocks: Result<&'static [usize], &'static str>,
    rows: Result<&'static [usize], &'static str>,
}

const NO_BLOCK_FITS: &str = "its scheme does not fit any of its 8 tensors";
const NO_BLOCKS: &str = "it renames each `weight_scale_inv` to `weight_scale`";

const VISION: &str = "model.visual.**";
const ONE_TO_FOUR: &[usize] = &[1, 2, 4];
const ONE_TO_EIGHT: &[usize] = &[1, 2, 4, 8];
const ALL: &[usize] = &[1, 2, 4, 8, 16];

/// What hybrids of Qwen leave unquantized: the tower, layers that predict further tokens, projections of a few rows.
const QWEN_HYBRID: &[&str] = &[
    VISION,
    "mtp.**",
    "model.language_model.layers.*.linear_attn.in_proj_a.weight",
    "model.language_model.layers.*.linear_attn.in_proj_b.weight",
];
const GEMMA_TOWERS: &[&str] = &["model.vision_tower.**", "model.embed_vision.embedding_projection.weight"];
const MISTRAL_TOWERS: &[&str] = &["vision_tower.**", "multi_modal_projector.**"];

/// The rows of Mamba.
const IN_PROJ: &[&str] = &["model.layers.*.mamba.in_proj.weight"];
/// What the recipes with blocks leave unquantized besides, since these do not fit it.
const MISFITS: &[(&str, &[&str])] = &[
    ("Falcon-H1-3B", IN_PROJ),
    ("Falcon-H1-7B", IN_PROJ),
    // 704 columns of an expert, 2112 of a dense layer.
    ("Gemma-4-26B-A4B", &["model.language_model.layers.*.experts.**", "model.language_model.layers.*.mlp.**"]),
    ("Granite-4.0-H-1B", IN_PROJ),
    ("Granite-4.0-H-Tiny", IN_PROJ),
    // 1856 columns of an expert.
    ("Nemotron-3-Nano-30B-A3B", &["backbone.layers.*.mixer.experts.**", "backbone.layers.*.mixer.in_proj.weight"]),
];
/// What vLLM loads stacked alone.
const STACKS: &[&str] = &["model.layers.*.mlp.experts.**"];

const EXPECTED: &[Expected] = &[
    Expected { model: "DeepSeek-V3.2", kept: &[], blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "Falcon-H1-3B", kept: &[], blocks: Ok(&[1, 2]), rows: Ok(&[1, 2]) },
    Expected { model: "Falcon-H1-7B", kept: &[], blocks: Ok(ONE_TO_FOUR), rows: Ok(ONE_TO_FOUR) },
    Expected { model: "GLM-4.5", kept: &[], blocks: Ok(ONE_TO_FOUR), rows: Ok(ALL) },
    Expected { model: "GLM-5", kept: &[], blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "GLM-5.2", kept: &[], blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "Gemma-4-26B-A4B", kept: GEMMA_TOWERS, blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "Gemma-4-31B", kept: GEMMA_TOWERS, blocks: Ok(ONE_TO_EIGHT), rows: Ok(ALL) },
    Expected {
        model: "Gemma-4-E4B",
        kept: &[
            "model.vision_tower.**",
            "model.audio_tower.**",
            "model.embed_vision.embedding_projection.weight",
            "model.embed_audio.embedding_projection.weight",
        ],
        blocks: Ok(ONE_TO_FOUR),
        rows: Ok(ONE_TO_EIGHT),
    },
    Expected { model: "Granite-4.0-H-1B", kept: &[], blocks: Ok(ONE_TO_FOUR), rows: Ok(ONE_TO_FOUR) },
    Expected { model: "Granite-4.0-H-Tiny", kept: &[], blocks: Ok(ONE_TO_FOUR), rows: Ok(ONE_TO_FOUR) },
    Expected { model: "Kimi-K2", kept: &[], blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "Kimi-K2.5", kept: &["vision_tower.**", "mm_projector.**"], blocks: Ok(ALL), rows: Ok(ALL) },
    Expected { model: "Llama-4-Maverick-17B-128E", kept: &[], blocks: Ok(ONE_TO_EIGHT), rows: Ok(ONE_TO_EIGHT) },
    Expected { model: "Llama-4-Scout-17B-16E", kept: &[], blocks: Ok(ONE_TO_EIGHT), rows: Ok(ONE_TO_EIGHT) },
    Expected { model: "MiniMax-M2.5", kept: &[], blocks: Ok(ONE_TO_FOUR), rows: Ok(ALL) },
    Expected { model: "Ministral-3-8B", kept: MISTRAL_TOWERS, blocks: Err(NO_BLOCKS), rows: Ok(ALL) },
    Expected { model: "Mistral-Small-3.1-24B", kept: MISTRAL_TOWERS, blocks: Err(NO_BLOCKS), rows: Ok(ALL) },
    Expected { model: "Nemotron-3-Nano-30B-A3B", kept: &[], blocks: Ok(&[1]), rows: Ok(ONE_TO_EIGHT) },
    Expected { model: "Nemotron-3-Super-120B-A12B", kept: &[], blocks: Ok(&[1]), rows: Ok(ONE_TO_EIGHT) },
    Expected { model: "Qwen3-Embedding-0.6B", kept: &[], blocks: Ok(ONE_TO_EIGHT), rows: Ok(ALL) },
    Expected {
        model: "Qwen3-Omni-30B-A3B-Thinking",
        kept: &["thinker.visual.**", "thinker.model.layers.*.mlp.gate.weight"],
        blocks: Ok(&[1, 2]),
        rows: Ok(ALL),
    },
    Expected { model: "Qwen3.5-27B", kept: QWEN_HYBRID, blocks: Ok(ONE_TO_EIGHT), rows: Ok(ONE_TO_EIGHT) },
    Expected { model: "Qwen3.5-35B-A3B", kept: QWEN_HYBRID, blocks: Ok(ONE_TO_FOUR), rows: Ok(ALL) },
    Expected { model: "Qwen3.6-35B-A3B", kept: QWEN_HYBRID, blocks: Ok(ONE_TO_FOUR), rows: Ok(ALL) },
    Expected { model: "bge-m3", kept: &[], blocks: Ok(ONE_TO_EIGHT), rows: Ok(ALL) },
    Expected { model: "bge-reranker-v2-m3", kept: &[], blocks: Ok(ONE_TO_EIGHT), rows: Ok(ALL) },
    Expected { model: "gpt-oss-20b", kept: STACKS, blocks: Err(NO_BLOCK_FITS), rows: Ok(ALL) },
];

/// The output formats of the ready recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipe {
    Blocks,
    Rows,
}

impl Recipe {
    fn ready(self) -> String {
        let name = match self {
            Self::Blocks => "fp8_dynamic",
            Self::Rows => "fp8_per_channel",
        };
        fs::read_to_string(format!("{}/recipes/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// The key of `facts/` for the answers of this format, and that of its list in the output's `config.json`.
    fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Blocks => ("fp8", "ignored_layers"),
            Self::Rows => ("ct", "ignore"),
        }
    }
}

fn init(shapes: &Shapes, granularity: Option<DraftGranularity>) -> String {
    let dir = shapes.write_single();
    let request = Request { model: "org/model".to_owned(), schema: None, granularity };
    draft(Checkpoint::open(dir.path()).unwrap(), &request).unwrap_or_else(|error| panic!("{error:#?}"))
}

/// A name with a star for each number.
fn form(name: &str) -> String {
    let parts = name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The forms of stored tensors, and how many matrices of each are quantized.
fn taken(plan: &Plan) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for (input, _) in plan.inputs.iter().zip(&plan.jobs).filter(|(_, job)| matches!(job, Job::Quantize { .. })) {
        *taken.entry(form(input.part_of.as_deref().unwrap_or(&input.name))).or_default() += 1;
    }
    taken
}

/// The forms on disk that vLLM loads into a layer that it builds quantized, in the model or in its draft.
fn quantized_by_vllm(facts: &Value, key: &str) -> BTreeSet<String> {
    let layers = [&facts["vllm"]["layers"], &facts["vllm"]["draft"]["layers"]].into_iter();
    let layers = layers.flat_map(|layers| layers.as_array().into_iter().flatten());
    let quantized =
        layers.filter(|layer| layer["quantized"].as_bool().unwrap_or_else(|| layer["quantized"][key] == true));
    let forms = quantized.flat_map(|layer| layer["from"].as_array().into_iter().flatten());
    forms.map(|form| form.as_str().unwrap().to_owned()).collect()
}

/// The matrices of a model that vLLM quantizes, by form: how many, and whether the recipes leave them unquantized.
fn matrices(model: &Published, kept: &[&str], key: &str) -> BTreeMap<String, (usize, bool, Vec<String>)> {
    let quantized = quantized_by_vllm(&model.facts(), key);
    let mut matrices: BTreeMap<String, (usize, bool, Vec<String>)> = BTreeMap::new();
    for published::Form { form, shape, names } in model.forms() {
        // The facts have the experts one by one that the published files stack.
        let single = form
            .strip_suffix(".experts.gate_up_proj")
            .map(|layer| format!("{layer}.experts.*.gate_proj.weight"))
            .or_else(|| {
                form.strip_suffix(".experts.down_proj").map(|layer| format!("{layer}.experts.*.down_proj.weight"))
            });
        if !quantized.contains(&form) && !single.is_some_and(|single| quantized.contains(&single)) {
            continue;
        }
        let each = match shape[..] {
            [_, _] => 1,
            [experts, ..] if form.ends_with("gate_up_proj") || form.ends_with("input_linear.weight") => 2 * experts,
            [experts, ..] => experts,
            [] => panic!("{form} is a number"),
        };
        let is_kept = kept.iter().any(|kept| match kept.strip_suffix("**") {
            Some(beginning) => form.starts_with(beginning),
            None => form == *kept,
        });
        let entry = matrices.entry(form).or_insert((0, is_kept, Vec::new()));
        entry.0 += each * names.len();
        entry.2.extend(names);
    }
    matrices
}

/// Tells of a module whether the list of the output's `config.json` has it.
fn listed(plan: &Plan, key: &str) -> impl Fn(&str) -> bool + use<> {
    let (_, config) = plan.documents.iter().find(|(name, _)| name == "config.json").unwrap();
    let config: Value = serde_json::from_slice(config).unwrap();
    let list = config["quantization_config"][key].as_array().unwrap_or_else(|| panic!("no {key}: {config}"));
    let patterns: Vec<_> = list.iter().map(|text| Pattern::parse_upstream(text.as_str().unwrap()).unwrap()).collect();
    move |module| patterns.iter().any(|pattern| pattern.matches(module, LayerKind::Linear).unwrap())
}

/// The name that the list must hold: of a stack of experts, which is split though it is kept, the first expert's.
fn asked(tensor: &str) -> String {
    let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
    match module.rsplit_once('.') {
        Some((experts, part @ ("gate_up_proj" | "down_proj"))) if experts.ends_with(".experts") => {
            format!("{experts}.0.{}", part.replace("gate_up", "gate"))
        }
        _ => module.to_owned(),
    }
}

/// What a recipe leaves unquantized of a model.
fn kept(recipe: Recipe, expected: &Expected) -> Vec<&'static str> {
    let misfits = MISFITS.iter().filter(|(model, _)| recipe == Recipe::Blocks && *model == expected.model);
    expected.kept.iter().chain(misfits.flat_map(|(_, forms)| *forms)).copied().collect()
}

/// The plan takes what vLLM builds quantized, but for what is kept, which its list names; and says nothing but that most of
/// the weights stay.
#[track_caller]
fn assert_taken(recipe: Recipe, text: &str, model: &Published, expected: &Expected) -> Plan {
    let name = format!("{} with {recipe:?}", expected.model);
    let planned = try_plan(text, &model.shapes()).unwrap_or_else(|refused| panic!("{name}: {}", shown(&refused)));
    let warned = planned.warnings.iter().filter(|warning| !warning.message.contains(" stay unquantized, such as "));
    assert_eq!(warned.count(), 0, "{name}: {:#?}", planned.warnings);
    let (facts, list) = recipe.keys();
    let matrices = matrices(model, &kept(recipe, expected), facts);
    let wanted = matrices.iter().filter(|(_, (_, is_kept, _))| !is_kept);
    let wanted: BTreeMap<String, usize> = wanted.map(|(form, (count, ..))| (form.clone(), *count)).collect();
    assert!(!wanted.is_empty(), "{name}");
    assert_eq!(taken(&planned), wanted, "{name}");
    let is_listed = listed(&planned, list);
    // vLLM asks for all experts of a layer by the name of their stack, which is on disk where none of them is quantized.
    let is_listed = |module: &str| {
        is_listed(module)
            || module.split_once(".experts.").is_some_and(|(layer, _)| is_listed(&format!("{layer}.experts")))
    };
    for (_, is_kept, names) in matrices.values() {
        for module in names.iter().map(|name| asked(name)) {
            assert_eq!(is_listed(&module), *is_kept, "{name}: the list and `{module}`");
        }
    }
    planned
}

fn fits(plan: &Plan) -> Vec<usize> {
    plan.alignments.iter().filter(|alignment| alignment.misfit.is_none()).map(|alignment| alignment.size).collect()
}

#[test]
fn ready_recipes_take_what_vllm_builds_quantized_or_say_why_not() {
    for expected in EXPECTED {
        let model = Published::named(expected.model);
        for (recipe, answer) in [(Recipe::Blocks, expected.blocks), (Recipe::Rows, expected.rows)] {
            match answer {
                Ok(sizes) => {
                    let planned = assert_taken(recipe, &recipe.ready(), &model, expected);
                    assert_eq!(fits(&planned), sizes, "{} with {recipe:?}", expected.model);
                }
                Err(why) => {
                    let refused = try_plan(&recipe.ready(), &model.shapes()).unwrap_err();
                    assert!(refused.iter().any(|said| said.message.contains(why)), "{}: {refused:#?}", expected.model);
                }
            }
        }
    }
}

#[test]
fn first_recipes_take_the_same() {
    for expected in EXPECTED {
        let model = Published::named(expected.model);
        let shapes = model.shapes();
        if expected.blocks.is_ok() {
            // Where blocks fit not everything, it may have rows unasked.
            let has_misfits = MISFITS.iter().any(|(model, _)| *model == expected.model);
            let granularity = has_misfits.then_some(DraftGranularity::Block);
            assert_taken(Recipe::Blocks, &init(&shapes, granularity), &model, expected);
        }
        if expected.rows.is_ok() {
            assert_taken(Recipe::Rows, &init(&shapes, Some(DraftGranularity::Channel)), &model, expected);
        }
        // Where the ready recipe is refused, the first one leaves out what no block fits, or has rows.
        let planned = plan(&init(&shapes, None), &shapes);
        assert!(planned.warnings.is_empty(), "{}: {:#?}", expected.model, planned.warnings);
    }
}

#[test]
fn every_published_model_is_expected() {
    let expected: BTreeSet<&str> = EXPECTED.iter().map(|expected| expected.model).collect();
    assert_eq!(expected.len(), EXPECTED.len());
    let names = published::names();
    assert_eq!(expected, names.iter().map(String::as_str).collect());
    for expected in EXPECTED {
        let forms = Published::named(expected.model).forms();
        for kept in expected.kept {
            let beginning = kept.strip_suffix("**").unwrap_or(kept);
            assert!(forms.iter().any(|form| form.form.starts_with(beginning)), "{}: no {kept}", expected.model);
        }
    }
}
