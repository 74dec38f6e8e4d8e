//! Models on the hub: read by ranges, whatever the hub and the network do meanwhile.

mod apply;
mod checks;
mod client;
mod download;
mod headers;
mod parts;
mod push;
mod python;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::hub::{COMMIT, HubServer, ID};

const APPLY: [&str; 7] = ["apply", "recipe.yaml", "-q", "-m", ID, "-o", "out"];

const RECIPE: &str = "\
version: 1
format: fp8
scheme: FP8_DYNAMIC
block_size: 128
targets: Linear
ignore: ['re:.*visual.*', lm_head]
";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen3-vl")
}

/// A home with a recipe in it.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("recipe.yaml"), RECIPE).unwrap();
    home
}

/// A home in whose cache the model lies already.
fn home_with_snapshot() -> tempfile::TempDir {
    home_with_snapshot_of(&fixture())
}

/// A home in whose cache the model of this directory lies already.
fn home_with_snapshot_of(model: &Path) -> tempfile::TempDir {
    let home = home();
    let repository = home.path().join(".cache/huggingface/hub/models--org--tiny");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
    }
    home
}

/// The files of an output.
fn files(home: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(home.join("out")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Runs the program, which must succeed, and returns what it printed.
fn done(hub: &HubServer, home: &Path, arguments: &[&str]) -> String {
    let output = hub.command(home).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with this code, and returns what it said.
fn refused(hub: &HubServer, home: &Path, arguments: &[&str], code: i32) -> String {
    said(&hub.command(home).args(arguments).output().unwrap(), code)
}

fn said(output: &Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}
