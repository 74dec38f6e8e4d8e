//! llm-compressor's rules of precedence, and the two ways to write an `FP8Modifier`.

use std::path::Path;

use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::recipe::{Dialect, Recipe, RecipeText, Rule};
use qwen_fp8::schemes::Format;

fn parse(text: &str) -> Recipe {
    Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), text)).unwrap_or_else(|error| panic!("{error}"))
}

/// The rule that takes a linear layer: the first whose targets match and whose ignores do not.
fn taken<'a>(recipe: &'a Recipe, module: &str) -> Option<&'a Rule> {
    let any = |patterns: &[qwen_fp8::recipe::Located<qwen_fp8::checkpoint::pattern::Pattern>]| {
        patterns.iter().any(|pattern| pattern.value.matches(module, LayerKind::Linear).unwrap())
    };
    recipe.rules.iter().find(|rule| any(&rule.targets) && !any(&rule.ignore))
}

fn label<'a>(recipe: &'a Recipe, module: &str) -> &'a str {
    taken(recipe, module).map_or("none", |rule| &rule.label)
}

#[test]
fn names_come_before_regexes_before_classes() {
    let recipe = parse(
        "
a_stage:
  a_modifiers:
    QuantizationModifier:
      ignore: [model.kept]
      config_groups:
        class: {targets: [Linear], weights: {type: float, strategy: channel}}
        z: {targets: ['re:.*z_proj', model.named], weights: {type: float, strategy: tensor}}
        a: {targets: ['re:.*[.](a|z)_proj', 're:z.*'], weights: {type: float, strategy: block, block_structure: 64x32}}
",
    );
    assert_eq!(recipe.dialect, Dialect::LlmCompressor);
    assert_eq!(recipe.format, Format::CompressedTensors);
    // `re:.*[.](a|z)_proj` comes before `re:.*z_proj`: `[` sorts before `z`, whatever the order of the groups.
    assert_eq!(label(&recipe, "model.z_proj"), "a");
    assert_eq!(label(&recipe, "model.zz_proj"), "z");
    assert_eq!(label(&recipe, "model.named"), "z");
    assert_eq!(label(&recipe, "model.other"), "class");
    assert_eq!(label(&recipe, "model.kept"), "none");
    let scheme = format!("{:?}", taken(&recipe, "model.z_proj").unwrap().scheme);
    assert!(scheme.contains("Block([64, 32])"), "{scheme}");
}

#[test]
fn the_later_group_has_a_target_that_both_name() {
    let recipe = parse(
        "
a_stage:
  a_modifiers:
    QuantizationModifier:
      scheme: {fp8_block: [Linear, 're:b'], FP8_DYNAMIC: Linear}
",
    );
    assert_eq!(label(&recipe, "model.x"), "group_1");
    assert_eq!(label(&recipe, "b"), "group_0");
}

#[test]
fn the_later_modifier_overrides_the_earlier_one() {
    let recipe = parse(
        "
a_stage:
  a_modifiers:
    QuantizationModifier: {scheme: FP8_DYNAMIC}
  b_modifiers:
    QuantizationModifier: {scheme: FP8_BLOCK, targets: ['re:.*mlp'], ignore: [model.mlp.0]}
b_stage:
  c_modifiers:
    QuantizationModifier: {scheme: FP8_DYNAMIC, targets: [model.mlp.1]}
",
    );
    let scheme = |module| taken(&recipe, module).unwrap().registration.name;
    assert_eq!(scheme("model.attn"), "FP8_DYNAMIC");
    assert_eq!(scheme("model.mlp.2"), "FP8_BLOCK");
    // Its own `ignore` leaves a module to the modifiers before.
    assert_eq!(scheme("model.mlp.0"), "FP8_DYNAMIC");
    assert_eq!(scheme("model.mlp.1"), "FP8_DYNAMIC");
    assert_eq!(recipe.rules[0].targets[0].value.text(), "model.mlp.1");
}

#[test]
fn what_llm_compressor_writes_beside_a_model_is_read() {
    let recipe = parse(
        "default_stage:
  default_modifiers:
    QuantizationModifier:
      targets: [Linear]
      ignore: ['re:.*visual.*', lm_head]
      scheme: FP8_BLOCK
      bypass_divisibility_checks: false
      requires_calibration_data: false
",
    );
    assert_eq!(recipe.rules.len(), 1);
    assert_eq!(recipe.rules[0].registration.name, "FP8_BLOCK");
    let recipe = parse(
        "default_stage:
  default_modifiers:
    QuantizationModifier:
      config_groups:
        group_0:
          targets: [Linear]
          weights: {num_bits: 8, type: float, symmetric: true, group_size: null, strategy: block, block_structure: [128,
              128], dynamic: false, actorder: null, scale_dtype: null, zp_dtype: null, observer: memoryless_minmax,
            observer_kwargs: {}}
          input_activations: {num_bits: 8, type: float, symmetric: true, group_size: 128, strategy: group,
            block_structure: null, dynamic: true, actorder: null, scale_dtype: null, zp_dtype: null, observer: null,
            observer_kwargs: {}}
          output_activations: null
          format: null
",
    );
    assert_eq!(recipe.rules[0].registration.name, "FP8_BLOCK");
    assert_eq!(recipe.rules[0].label, "group_0");
}

