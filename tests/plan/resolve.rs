//! Which rule takes which tensor, and what is said of patterns and rules that take none.

use qwen_fp8::plan::explain::{Unexplained, explain};
use qwen_fp8::plan::{Job, Plan};
use qwen_fp8::recipe::diagnostic::{Diagnostic, Level};

use super::{error, errors, plan};
use crate::support::shapes::{self, Shapes};

/// Modules that are quantized.
fn quantized(plan: &Plan) -> Vec<&str> {
    let tensors = plan.inputs.iter().zip(&plan.jobs);
    let quantized = tensors.filter(|(_, job)| matches!(job, Job::Quantize { .. }));
    let mut modules: Vec<&str> = quantized.map(|(tensor, _)| tensor.module()).collect();
    modules.sort_unstable();
    modules
}

/// A recipe without the serving rules, so that any layer can be taken.
fn rules(rules: &str) -> String {
    format!("format: compressed-tensors\nserving: warn\nrules:\n{rules}")
}

/// One layer of each kind.
fn kinds() -> Shapes {
    shapes::of_tensors([
        ("lm_head.weight", &[384, 256][..]),
        ("model.embed_tokens.weight", &[384, 256]),
        ("model.layers.0.input_layernorm.weight", &[256]),
        ("model.layers.0.mlp.gate.weight", &[4, 256]),
        ("model.layers.0.self_attn.o_proj.weight", &[256, 256]),
        ("model.layers.0.self_attn.o_proj.bias", &[256]),
        ("model.layers.0.linear_attn.conv1d.weight", &[256, 1, 4]),
        ("model.layers.0.linear_attn.A_log", &[16]),
        ("model.layers.0.linear_attn.table", &[16, 16]),
        ("model.visual.pos_embed.weight", &[64, 128]),
        ("model.visual.patch_embed.proj.weight", &[128, 3, 2, 4, 4]),
    ])
}

#[test]
fn the_first_rule_that_matches_decides() {
    let recipe = rules(
        "  - {scheme: PASSTHROUGH, targets: [model.layers.1.mlp.down_proj]}
  - {scheme: FP8_BLOCK, targets: ['re:.*down_proj'], ignore: ['re:.*layers.0.*']}
  - {scheme: FP8_DYNAMIC, targets: ['*down_proj', '*o_proj']}
",
    );
    let plan = plan(&recipe, &shapes::small_text());
    let decided = |name: &str| {
        let at = plan.inputs.iter().position(|tensor| tensor.module() == name).unwrap();
        plan.decisions[at].rule
    };
    assert_eq!(decided("model.layers.1.mlp.down_proj"), Some((0, 0)));
    // What a rule ignores goes on to the rules after it.
    assert_eq!(decided("model.layers.0.mlp.down_proj"), Some((2, 0)));
    assert_eq!(decided("model.layers.1.self_attn.o_proj"), Some((2, 1)));
    assert_eq!(decided("model.layers.1.self_attn.q_proj"), None);
    // The second rule found its only tensors taken or ignored.
    assert_eq!(plan.warnings.len(), 1, "{:#?}", plan.warnings);
    assert_eq!(
        plan.warnings[0].message,
        "rule 2 (FP8_BLOCK) takes nothing: its one tensor went to rule 1 (PASSTHROUGH)"
    );
}

#[test]
fn a_rule_that_takes_nothing_is_a_warning() {
    let shadowed = rules(
        "  - {scheme: FP8_DYNAMIC, targets: ['re:.*mlp.*']}
  - {scheme: FP8_DYNAMIC, targets: ['re:.*self_attn.*']}
  - {scheme: FP8_BLOCK, targets: Linear}
",
    );
    let warnings = plan(&shadowed, &shapes::small_text()).warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].message,
        "rule 3 (FP8_BLOCK) takes nothing: all of its 14 tensors went to rule 1 (FP8_DYNAMIC) and rule 2 (FP8_DYNAMIC)"
    );
    assert_eq!(warnings[0].level, Level::Warning);
    let ignoring = rules("  - {scheme: FP8_BLOCK, targets: ['re:.*o_proj'], ignore: [Linear], optional: true}\n");
    let warnings = plan(&ignoring, &shapes::small_text()).warnings;
    assert_eq!(warnings[0].message, "rule 1 (FP8_BLOCK) takes nothing: its `ignore` leaves out all of its 2 tensors");
    assert_eq!(warnings[1].message, "no tensor is quantized: the output is a copy of the checkpoint");
    // A rule that takes a single tensor is none.
    let narrow = shadowed.replace("re:.*mlp.*", "re:.*mlp.(gate|up)_proj");
    assert_eq!(plan(&narrow, &shapes::small_text()).warnings, []);
}

