//! Helps of plans that were refused: each leads on when it is followed, and none goes in a circle.

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::init::draft_family;
use qwen_fp8::plan::Plan;
use qwen_fp8::plan::explain::{Unexplained, explain};
use qwen_fp8::recipe::diagnostic::{Diagnostic, Level};
use serde_json::json;

use super::{error, plan, shown, try_plan, try_plan_in};
use crate::support::folder::{apply, source};
use crate::support::program::program;
use crate::support::shapes::{self, Shapes};

/// A checkpoint with these tensors, whose head is its embedding.
fn tied<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Shapes {
    shapes::of_tensors(tensors).with_config("tie_word_embeddings", true.into())
}

/// Such a checkpoint of this class.
fn class<'a>(class: &str, model_type: &str, tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Shapes {
    tied(tensors).with_config("architectures", json!([class])).with_config("model_type", model_type.into())
}

/// The text between the first pair of quotes.
fn quoted(help: &str) -> &str {
    help.split('\'').nth(1).unwrap_or_else(|| panic!("{help}"))
}

fn help_with<'d>(diagnostic: &'d Diagnostic, words: &str) -> &'d str {
    let found = diagnostic.help.iter().find(|help| help.contains(words));
    found.unwrap_or_else(|| panic!("no help says {words}: {diagnostic:#?}"))
}

/// The one diagnostic of a plan with these words in its message.
fn said<'p>(plan: &'p Plan, words: &str) -> &'p Diagnostic {
    let mut all = plan.warnings.iter().chain(&plan.notes).filter(|one| one.message.contains(words));
    all.next().unwrap_or_else(|| panic!("nothing says {words}: {:?}", plan.warnings))
}

#[test]
fn layers_that_are_stored_transposed_are_written_where_the_recipe_insists() {
    let gpt2 = class(
        "GPT2LMHeadModel",
        "gpt2",
        [
            ("transformer.wte.weight", &[512, 256][..]),
            ("transformer.h.0.attn.c_attn.weight", &[256, 768]),
            ("transformer.h.0.mlp.c_fc.weight", &[256, 1024]),
        ],
    );
    let recipe = |targets: &str, serving: &str| format!("{{scheme: FP8_DYNAMIC, targets: {targets}{serving}}}");
    let refused = error(&recipe("Linear", ""), &gpt2);
    let help = help_with(&refused, "`serving: warn` at the top");
    let pattern = format!("'{}'", quoted(help));
    assert_eq!(pattern, r"'re:.*attn\.c_attn$'");
    // The pattern alone is refused, and says what lets it pass. To leave out all that there is would lead to another error.
    let refused = error(&recipe(&pattern, ""), &gpt2);
    help_with(&refused, "`serving: warn` at the top lets this pass");
    help_with(&refused, "takes nothing else: `targets` has to name other layers");
    let planned = plan(&recipe(&pattern, ", serving: warn"), &gpt2);
    assert!(!said(&planned, "stored transposed").help.iter().any(|help| help.contains("serving: warn")));
}

#[test]
fn a_rule_that_would_take_nothing_more_is_to_be_left_out() {
    let narrow = tied([
        ("model.layers.0.self_attn.q_proj.weight", &[256, 256][..]),
        ("model.layers.0.self_attn.k_proj.weight", &[64, 256]),
        ("model.layers.0.self_attn.v_proj.weight", &[64, 256]),
        ("model.layers.0.mlp.down_proj.weight", &[256, 256]),
    ]);
    let blocks = |targets: &str| format!("- {{scheme: FP8_DYNAMIC, block_size: 128, targets: '{targets}'}}\n");
    let (attention, mlp) = (blocks("re:.*self_attn.*"), blocks("re:.*mlp.*"));
    let refused = error(&format!("rules:\n{attention}{mlp}"), &narrow);
    help_with(&refused, "rule 1 (FP8_DYNAMIC) takes nothing else: leave the rule out");
    assert!(!shown(&[refused]).contains("PASSTHROUGH"));
    plan(&format!("rules:\n{mlp}"), &narrow);
    // Where something is left to take, the rule that leaves the others out does as it says.
    let refused = error(&format!("rules:\n{}", blocks("re:.*")), &narrow)
        .help
        .into_iter()
        .find(|help| help.contains("`ignore`"))
        .unwrap();
    let ignore = refused.split_once("`ignore`: ").unwrap().1;
    plan(&format!("{{scheme: FP8_DYNAMIC, block_size: 128, targets: 're:.*', ignore: [{ignore}]}}"), &narrow);
}

