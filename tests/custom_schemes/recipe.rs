//! A scheme from outside: schema, validation, suggestions and the scheme's own refusals follow from its registration.

use std::path::Path;

use qwen_fp8::recipe::diagnostic::render;
use qwen_fp8::recipe::{Recipe, RecipeError, RecipeText, recipe_schema};
use qwen_fp8::schemes::{
    AmaxScope, Band, BuildError, Format, Make, Matrix, NonFinite, NumberKind, QuantizationArgs, Registration, Scheme,
    ServerSupport, ShapeError, Strategy, TensorSpec, register_scheme,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Options of `ACME`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// How many wheels the quantizer has.
    #[schemars(range(max = 8), example = 4)]
    wheels: u8,
}

#[derive(Debug)]
#[expect(dead_code, reason = "read through `Debug`")]
struct Acme {
    wheels: u8,
    format: Format,
}

register_scheme!(Registration {
    name: "ACME",
    aliases: &["ROADRUNNER"],
    version: 1,
    summary: "Quantizes on wheels.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments: |weights, inputs| {
        let odd = weights.kind == NumberKind::Int && weights.strategy == Strategy::Group(77);
        (odd && inputs.is_none()).then(|| json!({ "wheels": 2 }))
    },
    servers: ServerSupport { servers: &[], gpu: "none" },
    golden: &[],
});

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Options { wheels } =
        serde_json::from_value(options).map_err(|error| BuildError { option: None, reason: error.to_string() })?;
    match wheels % 2 {
        0 => Ok(Box::new(Acme { wheels, format })),
        _ => Err(BuildError { option: Some("wheels"), reason: "the wheels must come in pairs".to_owned() }),
    }
}

impl Scheme for Acme {
    fn weights(&self) -> QuantizationArgs {
        unreachable!("no test asks for it")
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        None
    }

    fn storage_format(&self) -> &'static str {
        "acme-quantized"
    }

    fn outputs(&self, _: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        Ok(Vec::new())
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    fn quantize(&self, _: &Band<'_>, _: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        Ok(())
    }
}

fn parse(text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(RecipeText::new(Path::new("r.yaml"), text))
}

fn refused(text: &str) -> String {
    let error = parse(text).unwrap_err();
    render(&error.diagnostics, &error.text, false)
}

#[test]
fn the_schema_has_a_branch_for_the_name_and_for_the_alias() {
    let schema = recipe_schema();
    let rules = schema["oneOf"][0]["properties"]["rules"]["items"]["oneOf"].as_array().unwrap();
    for name in ["ACME", "ROADRUNNER"] {
        let branch = rules.iter().find(|branch| branch["title"] == name).unwrap();
        assert_eq!(branch["required"], json!(["scheme", "wheels", "targets"]));
        assert_eq!(branch["properties"]["wheels"]["description"], "How many wheels the quantizer has.");
        assert_eq!(branch["properties"]["wheels"]["maximum"], 8);
        assert!(branch["description"].as_str().unwrap().contains("Quantizes on wheels."));
    }
}

#[test]
fn a_rule_is_built_with_its_options_and_the_format() {
    for (name, format) in [("ACME", "fp8"), ("ROADRUNNER", "compressed-tensors")] {
        let recipe = parse(&format!("format: {format}\nscheme: {name}\nwheels: 4\ntargets: Linear\n")).unwrap();
        assert_eq!(recipe.rules[0].registration.name, "ACME");
        let expected = if format == "fp8" { "Fp8" } else { "CompressedTensors" };
        assert_eq!(format!("{:?}", recipe.rules[0].scheme), format!("Some(Acme {{ wheels: 4, format: {expected} }})"));
    }
}

#[test]
fn what_the_scheme_refuses_is_shown_at_the_option() {
    let expected = "\
error: the wheels must come in pairs
 --> r.yaml:3:13
  |
3 |     wheels: 3
  |             ^";
    assert_eq!(refused("rules:\n  - scheme: ACME\n    wheels: 3\n    targets: Linear\n"), expected);
    assert!(refused("scheme: ACME\ntargets: Linear\n").contains("the recipe has no `wheels`"));
    assert!(refused("scheme: ACME\nwheels: 9\ntargets: Linear\n").contains("`wheels` must be at most 8, not `9`"));
    assert!(refused("scheme: ACNE\ntargets: Linear\n").contains("did you mean `ACME`?"));
    assert!(refused("scheme: FP8\nwheels: 4\ntargets: Linear\n").contains("an option of `ACME` and `ROADRUNNER`"));
}

#[test]
fn llm_compressor_files_find_the_scheme_by_name_and_by_arguments() {
    let modifier = |field: &str| {
        let text = format!("a_stage:\n  b_modifiers:\n    QuantizationModifier:\n      {field}\n");
        parse(&text)
    };
    let group = "config_groups: {g: {targets: [Linear], weights: {num_bits: 4, group_size: 77}}}";
    let recipe = modifier(group).unwrap();
    assert_eq!(format!("{:?}", recipe.rules[0].scheme), "Some(Acme { wheels: 2, format: CompressedTensors })");
    // As a preset it has no options, which it refuses itself.
    let error = modifier("scheme: roadrunner").unwrap_err();
    assert_eq!(error.diagnostics[0].message, "missing field `wheels`");
    assert_eq!(&error.text.text[error.diagnostics[0].span.clone().unwrap()], "scheme");
    let stored = group.replace("group_size: 77}", "group_size: 77}, format: pack-quantized");
    let error = modifier(&stored).unwrap_err();
    assert_eq!(error.diagnostics[0].message, "this group is stored as `acme-quantized`, not as `pack-quantized`");
}