#[test]
fn a_recipe_that_quantizes_nothing_is_an_error_at_what_stands_in_the_way() {
    let refused = |text: &str| {
        let errors = errors(text, &shapes::small_text()).into_iter();
        let at = |error: &Diagnostic| text[error.span.clone().expect("it points into the recipe")].to_owned();
        errors.map(|error| (error.message.clone(), at(&error))).collect::<Vec<_>>()
    };
    let leaves = "rule 1 (FP8_BLOCK) takes nothing: its `ignore` leaves out all of its 14 tensors".to_owned();
    let ignoring = rules("  - {scheme: FP8_BLOCK, targets: Linear, ignore: ['re:.*']}\n");
    assert_eq!(refused(&ignoring), [(leaves, "'re:.*'".to_owned())]);
    let shadowed = rules("  - {scheme: PASSTHROUGH, targets: ['*']}\n  - {scheme: FP8_BLOCK, targets: Linear}\n");
    let [(message, _)] = &refused(&shadowed)[..] else { panic!("one error") };
    assert_eq!(message, "rule 2 (FP8_BLOCK) takes nothing: all of its 14 tensors went to rule 1 (PASSTHROUGH)");
    // llm-compressor's files may have patterns of other models, but not these alone.
    let upstream = |targets: &str| {
        format!(
            "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      scheme: FP8_DYNAMIC\n      targets: [{targets}]\n"
        )
    };
    let nothing = "`re:.*vit.*` matches nothing in the checkpoint".to_owned();
    assert_eq!(refused(&upstream("'re:.*vit.*'")), [(nothing, "'re:.*vit.*'".to_owned())]);
    plan(&upstream("'re:.*vit.*', Linear"), &shapes::small_text());
    // A copy that was asked for is one.
    plan(&rules("  - {scheme: PASSTHROUGH, targets: ['*']}\n"), &shapes::small_text());
    plan(&rules("  - {scheme: FP8_BLOCK, targets: ['*vit*'], optional: true}\n"), &shapes::small_text());
}

#[test]
fn a_regex_that_takes_too_long_is_pointed_at() {
    let long = format!("{}.weight", "a".repeat(2000));
    let shapes = shapes::of_tensors([(long.as_str(), &[128, 128][..])]);
    for (targets, ignore) in [("Linear, 're:(?=a)a'", "lm_head"), ("Linear", "lm_head, 're:(?=a)a'")] {
        let text = rules(&format!("  - {{scheme: FP8_BLOCK, targets: [{targets}], ignore: [{ignore}]}}\n"));
        let error = error(&text, &shapes);
        assert!(error.message.contains("takes too long on the name"), "{}", error.message);
        assert_eq!(&text[error.span.unwrap()], "'re:(?=a)a'");
    }
}

