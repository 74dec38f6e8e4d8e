//! The files of the catalogue: each is built in, can be read, and says nothing that contradicts another.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use qwen_fp8::checkpoint::models::catalogue::{FILES, FamilyFile, parse};

use crate::support::program::program;

fn all() -> Vec<(&'static str, FamilyFile)> {
    FILES.iter().map(|(name, text)| (*name, parse(name, text).unwrap_or_else(|error| panic!("{error}")))).collect()
}

#[test]
fn every_file_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut there: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_suffix(".yaml").unwrap().to_owned())
        .collect();
    let mut built_in: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    there.sort();
    built_in.sort();
    assert_eq!(there, built_in);
}

#[test]
fn a_class_belongs_to_one_family() {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (file, family) in all() {
        for class in family.architectures.iter().chain(&family.model_types) {
            let other = owners.insert(class.clone(), file);
            assert_eq!(other, None, "{class} is in {file} as well");
        }
        assert_eq!(family.architectures.is_empty(), file == "common", "{file}");
    }
}

#[test]
fn families_are_like_families_that_there_are() {
    let files = all();
    for (file, family) in &files {
        let mut seen = vec![*file];
        let mut next = family.like.as_deref();
        while let Some(like) = next {
            assert!(!seen.contains(&like), "{seen:?} go round in a circle");
            let (name, found) =
                files.iter().find(|(name, _)| *name == like).unwrap_or_else(|| panic!("{file}: no file `{like}`"));
            seen.push(name);
            next = found.like.as_deref();
        }
    }
}

#[test]
fn patterns_and_templates_can_be_used() {
    for (file, family) in all() {
        assert_eq!(family.faults(), [], "{file}");
    }
}

#[test]
fn a_copy_of_the_folder_can_be_given_and_changed() {
    let copy = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        fs::write(copy.path().join(format!("{name}.yaml")), text).unwrap();
    }
    let listed = || {
        let run = Command::new(program()).args(["models", "--models"]).arg(copy.path()).output();
        run.unwrap()
    };
    let run = listed();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Each family once, from the file that counts.
    let table = String::from_utf8_lossy(&run.stdout).into_owned();
    let of = |what: &str| table.lines().filter(|line| line.contains(what)).count();
    assert_eq!((of("Qwen3ForCausalLM"), of(copy.path().to_str().unwrap())), (1, FILES.len() - 1), "{table}");
    // One that the copy lacks is still the program's own.
    let gone = copy.path().join("qwen3.yaml");
    fs::rename(&gone, gone.with_extension("txt")).unwrap();
    let table = String::from_utf8_lossy(&listed().stdout).into_owned();
    assert!(
        table.lines().any(|line| line.contains("Qwen3ForCausalLM") && line.contains("models/qwen3.yaml")),
        "{table}"
    );
    fs::rename(gone.with_extension("txt"), gone).unwrap();
    // What holds for every model is no file of the user's: it would be read and mean nothing.
    let common = copy.path().join("common.yaml");
    fs::write(&common, "name: every model\nmay_lack: ['**.mlp.gate_proj']\n").unwrap();
    let run = listed();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("leave this file out"), "{said}");
    fs::remove_file(common).unwrap();
    assert!(listed().status.success());
}

#[test]
fn the_schema_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/model.schema.json");
    let checked_in: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let made = schemars::schema_for!(FamilyFile).to_value();
    assert_eq!(checked_in, made, "run `cargo run -- models --schema > schemas/model.schema.json`");
}

#[test]
fn a_family_is_like_one_that_there_is() {
    for (like, said) in [
        ("lama", "no other family's file is called `lama`\n"),
        ("Qwen3 MoE", "did you mean `qwen3_moe`?"),
        ("unheard of", "it is the name of a file without `.yaml`"),
        ("mine", "no other family's file is called `mine`"),
        ("common", "no other family's file is called `common`"),
        ("llama", ""),
        ("other", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let family = |like: &str| format!("name: Mine\narchitectures: [MineForCausalLM]\nlike: {like}\n");
        std::fs::write(folder.path().join("mine.yaml"), family(like)).unwrap();
        let other = "name: Other\narchitectures: [OtherForCausalLM]\n";
        std::fs::write(folder.path().join("other.yaml"), other).unwrap();
        let run = Command::new(program()).args(["models", "--models"]).arg(folder.path()).output();
        let run = run.unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.success(), said.is_empty(), "{like}: {stderr}");
        assert!(stderr.contains(said) && (said.is_empty() || stderr.contains("mine.yaml")), "{like}: {stderr}");
    }
}