#[test]
fn what_groups_do_not_fit_can_be_left_or_gets_a_scale_for_each_row() {
    let odd = tied([
        ("model.layers.0.self_attn.o_proj.weight", &[256, 256][..]),
        ("model.layers.0.mlp.down_proj.weight", &[256, 320]),
    ]);
    let refused = error("{scheme: W4A16, targets: Linear}", &odd);
    help_with(&refused, "`on_misfit: leave` in the rule");
    let left = plan("{scheme: W4A16, targets: Linear, on_misfit: leave}", &odd);
    help_with(said(&left, "groups have one size"), "`group_size: channel` in the rule");
    plan("{scheme: W4A16, targets: Linear, on_misfit: leave, group_size: channel}", &odd);
    // A scheme without such an option has FP8 beside it.
    let left = plan(
        "{scheme: MXFP4, targets: Linear, on_misfit: leave}",
        &odd.clone().with("model.layers.1.mlp.down_proj.weight", &[256, 40]),
    );
    help_with(said(&left, "groups have one size"), "one FP8 scale per row");
}

#[test]
fn quantized_layers_that_a_scheme_does_not_fit_are_said_to_be_that() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows");
    apply("scheme: FP8_DYNAMIC\ntargets: Linear\n", &source(), &rows);
    let again = "{scheme: W4A16, group_size: 256, targets: Linear, on_misfit: leave, requantize: true}";
    let refused = try_plan_in(again, &rows).unwrap_err();
    let all = shown(&refused);
    assert!(all.contains("leaves what its scheme does not fit"), "{all}");
    assert!(
        !all.contains("takes no layer that is quantized") && !all.contains("`requantize: true` on a rule"),
        "{all}"
    );
    help_with(refused.iter().find(|one| one.message.contains("leaves what")).unwrap(), "`DEQUANTIZE` decodes them");
    // Where nothing is quantized, that is what is wrong.
    let refused = try_plan_in(again, &source()).unwrap_err();
    assert!(shown(&refused).contains("the checkpoint is not quantized: leave `requantize` out"), "{}", shown(&refused));
    // As the help says: a rule after it with the same targets.
    let followed = format!("rules:\n- {again}\n- {{scheme: DEQUANTIZE, targets: Linear}}\n");
    try_plan_in(&followed, &rows).unwrap_or_else(|refused| panic!("{}", shown(&refused)));
}

/// Two layers of this class whose experts are stacked, columns first.
fn stacked(class_name: &str, model_type: &str, stem: &str) -> Shapes {
    let name = |rest: &str| format!("{stem}.layers.0.{rest}");
    let (up, down, attention) = match model_type {
        "gpt_oss" => (name("mlp.experts.gate_up_proj"), name("mlp.experts.down_proj"), name("self_attn.o_proj.weight")),
        _ => (name("mlp.experts.fc1.weight"), name("mlp.experts.fc2.weight"), name("self_attn.o_proj.weight")),
    };
    let tensors = [(up, [4, 256, 512]), (down, [4, 256, 256])];
    let tensors = tensors.iter().map(|(name, shape)| (name.as_str(), &shape[..]));
    let attention = [(attention.as_str(), &[256, 256][..])];
    class(class_name, model_type, tensors.chain(attention).collect::<Vec<_>>())
}

