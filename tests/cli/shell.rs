//! What shells complete, the manual pages, and what the program says of itself.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::program::program;

/// What the program answers bash that asks for the last of these words, a line each.
fn completed(words: &[&str], directory: &Path, cache: &Path) -> Vec<String> {
    let output = Command::new(program())
        .arg("--")
        .args(words)
        .current_dir(directory)
        .env("QWEN_FP8_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "true")
        .env("HF_HUB_CACHE", cache)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn recipes_schemes_families_and_models_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let (here, cache) = (dir.path(), dir.path().join("hub"));
    for folder in ["recipes", "checkpoint", "hub/models--org--some-model", "hub/models--other--model"] {
        std::fs::create_dir_all(here.join(folder)).unwrap();
    }
    for file in ["recipes/a.yaml", "recipes/b.toml", "recipes/notes.txt"] {
        std::fs::write(here.join(file), "").unwrap();
    }
    let of = |words: &[&str]| completed(words, here, &cache);
    assert_eq!(of(&["qwen-fp8", "ap"]), ["apply", "apply-delta"]);
    assert_eq!(of(&["qwen-fp8", "apply", "recipes/"]), ["recipes/a.yaml", "recipes/b.toml"]);
    assert_eq!(of(&["qwen-fp8", "apply", "recipes/a.yaml", "--model", "org/"]), ["org/some-model"]);
    assert_eq!(of(&["qwen-fp8", "inspect", "ch"]), ["checkpoint/"]);
    assert_eq!(of(&["qwen-fp8", "schemes", "FP8_"]), ["FP8_BLOCK", "FP8_DYNAMIC"]);
    assert_eq!(of(&["qwen-fp8", "models", "Qwen3VLMoe"]), ["Qwen3VLMoeForConditionalGeneration"]);
    assert!(of(&["qwen-fp8", "apply", "recipes/a.yaml", "--simd", ""]).contains(&"portable".to_owned()));
}

#[test]
fn each_shell_has_a_script_that_asks_the_program() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = Command::new(program()).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("QWEN_FP8_COMPLETE"), "{shell}: {script}");
    }
}

#[test]
fn bash_takes_the_script() {
    let Ok(bash) = Command::new("bash").arg("--version").stdout(Stdio::null()).status() else { return };
    assert!(bash.success());
    let folder = Path::new(program()).parent().unwrap();
    let script = "eval \"$(qwen-fp8 completions bash)\"
        COMP_WORDS=(qwen-fp8 schemes W4A16) COMP_CWORD=2 COMP_TYPE=9
        _clap_complete_qwen_fp8 qwen-fp8 W4A16 2>/dev/null
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").args(["-c", script]).env("PATH", path).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "W4A16\nW4A16_ASYM\n");
}

#[test]
fn fish_takes_the_script() {
    let Ok(fish) = Command::new("fish").arg("--version").stdout(Stdio::null()).status() else { return };
    assert!(fish.success());
    let path = format!("{}:{}", Path::new(program()).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let script = "qwen-fp8 completions fish | source; complete -C 'qwen-fp8 schemes W4A16'";
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("fish").args(["-c", script]).env("PATH", path).env("HOME", home.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = said.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["W4A16", "W4A16_ASYM"], "{said}");
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    let output = Command::new(program()).arg("man").arg(&pages).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let help = Command::new(program()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let mut names = Vec::new();
    for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        names.push(line.split_whitespace().next().unwrap());
    }
    assert!(names.contains(&"apply") && names.contains(&"man"), "{names:?}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let page = std::fs::read_to_string(pages.join(format!("qwen-fp8-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let first = std::fs::read_to_string(pages.join("qwen-fp8.1")).unwrap();
    assert!(first.contains("Exit codes"), "{first}");

    // A file stands where the directory should be.
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = Command::new(program()).arg("man").arg(&file).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && message.contains("cannot be written"), "{message}");
}

#[test]
fn the_version_says_what_was_built() {
    let said = |argument: &str| {
        let output = Command::new(program()).arg(argument).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let version = concat!("qwen-fp8 ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(said("-V"), version);
    let long = said("--version");
    assert!(long.starts_with(version) && long.contains("\nfeatures: none\n"), "{long}");
    let target = long.lines().find_map(|line| line.strip_prefix("target: ")).unwrap();
    assert!(target.starts_with(std::env::consts::ARCH), "{target}");
    assert!(long.lines().any(|line| line.starts_with("commit: ")), "{long}");
}
