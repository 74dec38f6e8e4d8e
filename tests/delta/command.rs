//! The commands, as they are typed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{assert_same, nudge, small};
use crate::support::program::program;

fn run(dir: &Path, line: &str) -> Output {
    Command::new(program()).args(line.split(' ')).current_dir(dir).output().unwrap()
}

#[test]
fn a_delta_is_made_and_put_on() {
    let dir = tempfile::tempdir().unwrap();
    small().write(&dir.path().join("old"));
    let mut new = small();
    nudge(new.tensor("model.embed_tokens.weight"), 3);
    new.write(&dir.path().join("new"));
    let said = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let made = run(dir.path(), "delta old new --output changes.qdelta");
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let told = said(&made);
    assert!(told.starts_with("`changes.qdelta`: ") && told.contains("4 tensors the same, "), "{told}");
    assert!(told.ends_with("tensors: 1 changed\n"), "{told}");
    let done = run(dir.path(), "apply-delta changes.qdelta --base old --output out");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_same(&dir.path().join("out"), &dir.path().join("new"));

    let same = said(&run(dir.path(), "delta old old -o same.qdelta"));
    assert!(same.ends_with("nothing changed: 5 tensors\n"), "{same}");

    // A file that the new one lacks is a change, and one that the base lacks is missing.
    fs::write(dir.path().join("old/generation_config.json"), "{}").unwrap();
    let fewer = said(&run(dir.path(), "delta old out -o fewer.qdelta"));
    assert!(fewer.ends_with("; 1 file removed\n"), "{fewer}");
    let more = run(dir.path(), "delta old old -o more.qdelta");
    assert_eq!(more.status.code(), Some(0), "{more:?}");
    fs::remove_file(dir.path().join("old/generation_config.json")).unwrap();
    let lacking = run(dir.path(), "apply-delta more.qdelta -b old -o x");
    let told = said(&lacking);
    assert!(lacking.status.code() == Some(1) && told.contains("generation_config.json` is missing there"), "{told}");
    fs::write(dir.path().join("short"), &fs::read(dir.path().join("more.qdelta")).unwrap()[..9]).unwrap();
    let told = said(&run(dir.path(), "apply-delta short -b old -o x"));
    assert!(told.contains("is truncated: it has 9 bytes of at least 36"), "{told}");

    for (line, code, message, help) in [
        ("delta old new -o changes.qdelta", 2, "exists already: it is a file", "give another `--output`"),
        ("delta old nowhere -o x", 1, "nowhere", ""),
        (
            "apply-delta changes.qdelta -b new -o x",
            1,
            "the base is another one: `model.embed_tokens.weight`",
            "bit for bit",
        ),
        (
            "apply-delta old/config.json -b old -o x",
            1,
            "is no delta",
            "`qwen-fp8 delta OLD NEW --output FILE` makes one",
        ),
        ("apply-delta gone -b old -o x", 2, "`gone` is missing", ""),
        ("apply-delta changes.qdelta -b old -o out", 2, "exists already", "give another `--output`"),
    ] {
        let output = run(dir.path(), line);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {told}");
        assert!(told.contains(message) && told.contains(help), "{line}: {told}");
        assert!(!fs::exists(dir.path().join("x")).unwrap());
    }
}
