//! Packages of Python by the names of their folders, and versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::doctor::{
    PackageVersion, ProgramAnswer, PythonEnvironment, PythonFacts, ask, find_program, server_lines,
};

use super::{advised, read};
use crate::support::folder::{Folder, source};

/// Writes a program that a shell runs.
fn program(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn python(folders: &str) -> String {
    format!("#!/bin/sh\n[ \"$1\" = -I ] && printf '%s\\n' {folders}\n")
}

fn facts(packages: &[&str]) -> PythonFacts {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site-packages");
    packages.iter().for_each(|name| fs::create_dir_all(site.join(name)).unwrap());
    program(dir.path().join("bin/python3"), &python(&format!("relative {}", site.display())));
    let environment = PythonEnvironment { path: dir.path().join("bin").into(), ..PythonEnvironment::default() };
    PythonFacts::ask(&environment).unwrap()
}

#[test]
fn versions_are_compared_as_pip_does() {
    let version = |text: &str| PackageVersion::parse(text).unwrap_or_else(|| panic!("{text}"));
    for (older, newer) in [
        ("4.57.0", "5.0.0"),
        ("4.9.1", "4.10"),
        ("4.57.0.dev0", "4.57.0"),
        ("5.0.0rc1", "5.0.0"),
        ("0.11.0rc2.dev3+gabc", "0.11.0"),
    ] {
        assert!(version(older) < version(newer), "{older} {newer}");
    }
    // A local build and a correction of the release are not older than it.
    assert_eq!(version("0.33.0+cu129"), version("v0.33"));
    assert_eq!(version("0.33.0.post1"), version("0.33.0"));
    assert_eq!(version("0.33.0+cu129").to_string(), "0.33.0+cu129");
    for none in ["", "main", "dev0", ".1"] {
        assert!(PackageVersion::parse(none).is_none(), "{none}");
    }
    assert!(
        PackageVersion::parse("99999999999999999999999.1").is_some_and(|version| version.to_string().starts_with('9'))
    );
}

#[test]
fn packages_are_found_by_name_and_none_is_imported() {
    let found = facts(&[
        "transformers-5.17.0.dist-info",
        "transformers",
        "vllm-0.33.0+cu129.dist-info",
        "Compressed.Tensors-0.17.0.dist-info",
        "vllm_flash_attn-2.0.dist-info",
        "sglang.dist-info",
        "sglang-nonsense.dist-info",
    ]);
    let found: Vec<String> = found.packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
    assert_eq!(found, ["transformers 5.17.0", "vllm 0.33.0+cu129", "compressed-tensors 0.17.0"]);
}

#[test]
fn the_interpreter_is_that_of_vllm_then_of_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    let text = python("/nowhere");
    for path in ["path/python3", "venv/bin/python", "conda/bin/python", "tool/bin/python3.12"] {
        program(at(path), &text);
    }
    let mut environment = PythonEnvironment { path: at("path").into(), ..PythonEnvironment::default() };
    assert_eq!(environment.interpreter(), Some(at("path/python3")));
    environment.conda_prefix = Some(at("conda"));
    assert_eq!(environment.interpreter(), Some(at("conda/bin/python")));
    environment.virtual_env = Some(at("venv"));
    assert_eq!(environment.interpreter(), Some(at("venv/bin/python")));
    for (script, interpreter) in [
        (format!("#!{}\nimport vllm\n", at("tool/bin/python3.12").display()), at("tool/bin/python3.12")),
        ("#!/bin/sh\nexec python \"$@\"\n".to_owned(), at("venv/bin/python")),
        ("#!/gone/python3\n".to_owned(), at("venv/bin/python")),
        ("\u{7f}ELF".to_owned(), at("venv/bin/python")),
    ] {
        program(at("path/vllm"), &script);
        assert_eq!(environment.interpreter(), Some(interpreter), "{script}");
    }
    assert_eq!(PythonEnvironment::default().interpreter(), None);
    // A relative folder of the path is wherever the command is given.
    assert_eq!(find_program("python3", "path:.:".as_ref()), None);
}