#[test]
fn a_pattern_of_stacked_experts_leads_to_their_matrices_or_past_them() {
    let recipe = |more: &str| format!("{{scheme: FP8_DYNAMIC, targets: 're:.*experts.*'{more}}}");
    // A server loads none of what these would become.
    let oss = stacked("GptOssForCausalLM", "gpt_oss", "model");
    let refused = error(&recipe(""), &oss);
    help_with(&refused, "vLLM 0.33 loads no single ones: ");
    help_with(&refused, "`experts: keep` at the top leaves the stacks as they are, and `targets: Linear`");
    plan("{scheme: FP8_DYNAMIC, targets: Linear, experts: keep}", &oss);
    // These it does.
    let aria = stacked("AriaForConditionalGeneration", "aria", "language_model.model");
    help_with(&error(&recipe(""), &aria), "`experts: split` at the top makes matrices of them");
    plan(&recipe(", experts: split"), &aria);
    // Those of the text alone are described too: what loads them alone is told.
    let text = stacked("AriaTextForCausalLM", "aria_text", "model");
    let refused = error("{scheme: FP8_DYNAMIC, targets: Linear, experts: split}", &text);
    assert!(refused.message.contains("load these experts as stacks alone"), "{refused:#?}");
    plan("{scheme: FP8_DYNAMIC, targets: Linear, experts: keep}", &text);
    // Of others nothing is known.
    let unknown = stacked("UnheardOfForCausalLM", "unheard_of", "model");
    help_with(&error(&recipe(""), &unknown), "`stacks` in a file of your own says how they lie");
}

#[test]
fn the_name_of_a_stack_that_was_split_leads_to_its_matrices() {
    let aria = stacked("AriaForConditionalGeneration", "aria", "language_model.model");
    let stack = "language_model.model.layers.0.mlp.experts.fc1";
    for targets in [stack, "'re:.*experts.fc1'", "'*.fc1'"] {
        let recipe = |targets: &str| format!("{{scheme: FP8_DYNAMIC, experts: split, targets: {targets}}}");
        let refused = error(&recipe(targets), &aria);
        assert!(refused.message.contains("a stack of experts, which is split into 4 matrices"), "{refused:#?}");
        let matrices = format!("'{}'", quoted(help_with(&refused, "in its place, write")));
        // The stack's other matrices stay, which servers refuse: the name itself is right.
        let next = try_plan(&recipe(&matrices), &aria).err().unwrap_or_default();
        assert!(!shown(&next).contains("stack of experts, which"), "{}", shown(&next));
    }
    let planned = plan("{scheme: FP8_DYNAMIC, experts: split, targets: Linear}", &aria);
    for name in [stack.to_owned(), format!("{stack}.weight")] {
        let first = "language_model.model.layers.0.mlp.experts.0.gate_up_proj".to_owned();
        assert_eq!(explain(&planned, &name).unwrap_err(), Unexplained::Apart(4, vec![first]));
    }
    // A module that holds others has those.
    let Err(Unexplained::Near(near)) = explain(&planned, "language_model.model.layers.0.mlp.experts") else { panic!() };
    assert!(near.iter().all(|name| name.contains(".mlp.experts.")) && near.len() == 3, "{near:?}");
}

#[test]
fn a_server_that_loads_what_another_does_not_is_named_where_it_was_seen_to() {
    let whisper =
        class("WhisperForConditionalGeneration", "whisper", [("model.decoder.layers.0.fc1.weight", &[256, 256][..])]);
    let planned = plan("{scheme: FP8_DYNAMIC, targets: Linear}", &whisper);
    let help = &said(&planned, "SGLang 0.5.23 cannot load").help;
    assert_eq!(help[..], ["vLLM loads them; for SGLang, too, leave these layers out"]);
    // Nobody has seen vLLM load this one.
    let name = "model.layers.1.mlp.experts.0.down_proj.weight";
    let ernie = class("Ernie4_5_VLMoeForConditionalGeneration", "ernie4_5_vl_moe", [(name, &[256, 256][..])]);
    let planned = plan("{scheme: FP8_DYNAMIC, targets: Linear}", &ernie);
    assert_eq!(
        said(&planned, "transformers 5.24 cannot load").help[..],
        ["for transformers, too, leave these layers out"]
    );
}

