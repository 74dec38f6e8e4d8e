//! Ready recipes on every known architecture: they quantize what the first recipe quantizes that `init` writes for it, and
//! say what stays unquantized unasked.

use std::collections::BTreeSet;
use std::fs;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::init::{DraftGranularity, Request, draft};
use qwen_fp8::plan::expected;
use qwen_fp8::plan::explain::explain;
use qwen_fp8::plan::summary::{Row, Summary};
use qwen_fp8::plan::{Job, Plan};
use qwen_fp8::recipe::diagnostic::Diagnostic;

use super::{error, errors, listed, plan, try_plan};
use crate::support::shapes::published::{self, Published};
use crate::support::shapes::{self, Shapes};

const BLOCKS: &str = "fp8_dynamic";
const ROWS: &str = "fp8_per_channel";

/// The families whose class in vLLM loads no blocks in `format: fp8`, and loads them in the other format.
const OTHER_FORMAT: [&str; 2] = ["minimax_m3_vl", "mistral3"];

fn ready(name: &str) -> String {
    fs::read_to_string(format!("{}/recipes/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The ready recipe with another word at the one place that has `old`.
fn changed(name: &str, old: &str, new: &str) -> String {
    let text = ready(name);
    assert_eq!(text.matches(old).count(), 1, "{name}: {old}");
    text.replace(old, new)
}

/// A layer of each form of the tiny model of this type.
fn tiny(model_type: &str) -> Shapes {
    published::tiny_models().remove(model_type).unwrap_or_else(|| panic!("no facts of {model_type}"))
}

fn quantized(plan: &Plan) -> BTreeSet<&str> {
    let inputs = plan.inputs.iter().zip(&plan.jobs);
    inputs.filter(|(_, job)| matches!(job, Job::Quantize { .. })).map(|(input, _)| input.name.as_str()).collect()
}

/// The notes about what stays unquantized unasked.
fn notes(plan: &Plan) -> Vec<&Diagnostic> {
    plan.notes.iter().filter(|note| note.message.contains(" unquantized, ")).collect()
}

/// The same, and warnings of that kind.
fn said(plan: &Plan) -> Vec<&Diagnostic> {
    let stays = |said: &&Diagnostic| {
        ["stay", "stays"].iter().any(|verb| said.message.contains(&format!(" {verb} unquantized")))
    };
    plan.notes.iter().chain(&plan.warnings).filter(stays).collect()
}

/// The rows of what stays unquantized for this reason.
fn rows(plan: &Plan, stays: &str) -> Vec<Row> {
    Summary::of(plan).rows.into_iter().filter(|row| row.stays == Some(stays)).collect()
}

fn first_recipe(shapes: &Shapes, granularity: DraftGranularity) -> Option<Plan> {
    let dir = shapes.write_single();
    let request = Request { model: "org/model".to_owned(), schema: None, granularity: Some(granularity) };
    let text = draft(Checkpoint::open(dir.path()).unwrap(), &request).ok()?;
    Some(plan(&text, shapes))
}

#[test]
fn they_take_what_first_recipes_take_of_every_architecture() {
    let (mut alike, mut refused, mut other_format, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for (name, shapes) in published::tiny_models() {
        for (recipe, granularity) in [(BLOCKS, DraftGranularity::Block), (ROWS, DraftGranularity::Channel)] {
            match (first_recipe(&shapes, granularity), try_plan(&ready(recipe), &shapes)) {
                (Some(first), Ok(ready)) => {
                    alike += 1;
                    // The lists of the two formats differ.
                    let same_list = first.format() != ready.format() || listed(&first) == listed(&ready);
                    if quantized(&first) != quantized(&ready) || !same_list {
                        let [first, ready] = [&first, &ready].map(|plan| (quantized(plan), listed(plan)));
                        wrong.push(format!("{name}, {recipe}: {first:?}, and not {ready:?}"));
                    }
                }
                (None, Err(said)) => {
                    refused += 1;
                    assert!(said.iter().any(|error| !error.help.is_empty()), "{name}, {recipe}: {said:#?}");
                }
                (Some(_), Err(_)) if OTHER_FORMAT.contains(&&*name) && recipe == BLOCKS => {
                    other_format.push(name.clone());
                    plan(&changed(recipe, "format: fp8", "format: compressed-tensors"), &shapes);
                }
                (first, said) => {
                    let said = said.err().map(|said| said.into_iter().map(|error| error.message).collect::<Vec<_>>());
                    wrong.push(format!("{name}, {recipe}: a first recipe: {}, ready: {said:?}", first.is_some()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(other_format, OTHER_FORMAT);
    assert!(alike > 500 && refused > 20, "{alike} {refused}");
}

#[test]
fn stacks_that_no_server_takes_apart_stay_and_are_named() {
    for (model, stacks, because) in [
        (tiny("gpt_oss"), 2, "it loads these experts stacked, in BF16 or MXFP4, and knows no names of single ones"),
        (
            tiny("openai_privacy_filter"),
            2,
            "it loads these experts stacked, in BF16 or MXFP4, and knows no names of single ones",
        ),
        (
            tiny("aria_text"),
            2,
            "it builds the class of transformers, which was seen to load these experts as stacks alone",
        ),
        (tiny("jetmoe"), 4, "it builds these experts unquantized, as the stacks that they are on disk"),
    ] {
        for recipe in [BLOCKS, ROWS] {
            assert_stacks_stay(recipe, &model, stacks, &format!("vLLM 0.33 loads no single ones: {because}"));
            let strict = changed(recipe, "split_or_keep", "split");
            assert!(error(&strict, &model).message.contains(because), "{recipe}");
        }
    }
}

#[test]
fn stacks_of_no_known_layout_stay_and_are_named() {
    let unknown = shapes::small_text()
        .with_config("architectures", serde_json::json!(["NonesuchForCausalLM"]))
        .with_config("model_type", "nonesuch".into())
        .with("model.layers.0.mlp.moe.w13_weight", &[4, 512, 256])
        .with("model.layers.0.mlp.moe.w2_weight", &[4, 256, 256]);
    for (model, stacks, first) in [
        (tiny("inkling_text"), 5, "model.layers.0.mlp.shared_experts.down_proj"),
        (tiny("inkling2_text"), 2, "model.llm.layers.0.mlp.experts.w13_weight"),
        (unknown, 2, "model.layers.0.mlp.moe.w13_weight"),
    ] {
        for recipe in [BLOCKS, ROWS] {
            let why = format!("no family's file says what `{first}` holds (`stacks`)");
            assert_stacks_stay(recipe, &model, stacks, &why);
            let strict = changed(recipe, "split_or_keep", "split");
            assert!(error(&strict, &model).message.contains(&why), "{recipe}");
        }
    }
}

/// The plan quantizes something, leaves so many stacks, and says so with this reason in its notes, rows and explanations.
#[track_caller]
fn assert_stacks_stay(recipe: &str, model: &Shapes, stacks: usize, why: &str) {
    let plan = plan(&ready(recipe), model);
    let kept: Vec<_> = plan.inputs.iter().filter(|input| input.kind().name() == "Experts").collect();
    assert_eq!(kept.len(), stacks);
    assert!(plan.inputs.iter().all(|input| input.part_of.is_none()));
    assert!(!quantized(&plan).is_empty() && kept.iter().all(|stack| !quantized(&plan).contains(&*stack.name)));
    let [note] = said(&plan)[..] else { panic!("{:#?}", plan.notes) };
    assert!(note.message.starts_with(&format!("{stacks} stacks of experts, ")), "{}", note.message);
    assert!(note.message.ends_with(why), "{}", note.message);
    let rows = rows(&plan, "stays stacked");
    assert_eq!(rows.iter().map(|row| row.count).sum::<usize>(), stacks);
    assert!(rows.iter().all(|row| row.why.as_deref() == Some(why)));
    let [explained] = &explain(&plan, &kept[0].name).unwrap()[..] else { panic!("several") };
    assert!(explained.outcome.ends_with(why), "{}", explained.outcome);
}

#[test]
fn stacks_that_servers_load_apart_are_split_without_a_word() {
    for (model, matrices) in [(shapes::qwen3_vl_30b_stacked(), 48 * 128 * 3), (tiny("granitemoe"), 4 * 3)] {
        let plan = plan(&ready(ROWS), &model);
        let experts = quantized(&plan).into_iter().filter(|name| name.contains("experts.")).count();
        assert_eq!(experts, matrices);
        assert!(said(&plan).is_empty() && rows(&plan, "stays stacked").is_empty());
    }
}

#[test]
fn stacks_of_which_no_matrix_is_quantized_stay_stacked() {
    // Apart they would gain nothing, and transformers leaves those of Gemma 4 random.
    let gemma = Published::named("Gemma-4-26B-A4B").shapes();
    let attention = changed(ROWS, "targets: Linear", "targets: 're:.*self_attn.*'");
    for (recipe, why) in [
        (
            ready(BLOCKS),
            "the scheme fits no matrix that they would become: servers fail on columns that end inside a block",
        ),
        (attention.clone(), "no rule quantizes any of the matrices that they would become"),
    ] {
        let planned = plan(&recipe, &gemma);
        assert!(planned.inputs.iter().all(|input| input.part_of.is_none()) && !quantized(&planned).is_empty());
        let of_stacks = said(&planned).into_iter().find(|note| note.message.contains(" stacks of experts, ")).unwrap();
        assert!(of_stacks.message.ends_with(why), "{}", of_stacks.message);
        assert!(rows(&planned, "stays stacked").iter().all(|row| row.why.as_deref() == Some(why)));
        let strict = plan(&recipe.replace("split_or_keep", "split"), &gemma);
        assert!(strict.inputs.iter().any(|input| input.part_of.is_some()));
        let warned = strict.notes.iter().find(|note| note.message.contains("knows these experts as stacks alone"));
        assert!(warned.unwrap().help.iter().any(|help| help.contains("`experts: split_or_keep`")), "{warned:?}");
    }
    // A rule that names a part gets it.
    let named = attention.replace("rules:", "rules:\n  - {scheme: PASSTHROUGH, targets: 're:.*experts.0.down_proj$'}");
    assert!(plan(&named, &gemma).inputs.iter().any(|input| input.part_of.is_some()));
}

#[test]
fn layers_that_end_inside_a_block_stay_and_are_named() {
    // At published sizes: columns of a dense layer, Mamba's rows, a latent's.
    for (model, taken, misfits, such) in [
        ("Gemma-4-26B-A4B", "self_attn.q_proj", "mlp.down_proj", "[2816, 2112]"),
        ("Falcon-H1-7B", "self_attn.q_proj", "mamba.in_proj", "[6680, 3072]"),
        ("Granite-4.0-H-Tiny", "shared_mlp.input_linear", "mamba.in_proj", "[6448, 1536]"),
        ("Nemotron-3-Nano-30B-A3B", "mixer.q_proj", "mixer.in_proj", "[1856, 2688]"),
    ] {
        let shapes = Published::named(model).shapes();
        let plan = plan(&ready(BLOCKS), &shapes);
        let said = said(&plan);
        assert!(said.iter().any(|note| note.message.contains(such)), "{model}: {said:#?}");
        let of_layers = said.iter().filter(|note| !note.message.contains(" of experts, "));
        let stay: usize = of_layers.map(|note| note.message.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
        let rows = rows(&plan, "misfit");
        assert_eq!(rows.iter().map(|row| row.count).sum::<usize>(), stay, "{model}");
        let has = |names: BTreeSet<&str>, end: &str| names.iter().any(|name| name.ends_with(&format!("{end}.weight")));
        assert!(has(quantized(&plan), taken) && !has(quantized(&plan), misfits), "{model}");
        assert!(rows.iter().any(|row| row.name.replace('*', "0").ends_with(&format!("{misfits}.weight"))), "{model}");
        let strict = errors(&changed(BLOCKS, "on_misfit: leave", "on_misfit: error"), &shapes);
        assert!(strict.iter().all(|error| error.message.contains("would be cut inside a block")), "{model}");
    }
}

const ATTENTION: [(&str, &[usize]); 4] = [
    ("model.layers.0.self_attn.q_proj.weight", &[256, 256]),
    ("model.layers.0.self_attn.k_proj.weight", &[192, 256]),
    ("model.layers.0.self_attn.v_proj.weight", &[192, 256]),
    ("model.layers.0.self_attn.o_proj.weight", &[256, 256]),
];

/// A tied model of these tensors alone.
fn of_tensors<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Shapes {
    shapes::of_tensors(tensors).with_config("tie_word_embeddings", true.into())
}

#[test]
fn what_servers_fuse_with_a_misfit_stays_with_it() {
    let plan = plan(&ready(BLOCKS), &of_tensors(ATTENTION));
    assert_eq!(quantized(&plan), BTreeSet::from(["model.layers.0.self_attn.o_proj.weight"]));
    let said: Vec<&str> = said(&plan).iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "2 layers, 196.61 kB, stay unquantized, such as `model.layers.0.self_attn.k_proj` [192, 256]: transformers \
             reads rows wrong that end inside a block",
            "1 layer, 131.07 kB, stays unquantized, `model.layers.0.self_attn.q_proj` [256, 256]: servers fuse each with a \
             layer that the scheme does not fit",
        ]
    );
    let [q] = &explain(&plan, "model.layers.0.self_attn.q_proj").unwrap()[..] else { panic!("several") };
    let says = &q.rules.last().unwrap().says;
    assert!(says.contains("`on_misfit`") && says.contains("fuse it with `model.layers.0.self_attn.k_proj`"), "{says}");
    assert!(
        listed(&plan).is_superset(&ATTENTION[..3].iter().map(|(name, _)| name[..name.len() - 7].to_owned()).collect())
    );
}

#[test]
fn one_misfit_among_the_experts_of_a_layer_keeps_them_all() {
    let experts = |width: usize| {
        [("gate_proj", [width, 256]), ("up_proj", [width, 256]), ("down_proj", [256, width])]
            .map(|(part, shape)| (format!("model.layers.0.mlp.experts.{{}}.{part}.weight"), shape))
    };
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    for (number, width) in [(0, 256), (1, 256), (2, 160)] {
        tensors.extend(experts(width).map(|(name, shape)| (name.replace("{}", &number.to_string()), shape.to_vec())));
    }
    tensors.extend(ATTENTION.map(|(name, _)| (name.to_owned(), vec![256, 256])));
    let shapes = of_tensors(tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())));
    let plan = plan(&ready(BLOCKS), &shapes);
    assert_eq!(quantized(&plan), ATTENTION.iter().map(|(name, _)| *name).collect());
    let misfits: usize = rows(&plan, "misfit").iter().map(|row| row.count).sum();
    assert_eq!(misfits, 9);
}

#[test]
fn a_later_rule_may_take_the_misfits() {
    let mixed = "format: compressed-tensors\nrules:\n  \
                 - {scheme: FP8_DYNAMIC, block_size: 128, targets: Linear, on_misfit: leave}\n  \
                 - {scheme: FP8_DYNAMIC, targets: Linear, optional: true}\n";
    let plan_of = |tensors: [(&'static str, &'static [usize]); 4]| plan(mixed, &of_tensors(tensors));
    let with_misfits = plan_of(ATTENTION);
    assert_eq!(quantized(&with_misfits).len(), 4);
    let by_rule: Vec<Option<usize>> =
        with_misfits.decisions.iter().map(|decision| decision.rule.map(|(rule, _)| rule)).collect();
    assert_eq!(by_rule.iter().filter(|&&rule| rule == Some(1)).count(), 3);
    assert!(said(&with_misfits).is_empty() && with_misfits.warnings.is_empty(), "{:#?}", with_misfits.warnings);
    // Where blocks fit everything, the second rule has nothing to do, and that is no mistake.
    let without = plan_of(ATTENTION.map(|(name, _)| (name, &[256, 256][..])));
    assert!(without.decisions.iter().all(|decision| decision.rule.is_some_and(|(rule, _)| rule == 0)));
    assert!(without.warnings.is_empty(), "{:#?}", without.warnings);
}

#[test]
fn groups_that_do_not_divide_a_row_are_misfits_too() {
    let tensors = [
        ("model.layers.0.mlp.up_proj.weight", &[256, 256][..]),
        ("model.layers.0.mlp.gate_proj.weight", &[256, 256]),
        ("model.layers.0.mlp.down_proj.weight", &[256, 192]),
    ];
    let recipe = "format: compressed-tensors\nscheme: W4A16\ntargets: Linear\n";
    let shapes = of_tensors(tensors);
    let refused = error(recipe, &shapes);
    assert!(refused.message.contains("down_proj"), "{}", refused.message);
    let plan = plan(&format!("{recipe}on_misfit: leave\n"), &shapes);
    assert_eq!(quantized(&plan), tensors[..2].iter().map(|(name, _)| *name).collect());
    let [note] = said(&plan)[..] else { panic!("{:#?}", plan.notes) };
    assert!(
        note.message.contains("`model.layers.0.mlp.down_proj` [256, 192]: groups have one size"),
        "{}",
        note.message
    );
}

#[test]
fn a_model_that_no_block_fits_is_refused_with_a_way_out() {
    let shapes = of_tensors(ATTENTION.map(|(name, _)| (name, &[192, 192][..])));
    let refused = error(&ready(BLOCKS), &shapes);
    assert!(refused.message.ends_with("takes nothing: its scheme does not fit any of its 4 tensors"), "{refused:#?}");
    assert!(refused.help.iter().any(|help| help.contains("one FP8 scale per row fits every shape")), "{refused:#?}");
    assert_eq!(quantized(&plan(&ready(ROWS), &shapes)).len(), 4);
}

#[test]
fn a_misfit_that_no_list_reaches_is_refused_with_a_way_out() {
    // vLLM builds MiniCPM3's `q_a_proj` without a name.
    let shapes = shapes::small_text()
        .with_config("architectures", serde_json::json!(["MiniCPM3ForCausalLM"]))
        .with_config("model_type", "minicpm3".into())
        .with("model.layers.0.self_attn.q_a_proj.weight", &[760, 256]);
    let refused = error(&ready(BLOCKS), &shapes);
    assert!(refused.message.contains("no list tells vLLM so: `model.layers.0.self_attn.q_a_proj`"), "{refused:#?}");
    assert!(refused.help.iter().any(|help| help.contains("one FP8 scale per row fits every shape")), "{refused:#?}");
    assert!(quantized(&plan(&ready(ROWS), &shapes)).contains("model.layers.0.self_attn.q_a_proj.weight"));
}

#[test]
fn most_of_the_weights_do_not_stay_in_a_note_alone() {
    for (model, recipe, is_warning) in [
        ("Gemma-4-26B-A4B", BLOCKS, true),
        ("gpt-oss-20b", ROWS, true),
        ("Granite-4.0-H-Tiny", BLOCKS, false),
        ("Falcon-H1-7B", BLOCKS, false),
    ] {
        let plan = plan(&ready(recipe), &Published::named(model).shapes());
        let warned = plan.warnings.iter().filter(|warning| warning.message.contains(" stay unquantized, ")).count();
        assert_eq!((warned > 0, notes(&plan).is_empty()), (is_warning, is_warning), "{model}: {:#?}", plan.warnings);
    }
}

#[test]
fn expectations_see_what_stays() {
    let shapes = of_tensors(ATTENTION);
    let expecting =
        |pattern: &str| ready(BLOCKS) + "expect:\n  quantized: 1\n  unquantized_layers: ['" + pattern + "']\n";
    let check = |pattern: &str| expected::check(&plan(&expecting(pattern), &shapes));
    assert_eq!(check("re:.*[qkv]_proj"), []);
    let [otherwise] = &check("re:.*_proj")[..] else { panic!("one is quantized") };
    assert!(otherwise.message.contains("o_proj"), "{otherwise:#?}");
}
