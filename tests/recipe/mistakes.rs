//! What a person reads after a mistake: each kind of mistake is a snapshot, as it is rendered without colour.

use std::path::Path;

use qwen_fp8::recipe::diagnostic::render;
use qwen_fp8::recipe::{Recipe, RecipeText};

fn said(name: &str, text: &str) -> String {
    match Recipe::parse(RecipeText::new(Path::new(name), text)) {
        Ok(recipe) => panic!("{name} was accepted: {recipe:?}"),
        Err(error) => render(&error.diagnostics, &error.text, false),
    }
}

macro_rules! yaml {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), said("recipes/mine.yaml", $text), $text);
        }
    };
}

macro_rules! toml {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), said("recipes/mine.toml", $text), $text);
        }
    };
}

/// The example of the style guide, letter for letter.
#[test]
fn a_scheme_that_is_nearly_right() {
    let text = "rules:\n  - targets: Linear\n    scheme: FP8_BLOK\n";
    let expected = "\
error: no scheme is called `FP8_BLOK`
 --> recipes/mine.yaml:3:13
  |
3 |     scheme: FP8_BLOK
  |             ^^^^^^^^
  |
  = help: did you mean `FP8_BLOCK`?";
    assert_eq!(said("recipes/mine.yaml", text), expected);
}

/// A key of the whole recipe in one of its rules.
#[test]
fn keys_that_belong_at_the_top_are_sent_there() {
    for (key, value) in [("experts", "split"), ("serving", "warn"), ("format", "fp8"), ("on_nonfinite", "keep")] {
        let rule = format!("{{scheme: FP8_DYNAMIC, targets: Linear, {key}: {value}}}");
        for (text, top) in [(format!("rules: [{rule}]"), "rules"), (format!("FP8Modifier: {rule}"), "FP8Modifier")] {
            let said = said("recipes/mine.yaml", &text);
            let help = format!("= help: `{key}` belongs at the top of the recipe, beside `{top}`");
            assert!(said.contains(&format!("unknown key `{key}`")) && said.contains(&help), "{said}");
        }
    }
}