#[test]
fn strings_are_taken_for_the_numbers_that_they_spell() {
    let recipe = parse(
        "
a_stage:
  a_modifiers:
    QuantizationModifier:
      config_groups:
        group_0: {targets: [Linear], weights: {num_bits: '8', type: FLOAT, symmetric: 'true', group_size: '-1'}}
",
    );
    assert_eq!(recipe.rules[0].registration.name, "FP8_DYNAMIC");
}

#[test]
fn spellings_that_llm_compressor_reads_are_read() {
    let group = |weights: &str, inputs: &str| {
        format!(
            "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      config_groups:\n        g: {{targets: [Linear], weights: {{{weights}}}, input_activations: {{{inputs}}}}}\n"
        )
    };
    let scheme = |weights: &str, inputs: &str| format!("{:?}", parse(&group(weights, inputs)).rules[0].scheme);
    let plain = scheme("type: float, strategy: channel", "type: float, strategy: token, dynamic: true");
    for weights in [
        "type: fLoat, strategy: Channel",
        "type: FLOAT, strategy: CHANNEL, symmetric: on",
        "type: Float, strategy: channel, symmetric: Yes",
        "type: float, strategy: channel, symmetric: 1",
        "type: float, strategy: channel, symmetric: TRUE, dynamic: off",
        "type: float, strategy: channel, symmetric: \"true\", dynamic: 0",
    ] {
        assert_eq!(scheme(weights, "type: float, strategy: Token, dynamic: yes"), plain, "{weights}");
    }
    let inputs = "type: float, strategy: group, group_size: 128, dynamic: true";
    let blocks = scheme("type: float, strategy: block, block_structure: 128x128", inputs);
    assert_eq!(scheme("type: float, strategy: Block, block_structure: '128 x 128'", inputs), blocks);
    // What spells nothing is shown as it was typed.
    for (weights, shown) in [
        ("type: Floating", "the string `Floating`"),
        ("strategy: Chanel", "the string `Chanel`"),
        ("symmetric: 2", "not `2`"),
        ("symmetric: maybe", "the string `maybe`"),
        ("strategy: block, block_structure: 128 y 128", "the string `128 y 128`"),
    ] {
        let text = RecipeText::new(Path::new("recipe.yaml"), group(weights, inputs));
        let error = Recipe::parse(text).unwrap_err().to_string();
        assert!(error.contains(shown), "{weights}: {error}");
    }
}

#[test]
fn the_header_is_read_in_every_form() {
    let header = "$schema: s\nversion: 1\nmodel: m\noutput: o\nformat: compressed-tensors\nmax_shard_size: 2GiB\n";
    for body in [
        "rules: [{scheme: FP8_DYNAMIC, targets: Linear}]",
        "{scheme: FP8_DYNAMIC, targets: Linear}",
        "FP8Modifier: {scheme: FP8_DYNAMIC, targets: Linear}",
        "a_stage: {a_modifiers: {QuantizationModifier: {scheme: FP8_DYNAMIC}}}",
        "a_stage: {a_modifiers: {FP8Modifier: {scheme: FP8_DYNAMIC, targets: Linear}}}",
    ] {
        let body = body
            .strip_prefix('{')
            .and_then(|body| body.strip_suffix('}'))
            .map_or(body.to_owned(), |body| body.replace(", ", "\n"));
        let recipe = parse(&format!("{header}{body}\n"));
        assert_eq!((recipe.model.as_deref(), recipe.output.as_deref()), (Some("m"), Some("o")));
        assert_eq!((recipe.format, recipe.max_shard_size), (Format::CompressedTensors, Some(2 << 30)));
    }
}

/// `FP8Modifier(scheme="FP8_DYNAMIC", block_size=128, targets="Linear", ignore=[])`, as YAML.
#[test]
fn an_fp8_modifier_leaves_the_vision_tower_unquantized() {
    let modifier = "FP8Modifier: {scheme: FP8_DYNAMIC, block_size: 128, targets: Linear, ignore: []}\n";
    for text in [modifier.to_owned(), format!("a_stage:\n  a_modifiers:\n    {modifier}")] {
        let recipe = parse(&text);
        assert_eq!((recipe.dialect, recipe.format), (Dialect::Native, Format::Fp8));
        assert_eq!(label(&recipe, "model.visual.blocks.0.attn.qkv"), "implied by FP8Modifier (PASSTHROUGH)");
        assert_eq!(label(&recipe, "model.language_model.layers.0.mlp.up_proj"), "FP8Modifier (FP8_DYNAMIC)");
        assert!(recipe.rules[0].optional && !recipe.rules[1].optional);
        assert!(recipe.rules[0].scheme.is_none());
        let scheme = format!("{:?}", recipe.rules[1].scheme);
        assert!(scheme.contains("Block([128, 128])"), "{scheme}");
        assert_eq!(&recipe.text.text[recipe.rules[0].span.clone()], "FP8Modifier");
    }
}

#[test]
fn spans_of_patterns_cover_the_pattern() {
    let text = "rules:\n  - scheme: PASSTHROUGH\n    targets: [Norm, 're:ä.*']\n    ignore: lm_head\n";
    let recipe = parse(text);
    let places: Vec<_> = recipe.rules[0].targets.iter().map(|target| &text[target.span.clone()]).collect();
    assert_eq!(places, ["Norm", "'re:ä.*'"]);
    assert_eq!(&text[recipe.rules[0].ignore[0].span.clone()], "lm_head");
    assert_eq!(&text[recipe.rules[0].span.clone()], "scheme");
}