#[test]
fn the_file_that_a_warning_asks_for_can_be_drafted_and_ends_it() {
    let tower = [
        ("model.layers.0.self_attn.q_proj.weight", &[256, 256][..]),
        ("model.resampler_model.mlp.weight", &[256, 256]),
    ];
    for (class_name, model_type) in
        [("Ernie4_5_VLMoeForConditionalGeneration", "ernie4_5_vl_moe"), ("UnheardOfForCausalLM", "unheard_of")]
    {
        let model = class(class_name, model_type, tower).with("model.embed_tokens.weight", &[384, 256]).write_single();
        std::fs::write(model.path().join("recipe.yaml"), "{scheme: FP8_DYNAMIC, targets: Linear}").unwrap();
        let typed = |line: &str| {
            let line = line.replace("qwen-fp8 ", &format!("{} ", program()));
            let run = std::process::Command::new("sh").args(["-c", &line]).current_dir(model.path()).output().unwrap();
            let said = String::from_utf8(run.stderr).unwrap();
            assert!(run.status.success(), "{line}: {said}");
            said
        };
        let said = typed("qwen-fp8 plan recipe.yaml -m .");
        let draft = said.lines().find(|line| line.contains("models --draft")).unwrap_or_else(|| panic!("{said}"));
        typed(draft.trim());
        let said = typed("qwen-fp8 plan recipe.yaml -m . --models ./models");
        assert!(!said.contains("nobody has seen") && !said.contains("no family that is known"), "{said}");
    }
}

#[test]
fn a_drafted_file_names_no_server_that_the_one_built_in_does_not() {
    for (class_name, model_type, unserved) in [
        ("T5ForConditionalGeneration", "t5", Some("unserved: [vLLM, SGLang]")),
        ("DbrxForCausalLM", "dbrx", Some("unserved: [vLLM]")),
        ("Ernie4_5_VLMoeForConditionalGeneration", "ernie4_5_vl_moe", None),
    ] {
        let model = class(class_name, model_type, [("model.layers.0.mlp.wo.weight", &[256, 256][..])]).write_single();
        let text = draft_family(&Checkpoint::open(model.path()).unwrap()).unwrap();
        let line = text.lines().find(|line| line.starts_with("unserved:"));
        assert_eq!(line.and_then(|line| line.split(" #").next()), unserved, "{text}");
    }
}

#[test]
fn a_note_about_stacks_names_one_of_them() {
    let name = |rest: &str| format!("model.layers.0.mlp.{rest}_proj");
    let names = ["experts.down", "experts.gate_up", "shared_experts.down"].map(name);
    let tensors = names.iter().map(|name| (name.as_str(), &[4, 256, 256][..]));
    let attention = [("model.layers.0.self_attn.q_proj.weight", &[256, 256][..])];
    let inkling = class("InklingForCausalLM", "inkling_text", tensors.chain(attention).collect::<Vec<_>>());
    let planned = plan("{scheme: FP8_DYNAMIC, targets: Linear, experts: split_or_keep}", &inkling);
    let note = said(&planned, "stacks of experts");
    assert_eq!(note.message.matches("model.layers.0").count(), 1, "{note:#?}");
    assert_eq!(note.level, Level::Warning);
}

#[test]
fn servers_that_are_known_to_fail_are_not_named() {
    let card = |class_name: &str, model_type: &str, recipe: &str| {
        let name = "model.layers.0.self_attn.q_proj.weight";
        let planned = plan(recipe, &class(class_name, model_type, [(name, &[256, 256][..])]));
        let (_, card) = planned.documents.iter().find(|(name, _)| name == "README.md").unwrap();
        String::from_utf8(card.clone()).unwrap()
    };
    let (rows, blocks) = (
        "{scheme: FP8_DYNAMIC, targets: Linear}",
        "{scheme: FP8_DYNAMIC, targets: Linear, block_size: 128, format: fp8}",
    );
    for (class_name, model_type, recipe, named, not) in [
        ("LlamaForCausalLM", "llama", rows, "vLLM and SGLang see in `config.json`", "no server"),
        ("LlamaForCausalLM", "llama", blocks, "vLLM sees in `config.json`", "SGLang"),
        ("T5ForConditionalGeneration", "t5", rows, "no server is known to load it", "vllm serve"),
        ("BambaForCausalLM", "bamba", rows, "no server is known to load it", "vllm serve"),
        (
            "MllamaForConditionalGeneration",
            "mllama",
            rows,
            "sglang.launch_server --model-path PATH_OR_ID",
            "vllm serve",
        ),
        ("DbrxForCausalLM", "dbrx", rows, "SGLang sees in `config.json`", "vLLM"),
    ] {
        let card = card(class_name, model_type, recipe);
        let served = card.split("| the same bytes |").last().unwrap().split("<details>").next().unwrap();
        assert!(served.contains(named) && !served.contains(not), "{class_name}: {served}");
    }
}
