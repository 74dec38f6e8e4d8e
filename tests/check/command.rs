//! The commands: exit codes, JSON, SARIF and thresholds.

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::folder::{Base, Folder, source};
use crate::support::program::program;

fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(program()).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A result with one code off, so that a value lies outside its half-step.
fn spoilt() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    folder.tensor("model.language_model.layers.0.mlp.up_proj.weight").bytes[300] ^= 0x40;
    folder.write(dir.path());
    dir
}

#[test]
fn exit_codes_say_proven_at_fault_or_unreadable() {
    let (source, spoilt) = (source(), spoilt());
    let (source, spoilt, good) = (source.as_os_str(), spoilt.path().as_os_str(), Base::Block.dir().as_os_str());
    let code = |args: &[&OsStr]| run(args).status.code();
    let word = OsStr::new;
    assert_eq!(code(&[word("verify"), good, word("--source"), source]), Some(0));
    assert_eq!(code(&[word("verify"), spoilt, word("--source"), source]), Some(1));
    // Without its source, structure and values are sound.
    assert_eq!(code(&[word("verify"), spoilt]), Some(3));
    assert_eq!(code(&[word("verify"), word("/nowhere/at/all")]), Some(2));
    assert_eq!(code(&[word("verify"), good, word("--source"), word("/nowhere/at/all")]), Some(2));
    // A quantized source is one, though not the one that the manifest names.
    let again = tempfile::tempdir().unwrap();
    Folder::read(Base::Block.dir()).write(again.path());
    assert_eq!(code(&[word("verify"), again.path().as_os_str(), word("--source"), good]), Some(3));
    let packed = Base::Packed.dir().as_os_str();
    assert_eq!(code(&[word("verify"), good, word("--source"), packed]), Some(1));
    assert_eq!(code(&[word("lint"), good]), Some(0));
    assert_eq!(code(&[word("lint"), word("/nowhere/at/all")]), Some(2));
    assert_eq!(code(&[word("diff"), good, source]), Some(0));
    assert_eq!(code(&[word("diff"), good, source, word("--exit-code")]), Some(1));
    assert_eq!(code(&[word("diff"), good, good, word("--exit-code")]), Some(0));
    assert_eq!(code(&[word("diff"), good, word("/nowhere/at/all")]), Some(2));
}

#[test]
fn verify_reports_figures_places_and_findings_as_json() {
    let (source, spoilt) = (source(), spoilt());
    let output =
        run([OsStr::new("verify"), spoilt.path().as_ref(), "--json".as_ref(), "--source".as_ref(), source.as_ref()]);
    let report = json_of(&output);
    assert_eq!((&report["verdict"], &report["findings"][0]["code"]), (&json!("at_fault"), &json!("Q502")));
    let name = "model.language_model.layers.0.mlp.up_proj.weight";
    assert_eq!(report["findings"][0]["place"]["tensor"], name);
    assert!(report["findings"][0]["place"]["file"].as_str().unwrap().ends_with(".safetensors"));
    // 300 is the second row of 256.
    assert!(report["findings"][0]["message"].as_str().unwrap().contains("the first at [1, 44]"));
    let tensor = report["tensors"].as_array().unwrap().iter().find(|tensor| tensor["name"] == name).unwrap();
    assert_eq!((&tensor["action"], &tensor["storage"]), (&json!("quantized"), &json!("F8_E4M3 blocks of 128 × 128")));
    assert!(tensor["figures"]["sqnr_db"].as_f64().unwrap() > 20.0);
    assert_eq!(tensor["worst"]["at"], json!([0, 0]));
    assert_eq!(tensor["figures"]["max_error_at"], json!([1, 44]));
}

#[test]
fn thresholds_fail_what_is_beyond_them() {
    let source = source();
    let verify = |bound: &str| {
        let dir = Base::Block.dir().as_os_str();
        run([OsStr::new("verify"), dir, "--source".as_ref(), source.as_ref(), "--fail-if".as_ref(), bound.as_ref()])
    };
    for bound in ["sqnr<30dB", "cosine<0.999", "max_error>1", "saturated>1%", "flushed>1%"] {
        assert_eq!(verify(bound).status.code(), Some(0), "{bound}");
    }
    let broken = verify("sqnr<40dB");
    assert_eq!(broken.status.code(), Some(1));
    assert!(stdout(&broken).contains("error[Q511]") && stdout(&broken).contains("which `sqnr<40 dB` does not allow"));
    let wrong = verify("psnr<40dB");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no figure is called `psnr`"));
    // A bound without figures would pass everything.
    let sourceless = run([OsStr::new("verify"), Base::Block.dir().as_ref(), "--fail-if".as_ref(), "sqnr<1dB".as_ref()]);
    assert_eq!(sourceless.status.code(), Some(2));
}

#[test]
fn lint_speaks_text_json_and_sarif() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    folder.remove("model.language_model.layers.1.mlp.down_proj.weight_scale_inv");
    folder.write(dir.path());
    let lint = |format: &str| run([OsStr::new("lint"), dir.path().as_ref(), "--format".as_ref(), format.as_ref()]);
    let text = lint("text");
    assert_eq!(text.status.code(), Some(1));
    let expected = "error[Q301]: `model.language_model.layers.1.mlp.down_proj.weight` is FP8 and has no `weight_scale_inv`\n --> model-0000";
    assert!(stdout(&text).starts_with(expected), "{}", stdout(&text));
    assert!(stdout(&text).ends_with("\n1 error\n"));
    assert_eq!(json_of(&lint("json"))["findings"][0]["code"], "Q301");
    let sarif = json_of(&lint("sarif"));
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&json!("Q301"), &json!("error")));
    let index = result["ruleIndex"].as_u64().unwrap() as usize;
    assert_eq!(sarif["runs"][0]["tool"]["driver"]["rules"][index]["id"], "Q301");
}

#[test]
fn lint_lists_its_rules() {
    let rules = run(["lint", "--rules"]);
    assert!(rules.status.success());
    let rows = stdout(&rules).lines().filter(|line| line.starts_with("| Q")).count();
    assert_eq!(rows, qwen_fp8::check::RULES.len());
}

#[test]
fn names_of_the_input_are_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    folder.rename("model.language_model.norm.weight", "model.\u{1b}[31m.weight");
    folder.write(dir.path());
    let source = source();
    let output = run([OsStr::new("verify"), dir.path().as_ref(), "--source".as_ref(), source.as_ref()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("\\u{1b}[31m"));
    let diff = run([OsStr::new("diff"), dir.path().as_ref(), source.as_ref()]);
    assert!(!output.stdout.contains(&0x1b) && !diff.stdout.contains(&0x1b));
    fs::remove_dir_all(dir.path()).unwrap();
}
