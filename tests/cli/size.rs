//! The forecast of `plan`, to the byte, against what `apply` writes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{FIXTURE, Folder, run};
use crate::support::folder::{Folder as Checkpoint, source};

const LANGUAGE: &str = "targets: 're:.*language_model.*proj'";

fn planned(folder: &Folder, model: &str, options: &[&str]) -> Value {
    let recipe = folder.path("recipe.yaml");
    let output = run(&[&["plan", &recipe, "-m", model, "--json"], options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Applies the recipe; the bytes of the files, and what the report says.
fn written(folder: &Folder, model: &str, options: &[&str]) -> (u64, Value) {
    let (recipe, out) = (folder.path("recipe.yaml"), folder.path("out"));
    let output = run(&[&["apply", &recipe, "-m", model, "-o", &out, "--json"], options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(&out).unwrap();
    let bytes = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    fs::remove_dir_all(&out).unwrap();
    (bytes, serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_directory_has_the_size_that_was_planned() {
    let recipes = [
        format!("format: fp8\nscheme: FP8_BLOCK\n{LANGUAGE}\n"),
        format!("format: compressed-tensors\nscheme: FP8_DYNAMIC\nscale_search: mse\n{LANGUAGE}\n"),
        format!("format: compressed-tensors\nscheme: W4A16_ASYM\nmax_shard_size: 300kB\n{LANGUAGE}\n"),
        format!("format: compressed-tensors\nscheme: NVFP4A16\nmax_shard_size: 1GB\n{LANGUAGE}\n"),
        "format: compressed-tensors\nrules:\n  - {scheme: W8A8, targets: 're:.*self_attn.*proj'}\n  \
         - {scheme: MXFP8, targets: 're:.*language_model.*mlp.*'}\n"
            .to_owned(),
    ];
    let all: [&[&str]; 5] = [&[], &["--no-manifest"], &["--sha256"], &["--sha256=all"], &["--smoke=1"]];
    for (number, recipe) in recipes.iter().enumerate() {
        let folder = Folder::new(recipe);
        // Every option with the first recipe, the plain run and one option with the others.
        for options in all.iter().enumerate().filter(|(at, _)| number == 0 || *at == 0 || *at == number).map(|(_, o)| o)
        {
            let plan = planned(&folder, FIXTURE, options);
            let (bytes, report) = written(&folder, FIXTURE, options);
            assert_eq!(plan["directory_bytes"], bytes, "{recipe} {options:?}");
            assert_eq!(report["bytes_written"], bytes, "{recipe} {options:?}");
            assert_eq!(plan["manifest"].is_null(), options.contains(&"--no-manifest"));
            assert_ne!(plan["manifest"]["at_most"], true);
        }
    }
}

#[test]
fn a_bound_is_called_one_and_holds() {
    let folder = Folder::new(&format!("format: fp8\nscheme: FP8_BLOCK\non_nonfinite: keep\n{LANGUAGE}\n"));
    let mut spoilt = Checkpoint::read(&source());
    for (name, tensor) in spoilt.shards.values_mut().flatten() {
        if name.ends_with("proj.weight") && name.contains("language_model") {
            // Nothing but NaN and infinity makes the longest record that there is.
            tensor.bytes.chunks_exact_mut(4).for_each(|pair| pair.copy_from_slice(&[0xc0, 0x7f, 0x80, 0x7f]));
        }
    }
    spoilt.write(Path::new(&folder.path("spoilt")));
    for model in [FIXTURE, &folder.path("spoilt")] {
        let plan = planned(&folder, model, &[]);
        let (bytes, _) = written(&folder, model, &[]);
        assert_eq!(plan["manifest"]["at_most"], true);
        let bound = plan["directory_bytes"].as_u64().unwrap();
        assert!(bound >= bytes, "{model}: {bytes} of {bound}");
        // It is a bound and no guess: a record takes less than 250 bytes, and 14 weights may have one.
        assert!(bound - bytes < 14 * 250, "{model}: {bytes} of {bound}");
    }
    let text = run(&["plan", &folder.path("recipe.yaml"), "-m", FIXTURE]).stdout;
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter(|line| line.contains("at most"));
    let lines: Vec<&str> = lines.map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["qwen-fp8-manifest.json", "all", "output"]);
}
