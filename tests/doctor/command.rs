//! The command: its lines, its JSON and its exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::folder::{Folder, source};
use crate::support::program::program;

const RECIPE: &str =
    "format: fp8\noutput: OUT\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: 're:.*language_model.*proj'\n";

/// A folder with a source, a recipe, and a card of 16 GB.
fn scene() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    Folder::read(&source()).write(&at("model"));
    fs::write(
        at("recipe.yaml"),
        format!("model: {}\n{RECIPE}", at("model").display()).replace("OUT", at("out").to_str().unwrap()),
    )
    .unwrap();
    fs::create_dir(at("bin")).unwrap();
    let smi = "#!/bin/sh\necho 'NVIDIA GeForce RTX 4080, 16376 MiB, 580.65.06, 8.9'\n";
    fs::write(at("bin/nvidia-smi"), smi).unwrap();
    fs::set_permissions(at("bin/nvidia-smi"), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Runs doctor with the tools of the folder alone; exit code, stdout and stderr.
fn doctor(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(program());
    command
        .arg("doctor")
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", dir.join("bin"))
        .env("HF_HUB_OFFLINE", "1");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The facts of a subject and their verdicts.
fn of<'a>(checklist: &'a Value, subject: &str) -> Vec<(&'a str, &'a str)> {
    let lines = checklist["lines"].as_array().unwrap().iter().filter(|line| line["subject"] == subject);
    lines.map(|line| (line["judgement"].as_str().unwrap(), line["fact"].as_str().unwrap())).collect()
}

fn checklist(dir: &Path, arguments: &[&str]) -> (i32, Value) {
    let (code, stdout, _) = doctor(dir, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")))
}

#[test]
fn a_machine_alone_is_looked_over() {
    let dir = scene();
    let (code, found) = checklist(dir.path(), &[]);
    // No Python, which is no problem.
    assert_eq!((code, &found["problems"]), (0, &0.into()), "{found}");
    for subject in ["processor", "threads", "gpu", "python"] {
        assert_eq!(of(&found, subject).len(), 1, "{subject}: {found}");
    }
    for subject in ["recipe", "source", "room", "serving"] {
        assert_eq!(of(&found, subject), [], "{subject}");
    }
}

#[test]
fn a_recipe_is_looked_over_with_source_and_output() {
    let dir = scene();
    let (code, found) = checklist(dir.path(), &["recipe.yaml"]);
    assert_eq!(code, 0, "{found}");
    for subject in ["recipe", "source", "plan", "reading", "room"] {
        assert_eq!(of(&found, subject)[0].0, "ok", "{subject}: {found}");
    }
    assert!(of(&found, "source")[0].1.contains("70 tensors in 4 shards"), "{found}");
    assert_eq!(of(&found, "plan")[0].1.split(',').next(), Some("14 tensors quantized"));
    let (judgement, fact) = of(&found, "serving")[0];
    assert!(judgement == "ok" && fact.starts_with("fits a GPU of 15.99 GiB: "), "{fact}");
    assert!(fact.contains("vLLM runs Marlin: weights are decoded"), "{fact}");
    let room = of(&found, "room")[0].1.to_owned();
    // What is said to be taken is what a run writes, but for the times in its manifest.
    let run = Command::new(program())
        .args(["apply", "-q", "recipe.yaml"])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(run.success());
    let bytes: u64 =
        fs::read_dir(dir.path().join("out")).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let taken = qwen_fp8::checkpoint::text::human(bytes);
    assert!(room.starts_with(&format!("the output takes {taken}, and ")), "{room}: {bytes}");
    // Now something bears the output's name.
    let (code, found) = checklist(dir.path(), &["recipe.yaml"]);
    assert_eq!((code, of(&found, "output")[0].0), (1, "problem"), "{found}");
    let (code, found) = checklist(dir.path(), &["recipe.yaml", "--output", "other"]);
    assert_eq!((code, of(&found, "output")), (0, vec![]), "{found}");
}

#[test]
fn what_is_wrong_is_a_line_and_the_rest_is_looked_over() {
    let dir = scene();
    let at = |name: &str| dir.path().join(name);
    let shard = fs::read_dir(at("model")).unwrap().map(|file| file.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).min().unwrap();
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() - 1]).unwrap();
    let (code, found) = checklist(dir.path(), &["recipe.yaml"]);
    assert_eq!((code, of(&found, "source")[0].0), (1, "problem"));
    let line = &found["lines"][1];
    assert!(line["advice"].as_str().unwrap().contains("the download may be incomplete"), "{line}");
    fs::remove_file(&shard).unwrap();
    let (_, found) = checklist(dir.path(), &["--model", "model"]);
    assert!(of(&found, "source")[0].1.contains("missing: `model-00001-of-00004.safetensors`"), "{found}");
    fs::write(&shard, &whole).unwrap();
    fs::remove_file(at("model/tokenizer.json")).ok();
    let tokenizer = |name: &str| ["tokenizer", "vocab", "merges"].iter().any(|word| name.starts_with(word));
    for file in fs::read_dir(at("model")).unwrap().map(|file| file.unwrap()) {
        if tokenizer(file.file_name().to_str().unwrap()) {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let (code, found) = checklist(dir.path(), &["--model", "model"]);
    assert_eq!((code, of(&found, "source")[0].0), (0, "note"), "{found}");
    // A recipe that cannot be used: its place is named, and the machine is looked over all the same.
    fs::write(at("bad.yaml"), "format: fp8\nscheme: FP8_BLOK\ntargets: Linear\n").unwrap();
    let (code, found) = checklist(dir.path(), &["bad.yaml"]);
    assert_eq!((code, of(&found, "recipe")), (1, vec![("problem", "bad.yaml:2:9: no scheme is called `FP8_BLOK`")]));
    assert_eq!(of(&found, "gpu").len(), 1);
    let refused = RECIPE.replace("re:.*language_model.*proj", "re:.*q_prj");
    fs::write(at("refused.yaml"), refused).unwrap();
    let (code, found) = checklist(dir.path(), &["refused.yaml", "--model", "model"]);
    assert_eq!((code, of(&found, "plan")[0].0, of(&found, "reading").len()), (1, "problem", 1), "{found}");
}

#[test]
fn people_read_a_verdict_a_fact_and_what_to_do() {
    let dir = scene();
    let (code, said, _) = doctor(dir.path(), &["recipe.yaml"]);
    assert_eq!(code, 0);
    assert!(said.starts_with("ok       recipe: `recipe.yaml` can be read\nok       source: "), "{said}");
    assert!(said.contains("note     python: no Python is found\n         → nothing, to convert"), "{said}");
    assert!(said.contains("`qwen-fp8 fit recipe.yaml --vram 16376MiB` names the line that serves it"), "{said}");
    assert!(said.contains("\nno problem, "), "{said}");
    let (code, said, complaints) = doctor(dir.path(), &["recipe.yaml", "--quiet"]);
    assert_eq!((code, said.as_str(), complaints.as_str()), (0, "", ""));
    let (code, said, _) = doctor(dir.path(), &["--model", "gone", "--quiet"]);
    assert!(code == 1 && said.starts_with("problem  source: `gone` does not exist") && !said.contains("ok "), "{said}");
}
