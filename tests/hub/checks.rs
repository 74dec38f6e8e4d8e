//! `verify`, `lint`, `diff` and `inspect` of models on the hub find what they find on a disk, and read no more than they must.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{files, fixture, home, refused, said};
use crate::support::hub::{COMMIT, Fault, HubServer, ID, ShownModel};

const MADE: &str = "org/made";
const MADE_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

const NVFP4: &str = "version: 1\nformat: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\n\
    ignore: ['re:.*visual.*', lm_head]\nmax_shard_size: 300KB\n";

/// A hub with the source and with an output of it by this recipe, which lies in `out` of the home too.
fn hub_with_output(recipe: &str) -> (HubServer, tempfile::TempDir) {
    let (hub, home) = (HubServer::of(&fixture()), home());
    fs::write(home.path().join("recipe.yaml"), recipe).unwrap();
    super::done(&hub, home.path(), &super::APPLY);
    let made = ShownModel { commit: MADE_COMMIT.to_owned(), files: files(home.path()), ..ShownModel::default() };
    hub.change(MADE, |model| *model = made);
    hub.requests();
    (hub, home)
}

/// What a command prints, and its exit code.
fn printed(hub: &HubServer, home: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = hub.command(home).args(arguments).output().unwrap();
    assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The JSON that a command prints, without the keys that say where the checkpoints lie.
fn json(hub: &HubServer, home: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, text) = printed(hub, home, arguments);
    let mut value: Value = serde_json::from_str(&text).unwrap();
    for key in ["output", "source", "directory", "a", "b"] {
        value.as_object_mut().unwrap().remove(key);
    }
    (code, value)
}

#[test]
fn what_is_found_is_what_is_found_on_a_disk() {
    for recipe in [super::RECIPE, NVFP4] {
        let (hub, home) = hub_with_output(recipe);
        let (fixture, home) = (fixture(), home.path());
        let source = fixture.to_str().unwrap();
        for (there, here) in [
            (
                &["verify", MADE, "--source", ID, "--manifest", "--json"][..],
                &["verify", "out", "--source", source, "--manifest", "--json"][..],
            ),
            (&["verify", "out", "--source", ID, "--json"], &["verify", "out", "--source", source, "--json"]),
            (&["verify", MADE, "--no-source", "--json"], &["verify", "out", "--no-source", "--json"]),
            (&["lint", MADE, "--json"], &["lint", "out", "--json"]),
            (&["diff", ID, MADE, "--json"], &["diff", source, "out", "--json"]),
            (&["inspect", MADE, "--json"], &["inspect", "out", "--json"]),
        ] {
            assert_eq!(json(&hub, home, there), json(&hub, home, here), "{there:?}");
        }
        // Nothing of the models was put on this disk.
        assert!(!home.join(".cache").exists());
        assert_eq!(fs::read_dir(home).unwrap().count(), 2);
    }
}

#[test]
fn lint_reads_no_weight() {
    let (hub, home) = hub_with_output(super::RECIPE);
    printed(&hub, home.path(), &["lint", MADE]);
    let asked: u64 =
        hub.requests().iter().filter_map(|request| request.range.clone()).map(|range| range.len() as u64).sum();
    let shards: u64 = files(home.path())
        .iter()
        .filter(|(name, _)| name.ends_with(".safetensors"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    assert!(asked < shards, "{asked} of {shards}");
}

#[test]
fn faults_on_the_way_change_no_verdict() {
    let (hub, home) = hub_with_output(super::RECIPE);
    for shard in 1..=4 {
        for fault in [
            Fault::Pause(Duration::ZERO),
            Fault::Drop(5_000),
            Fault::Status(403, Vec::new()),
            Fault::Status(503, Vec::new()),
        ] {
            hub.fault(&format!("/cdn/model-0000{shard}-of"), fault);
        }
    }
    let (code, text) = printed(&hub, home.path(), &["verify", MADE, "--source", ID]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!hub.has_faults());
    assert!(text.contains("proven against"), "{text}");
}

#[test]
fn a_result_that_was_altered_is_at_fault() {
    let (hub, home) = hub_with_output(super::RECIPE);
    let shard = "model-00002-of-00004.safetensors";
    hub.change(MADE, |model| *model.files.get_mut(shard).unwrap().last_mut().unwrap() ^= 0x40);
    let (code, text) = printed(&hub, home.path(), &["verify", MADE, "--source", ID, "--manifest"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("its bytes have changed") && text.contains("error[Q5"), "{text}");
}

#[test]
fn a_page_is_written_of_what_lies_elsewhere() {
    let (hub, home) = hub_with_output(super::RECIPE);
    let output =
        hub.command(home.path()).args(["verify", MADE, "--source", ID, "--report", "page.html"]).output().unwrap();
    assert!(said(&output, 0).contains("wrote the report"));
    let page = fs::read_to_string(home.path().join("page.html")).unwrap();
    assert!(page.contains(MADE_COMMIT) && page.contains(COMMIT));
}

#[test]
fn a_source_that_nobody_named_is_named() {
    let (hub, home) = hub_with_output(super::RECIPE);
    let (code, text) = printed(&hub, home.path(), &["verify", MADE]);
    assert_eq!(code, Some(3), "{text}");
    let source = format!("{ID}@{COMMIT}");
    assert!(text.contains(&format!("`--source {source}` reads it from the hub")), "{text}");
    let (code, text) = printed(&hub, home.path(), &["verify", MADE, "--source", &source]);
    assert_eq!(code, Some(0), "{text}");
    let said = refused(&hub, home.path(), &["verify", MADE, "--source", MADE], 2);
    assert!(said.contains("is its own source"), "{said}");
}

#[test]
fn what_cannot_be_had_is_no_fault_of_the_checkpoint() {
    let (hub, home) = hub_with_output(super::RECIPE);
    for command in [
        &["lint", "org/none"][..],
        &["verify", "org/none"],
        &["verify", MADE, "--source", "org/none"],
        &["diff", ID, "org/none"],
    ] {
        let said = refused(&hub, home.path(), command, 2);
        assert!(said.contains("org/none"), "{said}");
    }
    // In the middle of it: it has become another model.
    hub.fault("made/resolve", Fault::Pause(Duration::ZERO));
    hub.fault("made/resolve", Fault::OtherCommit);
    let said = refused(&hub, home.path(), &["lint", MADE], 2);
    assert!(said.contains(MADE_COMMIT), "{said}");
}