#[test]
fn a_regex_or_glob_quantizes_linear_layers_only_and_a_name_what_it_names() {
    for everything in ["'re:.*'", "'*'"] {
        let plan = plan(&rules(&format!("  - {{scheme: FP8_DYNAMIC, targets: [{everything}]}}\n")), &kinds());
        assert_eq!(quantized(&plan), ["lm_head", "model.layers.0.self_attn.o_proj"]);
    }
    let linear = plan(&rules("  - {scheme: FP8_DYNAMIC, targets: Linear}\n"), &kinds());
    assert_eq!(quantized(&linear), ["model.layers.0.self_attn.o_proj"]);
    for (name, module) in [
        ("model.embed_tokens", "model.embed_tokens"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("Embedding", "model.embed_tokens"),
        ("model.layers.0.mlp.gate", "model.layers.0.mlp.gate"),
        ("Router", "model.layers.0.mlp.gate"),
        ("LmHead", "lm_head"),
        ("model.visual.pos_embed", "model.visual.pos_embed"),
    ] {
        let plan = plan(&rules(&format!("  - {{scheme: FP8_DYNAMIC, targets: [{name}]}}\n")), &kinds());
        assert_eq!(quantized(&plan), [module], "{name}");
    }
}

#[test]
fn weights_that_are_no_matrices_are_refused_by_name() {
    for (target, message) in [
        (
            "model.layers.0.input_layernorm",
            "`model.layers.0.input_layernorm.weight` cannot be quantized: its shape [256] is not a matrix",
        ),
        ("Norm", "`model.layers.0.input_layernorm.weight` cannot be quantized: its shape [256] is not a matrix"),
        (
            "Conv",
            "`model.layers.0.linear_attn.conv1d.weight` cannot be quantized: its shape [256, 1, 4] is not a matrix; 1 more tensor like it",
        ),
        (
            "model.layers.0.linear_attn.A_log",
            "`model.layers.0.linear_attn.A_log` cannot be quantized: its shape [16] is not a matrix",
        ),
        (
            "model.layers.0.linear_attn.table",
            "`model.layers.0.linear_attn.table` cannot be quantized: it is no layer's `weight`, and servers know scales of weights only",
        ),
    ] {
        let error = error(&rules(&format!("  - {{scheme: FP8_DYNAMIC, targets: [Linear, {target}]}}\n")), &kinds());
        assert_eq!(error.message, message);
    }
    // Many of one kind are one error.
    let norms = error(&rules("  - {scheme: FP8_DYNAMIC, targets: Norm}\n"), &shapes::qwen3_vl_8b());
    assert!(norms.message.ends_with("; 202 more tensors like it"), "{}", norms.message);
}

#[test]
fn weights_of_other_dtypes_are_refused_by_name() {
    let with = |dtype| {
        let mut shapes = shapes::small_text();
        shapes.tensor("model.layers.1.mlp.down_proj.weight").dtype = dtype;
        shapes
    };
    let recipe = rules("  - {scheme: FP8_DYNAMIC, targets: Linear}\n");
    for dtype in ["F64", "I64"] {
        let error = error(&recipe, &with(dtype));
        assert_eq!(
            error.message,
            format!(
                "`model.layers.1.mlp.down_proj.weight` cannot be quantized: it is {dtype}, and a source is BF16, F16 or F32"
            )
        );
        assert_eq!(error.help, ["to leave it unquantized, add to `ignore`: 'model.layers.1.mlp.down_proj'"]);
        let ignoring = recipe.replace("Linear}", "Linear, ignore: ['model.layers.1.mlp.down_proj']}");
        assert_eq!(quantized(&plan(&ignoring, &with(dtype))).len(), 13);
    }
    for dtype in ["F8_E4M3", "U8"] {
        let error = error(&recipe, &with(dtype));
        let expected = "the checkpoint is quantized already: tensor `model.layers.1.mlp.down_proj.weight` is";
        assert_eq!(error.message, format!("{expected} {dtype}"));
    }
    for dtype in ["F16", "F32"] {
        assert_eq!(quantized(&plan(&recipe, &with(dtype))).len(), 14);
    }
}

#[test]
fn a_pattern_that_matches_nothing_is_an_error_with_what_was_meant() {
    for (pattern, help) in [
        ("re:visual.*", "did you mean `re:.*visual.*`?"),
        ("visual*", "did you mean `*visual*`?"),
        ("re:.*q_proj\\.weight", "did you mean `re:.*q_proj$`?"),
        ("linear", "did you mean `Linear`?"),
        (
            "model.language_model.layers.0.self_attn.q_projj",
            "the nearest names are `model.language_model.layers.0.self_attn.q_proj`, ",
        ),
        ("re:.*q_prj.*", "did you mean `re:.*q_proj.*`?"),
        ("*.q_prj", "did you mean `*.q_proj`?"),
        // Nothing is near: what the names look like.
        ("re:.*frobnicate.*", "the checkpoint's names are `model.visual.deepstack_merger_list.*.linear_fc1`, `"),
        ("Router", "the checkpoint's names are `"),
    ] {
        let recipe = |more: &str| rules(&format!("  - {{scheme: PASSTHROUGH, targets: ['{pattern}']{more}}}\n"));
        let error = error(&recipe(""), &shapes::small_vl());
        assert_eq!(error.message, format!("`{pattern}` matches nothing in the checkpoint"));
        assert!(error.help[0].starts_with(help), "{:?}", error.help);
        assert_eq!(error.help[1], "`optional: true` on the rule allows patterns that match nothing");
        plan(&recipe(", optional: true"), &shapes::small_vl());
    }
    // In `ignore` as in `targets`.
    let ignore = error(
        &rules("  - {scheme: FP8_DYNAMIC, targets: ['re:.*o_proj'], ignore: ['re:visual']}\n"),
        &shapes::small_vl(),
    );
    assert_eq!(ignore.message, "`re:visual` matches nothing in the checkpoint");
    let kind = error(&rules("  - {scheme: FP8_DYNAMIC, targets: ['re:.*norm.*']}\n"), &shapes::small_text());
    assert_eq!(kind.message, "`re:.*norm.*` matches only tensors that a pattern does not quantize");
    assert_eq!(kind.label, "matches 9 tensors, such as one of class `Norm`");
}

#[test]
fn a_tied_head_may_be_named_to_stay_unquantized_but_not_to_be_quantized() {
    let tied = shapes::small_text().without("lm_head.weight").with_config("tie_word_embeddings", true.into());
    for keeping in [
        "  - {scheme: PASSTHROUGH, targets: [lm_head, LmHead]}\n  - {scheme: FP8_DYNAMIC, targets: Linear}\n",
        "  - {scheme: FP8_DYNAMIC, targets: Linear, ignore: [lm_head]}\n",
    ] {
        assert_eq!(quantized(&plan(&rules(keeping), &tied)).len(), 14);
    }
    // As a pattern, too.
    for pattern in ["re:.*lm_head", "*lm_head", "re:lm_head$"] {
        let ignoring = rules(&format!("  - {{scheme: FP8_DYNAMIC, targets: Linear, ignore: ['{pattern}']}}\n"));
        assert_eq!(quantized(&plan(&ignoring, &tied)).len(), 14);
    }
    for (target, shown) in [("lm_head", "lm_head"), ("LmHead", "LmHead"), ("'re:.*lm_head$'", "re:.*lm_head$")] {
        let missing = error(&rules(&format!("  - {{scheme: FP8_DYNAMIC, targets: [Linear, {target}]}}\n")), &tied);
        assert_eq!(missing.message, format!("`{shown}` matches nothing in the checkpoint"));
        assert_eq!(missing.help[1], format!("take `{shown}` out of `targets`: the head then stays as it is"));
    }
    // The help leads to a plan.
    assert_eq!(quantized(&plan(&rules("  - {scheme: FP8_DYNAMIC, targets: [Linear]}\n"), &tied)).len(), 14);
}

#[test]
fn llm_compressors_patterns_may_match_nothing() {
    let recipe = "
quant_stage:
  quant_modifiers:
    QuantizationModifier:
      targets: [Linear]
      scheme: FP8_DYNAMIC
      ignore: [lm_head, 're:.*block_sparse_moe.gate', 're:.*visual.*']
";
    let plan = plan(recipe, &shapes::small_vl());
    assert_eq!(plan.warnings.len(), 1, "{:#?}", plan.warnings);
    assert_eq!(plan.warnings[0].message, "`re:.*block_sparse_moe.gate` matches nothing in the checkpoint");
    assert_eq!((plan.warnings[0].level, &plan.warnings[0].help[..]), (Level::Warning, &[][..]));
}

#[test]
fn a_name_that_a_scheme_would_write_must_be_free() {
    for taken in ["weight_scale", "weight_scale_inv"] {
        let name = format!("model.layers.0.mlp.down_proj.{taken}");
        let shapes = shapes::small_text().with(&name, &[256, 1]);
        let error = error(&rules("  - {scheme: FP8_DYNAMIC, targets: Linear}\n"), &shapes);
        assert_eq!(error.message, format!("the checkpoint is quantized already: it holds tensor `{name}`"));
    }
}

#[test]
fn explanations_name_the_rule_and_the_reason() {
    let recipe = rules(
        "  - {scheme: PASSTHROUGH, targets: ['re:.*mlp.gate$']}
  - {scheme: FP8_DYNAMIC, targets: ['re:.*'], ignore: [lm_head]}
  - {scheme: FP8, targets: [Linear, lm_head]}
",
    );
    let plan = plan(&recipe, &kinds());
    let said = |name: &str| -> Vec<String> {
        let found = explain(&plan, name).unwrap();
        let first = &found[0];
        assert_eq!(first.rules.iter().map(|said| said.line).collect::<Vec<_>>(), [4, 5, 6]);
        std::iter::once(first.outcome.clone()).chain(first.rules.iter().map(|said| said.says.clone())).collect()
    };
    let linear = said("model.layers.0.self_attn.o_proj");
    assert_eq!(
        linear,
        [
            "quantized by rule 2 (FP8_DYNAMIC): `weight` F8_E4M3 [256, 256], `weight_scale` BF16 [256, 1]",
            "no target matches its name",
            "takes it by `re:.*` (line 5)",
            "would take it by `Linear` (line 6), but an earlier rule did",
        ]
    );
    assert_eq!(said("lm_head")[2], "leaves it out by its `ignore` entry `lm_head` (line 5)");
    assert_eq!(said("lm_head")[3], "takes it by `lm_head` (line 6)");
    assert_eq!(said("model.layers.0.mlp.gate")[0], "copied unchanged: rule 1 (PASSTHROUGH) says so");
    let norm = said("model.layers.0.input_layernorm.weight");
    assert_eq!(norm[0], "copied unchanged: no rule takes it");
    assert_eq!(norm[2], "`re:.*` (line 5) matches the name, but quantizes linear layers only, and this is a Norm");
    assert_eq!(norm[3], "no target matches; its kind is Norm");
    // A module is all of its tensors.
    assert_eq!(explain(&plan, "model.layers.0.self_attn.o_proj").unwrap().len(), 2);
    assert_eq!(explain(&plan, "model.layers.0.self_attn.o_proj").unwrap()[0].file, "model.safetensors");
    let near = |name: &str| match explain(&plan, name) {
        Err(Unexplained::Near(near)) => near,
        other => panic!("{other:?}"),
    };
    assert_eq!(near("o_proj"), ["model.layers.0.self_attn.o_proj"]);
    assert_eq!(near("model.embed_token")[0], "model.embed_tokens");
}
