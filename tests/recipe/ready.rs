//! The ready recipes in `recipes/`.

use std::path::Path;

use qwen_fp8::recipe::{Dialect, MisfitPolicy, Recipe};
use qwen_fp8::schemes::Format;

fn read(name: &str) -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name);
    Recipe::read(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn rules(recipe: &Recipe) -> Vec<String> {
    let rules = recipe.rules.iter().map(|rule| {
        let targets: Vec<_> = rule.targets.iter().map(|target| target.value.text()).collect();
        let ignore: Vec<_> = rule.ignore.iter().map(|target| target.value.text()).collect();
        let optional = if rule.optional { " optional" } else { "" };
        let leaves = if rule.on_misfit == MisfitPolicy::Leave { " on_misfit: leave" } else { "" };
        format!("{}: {} - {}{optional}{leaves}; {:?}", rule.label, targets.join(" "), ignore.join(" "), rule.scheme)
    });
    rules.collect()
}

#[test]
fn every_recipe_of_the_folder_is_valid() {
    let mut names: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "fp8_dynamic.toml",
            "fp8_dynamic.yaml",
            "fp8_dynamic_mse.yaml",
            "fp8_per_channel.yaml",
            "from_fp8",
            "from_mxfp4",
            "llmcompressor_fp8_dynamic.yaml"
        ]
    );
    for name in names.into_iter().filter(|name| !name.starts_with("from_")) {
        read(&name);
    }
}

#[test]
fn the_yaml_and_the_toml_recipe_mean_the_same() {
    let (yaml, toml) = (read("fp8_dynamic.yaml"), read("fp8_dynamic.toml"));
    assert_eq!(rules(&yaml), rules(&toml));
    assert_eq!((&yaml.model, &yaml.output, yaml.format), (&toml.model, &toml.output, toml.format));
    assert_eq!(yaml.experts, toml.experts);
    assert_eq!(yaml.model.as_deref(), Some("prithivMLmods/Qwen3-VL-8B-Instruct-abliterated"));
    assert_eq!(yaml.format, Format::Fp8);
    assert_eq!(yaml.dialect, Dialect::Native);
}

#[test]
fn ready_recipes_read_as_recorded() {
    let names = [
        "fp8_dynamic.yaml",
        "fp8_dynamic_mse.yaml",
        "fp8_per_channel.yaml",
        "llmcompressor_fp8_dynamic.yaml",
        "from_fp8/dequantize.yaml",
        "from_fp8/retag.yaml",
        "from_fp8/blocks_to_channels.yaml",
        "from_fp8/float_scales.yaml",
        "from_fp8/tensors_to_channels.yaml",
        "from_mxfp4/dequantize.yaml",
    ];
    let said: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let recipe = read(name);
            let head = format!("{name}: {:?} {:?}, experts {:?}", recipe.dialect, recipe.format, recipe.experts);
            std::iter::once(head).chain(rules(&recipe))
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}