yaml!(empty, "# nothing yet\n");
yaml!(not_a_map, "- scheme: FP8_DYNAMIC\n");
yaml!(only_a_model, "model: Qwen/Qwen3-VL-8B-Instruct\noutput: out\n");
yaml!(rules_of_another_type, "rules:\n  - FP8_DYNAMIC\n");
yaml!(no_rules, "rules: []\n");
yaml!(rules_as_a_map, "rules:\n  scheme: FP8_DYNAMIC\n  targets: Linear\n");
yaml!(top_level_key, "modle: a/b\nrules:\n  - scheme: FP8_DYNAMIC\n    targets: Linear\n");
yaml!(rule_key, "rules:\n  - scheme: FP8_DYNAMIC\n    targts: Linear\n");
yaml!(scheme_missing, "rules:\n  - targets: Linear\n");
yaml!(scheme_key_nearly_right, "rules:\n  - sheme: FP8_BLOCK\n    targets: Linear\n");
yaml!(scheme_in_lower_case, "scheme: fp8_dynamic\ntargets: Linear\n");
yaml!(scheme_of_another_tool, "scheme: Q4_K_M\ntargets: Linear\n");
yaml!(scheme_of_four_bits, "scheme: INT4\ntargets: Linear\n");
yaml!(scheme_that_is_a_method, "scheme: awq\ntargets: Linear\n");
yaml!(scheme_with_calibrated_activations, "format: compressed-tensors\nscheme: NVFP4\ntargets: Linear\n");
yaml!(another_scale_than_one, "format: compressed-tensors\nscheme: NVFP4\ninput_scale: 0.5\ntargets: Linear\n");
yaml!(a_scale_in_the_official_layout, "format: fp8\nscheme: NVFP4\ninput_scale: 1.0\ntargets: Linear\n");
yaml!(
    a_scale_beside_another_scheme,
    "format: compressed-tensors\nscheme: NVFP4A16\ninput_scale: 1.0\ntargets: Linear\n"
);
yaml!(cache_in_the_official_layout, "format: fp8\nkv_cache: fp8\nscheme: FP8_BLOCK\ntargets: Linear\n");
yaml!(cache_of_another_dtype, "kv_cache: int8\nscheme: FP8_BLOCK\ntargets: Linear\n");
yaml!(scheme_of_the_format, "scheme: fp8\ntargets: Linear\n");
yaml!(scheme_of_another_type, "scheme: [FP8_DYNAMIC]\ntargets: Linear\n");
yaml!(scheme_beside_rules, "scheme: FP8_DYNAMIC\nrules:\n  - scheme: PASSTHROUGH\n    targets: Norm\n");
yaml!(option_of_another_scheme, "rules:\n  - scheme: PASSTHROUGH\n    targets: Norm\n    block_size: 128\n");
yaml!(option_too_small, "scheme: FP8_DYNAMIC\nblock_size: 0\ntargets: Linear\n");
yaml!(option_negative, "scheme: FP8_DYNAMIC\nblock_size: -128\ntargets: Linear\n");
yaml!(option_with_a_fraction, "scheme: FP8_DYNAMIC\nblock_size: 128.5\ntargets: Linear\n");
yaml!(option_too_large, "scheme: FP8_DYNAMIC\nblock_size: 99999999999\ntargets: Linear\n");
yaml!(option_as_a_string, "scheme: FP8_DYNAMIC\nblock_size: '128'\ntargets: Linear\n");
yaml!(option_with_three_sides, "scheme: FP8_DYNAMIC\nblock_size: [128, 128, 128]\ntargets: Linear\n");
yaml!(option_value_nearly_right, "scheme: FP8_DYNAMIC\nscale_dtype: bf61\ntargets: Linear\n");
yaml!(experts_nearly_right, "experts: split_or_kep\nscheme: FP8_DYNAMIC\ntargets: Linear\n");
yaml!(misfits_of_a_rule_that_quantizes_nothing, "scheme: PASSTHROUGH\non_misfit: leave\ntargets: Linear\n");
yaml!(option_without_a_value, "scheme: FP8_DYNAMIC\nblock_size:\ntargets: Linear\n");
yaml!(format_nearly_right, "format: compressed_tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n");
yaml!(version_of_the_future, "version: 2\nscheme: FP8_DYNAMIC\ntargets: Linear\n");
yaml!(shard_size_without_a_unit, "max_shard_size: 5 gigabytes\nscheme: FP8_DYNAMIC\ntargets: Linear\n");
yaml!(targets_empty, "scheme: FP8_DYNAMIC\ntargets: []\n");
yaml!(targets_of_another_type, "scheme: FP8_DYNAMIC\ntargets: [Linear, 1, null]\n");
yaml!(ignore_as_a_map, "scheme: FP8_DYNAMIC\ntargets: Linear\nignore: {lm_head: true}\n");
yaml!(pattern_regex, "scheme: FP8_DYNAMIC\ntargets: Linear\nignore:\n  - lm_head\n  - 're:.*(visual'\n");
yaml!(pattern_glob, "scheme: FP8_DYNAMIC\ntargets: 'model.[ab'\n");
yaml!(pattern_empty_regex, "scheme: FP8_DYNAMIC\ntargets: 're:'\n");
yaml!(pattern_without_quotes, "scheme: FP8_DYNAMIC\ntargets: *norm*\n");
yaml!(pattern_without_quotes_in_a_list, "scheme: FP8_DYNAMIC\ntargets:\n  - Linear\n  - *.q_proj # all\n");
yaml!(pattern_that_is_a_list_of_yaml, "scheme: FP8_DYNAMIC\ntargets: [qk]*_proj\n");
yaml!(pattern_with_an_escape, "scheme: FP8_DYNAMIC\ntargets: \"re:.*\\.q_proj\"\n");
yaml!(
    python_line,
    "from llmcompressor.modifiers.quantization import QuantizationModifier

recipe = QuantizationModifier(
    targets=\"Linear\", scheme=\"FP8_DYNAMIC\", ignore=[\"lm_head\", \"re:.*visual.*\"]
)
"
);
yaml!(python_line_as_a_value, "recipe: QuantizationModifier(targets='Linear', scheme='FP8_BLOCK')\n");
yaml!(duplicate_key, "scheme: FP8_DYNAMIC\ntargets: Linear\nscheme: FP8_BLOCK\n");
yaml!(indentation, "scheme: FP8_DYNAMIC\n  targets: Linear\n");
yaml!(tab, "rules:\n\t- scheme: FP8_DYNAMIC\n");
yaml!(two_documents, "scheme: FP8_DYNAMIC\ntargets: Linear\n---\nscheme: FP8\n");
yaml!(tag, "scheme: !include /etc/passwd\ntargets: Linear\n");
yaml!(escape_codes, "scheme: \"\\e[31mFP8\\a\"\ntargets: Linear\n");
yaml!(multibyte_before_the_mark, "# größer\nscheme: FP8_DYNAMIC\ntargets: ['ß→', 1]\n");
yaml!(
    several_at_once,
    "formt: fp8
rules:
  - scheme: PASSTROUGH
    targets: 're:(visual'
  - scheme: FP8_DYNAMIC
    block_size: [0, 128]
    optional: yes
    target: Linear
"
);