#[test]
fn a_program_is_waited_for_no_longer_than_told() {
    let dir = tempfile::tempdir().unwrap();
    let asked = |text: &str, limit| {
        let path = dir.path().join("program");
        program(path.clone(), text);
        ask(&path, &["a"], limit)
    };
    let long = Duration::from_secs(60);
    assert_eq!(asked("#!/bin/sh\necho \"said $1\"\n", long), ProgramAnswer::Said("said a\n".to_owned()));
    assert_eq!(asked("#!/bin/sh\necho no; exit 3\n", long), ProgramAnswer::Failed("no\n".to_owned()));
    assert!(matches!(asked("no program\u{0}", long), ProgramAnswer::NotStarted(_)));
    // One that never ends, and one whose child holds the pipe open.
    for text in
        ["#!/bin/sh\nexec sleep 30\n", "#!/bin/sh\nsleep 30 &\necho said\n", "#!/bin/sh\nexec 1>&-\nexec sleep 30\n"]
    {
        assert_eq!(asked(text, Duration::from_millis(200)), ProgramAnswer::TooLate, "{text}");
    }
}

/// The tiny Qwen3-VL, saved by another version.
fn saved_by(version: &str) -> Checkpoint {
    let dir = tempfile::tempdir().unwrap();
    Folder::read(&source()).write(dir.path());
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["transformers_version"] = version.into();
    fs::write(&path, config.to_string()).unwrap();
    Checkpoint::open(dir.path()).unwrap()
}

#[test]
fn packages_are_judged_for_the_model() {
    let source = saved_by("4.57.3");
    let said = |packages: &[&str]| {
        let lines = server_lines(Some(&facts(packages)), Some(&source));
        advised(&lines);
        read(&lines)[1..].join("\n")
    };
    assert_eq!(
        said(&["transformers-4.56.2.dist-info", "vllm-0.10.2.dist-info"]),
        "problem packages: transformers 4.56.2 does not know Qwen3-VL, which 4.57.0 was the first to have (the files of \
         transformers' releases, and vLLM's guide to Qwen3-VL)\n\
         problem packages: vllm 0.10.2 does not know Qwen3-VL, which 0.11.0 was the first to have (the files of \
         transformers' releases, and vLLM's guide to Qwen3-VL)"
    );
    assert_eq!(
        said(&["transformers-4.57.0.dist-info", "vllm-0.11.0.dist-info", "compressed_tensors-0.1.dist-info"]),
        "note packages: transformers 4.57.0 is older than the 4.57.3 that the source's config.json was saved by\n\
         note packages: vllm 0.11.0: what `plan` and `lint` say of vLLM was proven with 0.33.0\n\
         ok packages: compressed-tensors 0.1"
    );
    assert_eq!(said(&["transformers-5.17.0.dist-info"]), "ok packages: transformers 5.17.0");
    assert!(
        said(&[]).starts_with("note packages: none of transformers, vllm, compressed-tensors, sglang is installed")
    );
    // Without a model nothing is too old for it.
    let alone = server_lines(Some(&facts(&["transformers-4.56.2.dist-info"])), None);
    assert_eq!(read(&alone)[1], "ok packages: transformers 4.56.2");
    assert_eq!(read(&server_lines(None, None)), ["note python: no Python is found"]);
}

#[test]
fn an_interpreter_that_fails_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    program(dir.path().join("python"), "#!/bin/sh\nexit 1\n");
    let environment = PythonEnvironment { path: Path::new(dir.path()).into(), ..PythonEnvironment::default() };
    let lines = server_lines(PythonFacts::ask(&environment).as_ref(), None);
    assert!(read(&lines)[0].ends_with("does not answer: it ends with a failure"), "{lines:?}");
}
