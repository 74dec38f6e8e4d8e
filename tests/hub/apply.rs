//! A run that streams from the hub writes what it writes from a disk, whatever happens on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{APPLY, done, files, fixture, home, home_with_snapshot, refused, said};
use crate::support::hub::{Fault, HubServer, ID};

/// The output from the snapshot in a cache.
fn from_disk(recipe: &str) -> BTreeMap<String, Vec<u8>> {
    let (hub, home) = (HubServer::of(&fixture()), home_with_snapshot());
    fs::write(home.path().join("recipe.yaml"), recipe).unwrap();
    done(&hub, home.path(), &APPLY);
    assert!(hub.requests().is_empty());
    files(home.path())
}

#[test]
fn the_output_is_that_of_the_snapshot_in_the_cache() {
    for recipe in [
        super::RECIPE,
        // A second pass over each weight, whose scales are shared.
        "version: 1\nformat: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\nignore: ['re:.*visual.*', lm_head]\n",
        "version: 1\nformat: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\nignore: ['re:.*visual.*']\nmax_shard_size: 300KB\n",
    ] {
        let expected = from_disk(recipe);
        // As many blocks as the memory holds, and ones so small that they come and go.
        for more in [&[][..], &["--max-memory", "2MiB", "--threads", "3"], &["--threads", "1"]] {
            let (hub, home) = (HubServer::of(&fixture()), home());
            fs::write(home.path().join("recipe.yaml"), recipe).unwrap();
            done(&hub, home.path(), &[&APPLY[..], more].concat());
            assert!(files(home.path()) == expected, "{recipe}: {more:?}");
            // The model was never on this disk.
            assert!(!home.path().join(".cache").exists());
        }
    }
}

#[test]
fn digests_of_the_source_are_those_of_a_disk() {
    let manifest = |home: &Path| {
        let hub = HubServer::of(&fixture());
        done(&hub, home, &[&APPLY[..], &["--sha256=all"]].concat());
        files(home)
    };
    assert!(manifest(home().path()) == manifest(home_with_snapshot().path()));
}

#[test]
fn faults_on_the_way_change_no_byte() {
    let expected = from_disk(super::RECIPE);
    let (hub, home) = (HubServer::of(&fixture()), home());
    for shard in 1..=4 {
        let path = format!("/cdn/model-0000{shard}-of");
        // The header passes; what is met is met by weights.
        for fault in [
            Fault::Pause(Duration::ZERO),
            Fault::Drop(9_000),
            Fault::Status(403, Vec::new()),
            Fault::Drop(0),
            Fault::Status(503, Vec::new()),
        ] {
            hub.fault(&path, fault);
        }
    }
    hub.fault("/tokenizer.json", Fault::Drop(100));
    done(&hub, home.path(), &APPLY);
    assert!(files(home.path()) == expected);
    assert!(!hub.has_faults());
}

#[test]
fn an_interrupted_run_goes_on_and_ends_with_the_same_bytes() {
    let recipe = format!("{}max_shard_size: 300KB\n", super::RECIPE);
    let expected = from_disk(&recipe);
    let (hub, home) = (HubServer::of(&fixture()), home());
    fs::write(home.path().join("recipe.yaml"), &recipe).unwrap();
    let apply = [&APPLY[..], &["--threads", "1", "--max-memory", "2MiB"]].concat();
    // The last shard of the source cannot be had, but for its header.
    done(&hub, home.path(), &["plan", "recipe.yaml", "-m", ID]);
    let last = "/cdn/model-00004-of-00004.safetensors";
    let headers = hub.requests().iter().filter(|request| request.path.contains(last)).count();
    assert_eq!(headers, 1);
    let later = Fault::Status(429, vec![("Retry-After", "3600".to_owned())]);
    hub.fault(last, Fault::Pause(Duration::ZERO));
    (0..40).for_each(|_| hub.fault(last, later.clone()));
    let said = refused(&hub, home.path(), &apply, 2);
    assert!(said.contains("too often") && said.contains(last.trim_start_matches("/cdn/")), "{said}");
    assert!(said.contains("the same command resumes with"), "{said}");
    assert!(!home.path().join("out").exists());
    hub.forget_faults();
    hub.requests();
    done(&hub, home.path(), &apply);
    assert!(files(home.path()) == expected);
    // What was finished is not fetched again.
    let first = "/cdn/model-00001-of-00004.safetensors";
    let again: usize = hub
        .requests()
        .iter()
        .filter(|request| request.path.contains(first))
        .filter_map(|request| request.range.clone())
        .map(|range| range.len())
        .sum();
    let size = fs::metadata(fixture().join("model-00001-of-00004.safetensors")).unwrap().len() as usize;
    assert!(again < size, "{again} of {size}");
}

#[test]
fn a_shard_that_is_not_what_was_published_is_refused() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    hub.spoil("model-00002-of-00004.safetensors");
    let said = refused(&hub, home.path(), &APPLY, 2);
    assert!(said.contains("model-00002-of-00004.safetensors") && said.contains("another SHA-256"), "{said}");
    assert!(!home.path().join("out").exists());
}

#[test]
fn a_signal_does_not_wait_for_a_side_file() {
    let expected = from_disk(super::RECIPE);
    for more in [&[][..], &["--sha256=all"]] {
        let (hub, home) = (HubServer::of(&fixture()), home());
        // Two minutes: the longest that a server may ask for.
        hub.fault("/tokenizer.json", Fault::Status(429, vec![("Retry-After", "120".to_owned())]));
        let run = hub.command(home.path()).args(APPLY).args(more).stderr(Stdio::piped()).spawn().unwrap();
        let asked = || hub.log().iter().filter(|request| request.path.contains("/tokenizer.json")).count();
        while asked() == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        // INT is ignored where these tests were started with `&`.
        assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
        let said = said(&run.wait_with_output().unwrap(), 143);
        assert!(said.contains("the same command resumes with"), "{said}");
        assert_eq!(asked(), 1);
        assert!(!home.path().join("out").exists());
        done(&hub, home.path(), &[&APPLY[..], more].concat());
        let made = files(home.path());
        assert!(expected.iter().all(|(name, bytes)| name.contains("manifest") || made[name] == *bytes));
    }
}

#[test]
fn a_proof_reads_the_source_once_more() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let output = hub.command(home.path()).args(APPLY).arg("--verify").arg("--json").output().unwrap();
    assert!(output.status.success());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["verification"]["verdict"], "proven", "{said}");
    assert!(!home.path().join(".cache").exists());
}

#[test]
fn a_file_of_no_bytes_is_asked_for_by_nobody() {
    let model = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture()).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), model.path().join(entry.file_name())).unwrap();
    }
    fs::write(model.path().join("merges.txt"), "").unwrap();
    for more in [&[][..], &["--download"]] {
        let (hub, home) = (HubServer::of(model.path()), home());
        done(&hub, home.path(), &[&APPLY[..], more].concat());
        assert_eq!(files(home.path())["merges.txt"], b"");
        assert!(!hub.requests().iter().any(|request| request.path.contains("merges.txt")), "{more:?}");
    }
}