yaml!(stage_in_the_plural, "quant_stages:\n  quant_modifiers:\n    QuantizationModifier: {scheme: FP8_DYNAMIC}\n");
yaml!(modifiers_without_a_stage, "quant_modifiers:\n  QuantizationModifier: {scheme: FP8_DYNAMIC}\n");
yaml!(stage_without_modifiers, "quant_stage:\n  run_type: oneshot\n");
yaml!(modifier_without_fields, "quant_stage:\n  quant_modifiers:\n    QuantizationModifier:\n");
yaml!(modifier_without_a_scheme, "quant_stage:\n  quant_modifiers:\n    QuantizationModifier: {ignore: [lm_head]}\n");
yaml!(modifier_nearly_right, "quant_stage:\n  quant_modifiers:\n    QuantisationModifier: {scheme: FP8_DYNAMIC}\n");
yaml!(modifier_with_data, "quant_stage:\n  quant_modifiers:\n    GPTQModifier: {scheme: W4A16, targets: Linear}\n");
yaml!(
    modifier_field,
    "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      scheme: FP8_BLOCK\n      ingore: [lm_head]\n"
);
yaml!(preset_with_data, "a_stage:\n  a_modifiers:\n    QuantizationModifier: {scheme: fp8}\n");
yaml!(preset_unknown, "a_stage:\n  a_modifiers:\n    QuantizationModifier: {scheme: {FP8_DYNAMIK: Linear}}\n");
yaml!(
    key_value_cache,
    "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      scheme: FP8_DYNAMIC\n      kv_cache_scheme: {num_bits: 8}\n"
);
yaml!(
    arguments,
    "a_stage:
  a_modifiers:
    QuantizationModifier:
      weight_observer: imatrix_mse
      config_groups:
        static: {targets: [Linear], weights: {type: float}, input_activations: {type: float}}
        local:
          targets: [Linear]
          weights: {type: float, observer: mse}
          input_activations: {type: float, dynamic: local}
        order: {targets: [Linear], weights: {type: float, actorder: group}}
        outputs: {targets: [Linear], weights: {type: float}, output_activations: {type: float}}
        int9: {targets: [Linear], weights: {num_bits: 9, group_size: 128}}
        strategy: {targets: [Linear], weights: {strategy: group}}
        dynamic: {targets: [Linear], weights: {type: float, dynamic: true}}
        none: {targets: [Linear]}
"
);
yaml!(
    arguments_of_another_type,
    "a_stage:
  a_modifiers:
    QuantizationModifier:
      config_groups:
        group_0:
          weights: {num_bits: eight, strategy: chanel, symetric: true, type: floating}
"
);
yaml!(
    scheme_beside_groups,
    "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      scheme: FP8\n      config_groups: {g: {targets: [Linear], weights: {type: float}}}\n"
);
yaml!(fp8_modifier_without_targets, "FP8Modifier: {scheme: FP8_DYNAMIC, block_size: 128}\n");
yaml!(fp8_modifier_that_keeps, "FP8Modifier: {scheme: PASSTHROUGH, targets: Linear}\n");

toml!(toml_scheme, "[[rules]]\nscheme = \"FP8_DYNAMC\"\ntargets = [\"Linear\"]\n");
toml!(toml_key, "format = \"fp8\"\n\n[[rules]]\nscheme = \"FP8_DYNAMIC\"\ntargts = \"Linear\"\n");
toml!(toml_option, "scheme = \"FP8_BLOCK\"\nblock_size = -1\ntargets = \"Linear\"\n");
toml!(toml_option_of_another_scheme, "scheme = \"PASSTHROUGH\"\ntargets = \"Norm\"\nblock_size = 128\n");
toml!(toml_targets, "scheme = \"FP8_DYNAMIC\"\ntargets = [\"Linear\", 1, {a = 2}]\n");
toml!(toml_pattern, "scheme = \"FP8_DYNAMIC\"\ntargets = [\n  \"Linear\",\n  \"re:(\",\n]\n");
toml!(toml_duplicate, "scheme = \"FP8\"\nscheme = \"FP8_BLOCK\"\n");
toml!(toml_bare_word, "scheme = FP8_DYNAMIC\n");
toml!(toml_with_yaml_inside, "scheme: FP8_DYNAMIC\ntargets: Linear\n");
toml!(toml_date, "scheme = 1979-05-27\ntargets = \"Linear\"\n");
toml!(toml_not_finite, "scheme = \"FP8_BLOCK\"\nblock_size = inf\ntargets = \"Linear\"\n");
toml!(toml_integer_too_large, "scheme = \"FP8_BLOCK\"\nblock_size = 9223372036854775808\n");
toml!(
    toml_llmcompressor,
    "[a_stage.a_modifiers.QuantizationModifier]\nscheme = \"W4A17\"\nkv_cache_scheme = {num_bits = 8}\n"
);
toml!(toml_python_line, "recipe = QuantizationModifier(targets='Linear', scheme='FP8_BLOCK', ignore=['lm_head'])\n");
