//! `--download` puts a model into the cache, where this program and the Python library find it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{APPLY, done, files, fixture, home, home_with_snapshot, refused};
use crate::support::hub::{COMMIT, Fault, HubServer, ID, git_blob, sha256, xet_hash};

const SHARD: &str = "model-00002-of-00004.safetensors";

fn repository(home: &Path) -> PathBuf {
    home.join(".cache/huggingface/hub/models--org--tiny")
}

fn snapshot(home: &Path) -> PathBuf {
    repository(home).join("snapshots").join(COMMIT)
}

fn download() -> Vec<&'static str> {
    [&APPLY[..], &["--download"]].concat()
}

/// Compares a snapshot with the files of the model.
fn assert_whole(home: &Path) {
    let mut names: Vec<_> =
        fs::read_dir(fixture()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    for name in &names {
        assert!(fs::read(snapshot(home).join(name)).unwrap() == fs::read(fixture().join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read_to_string(repository(home).join("refs/main")).unwrap(), COMMIT);
    let incomplete = fs::read_dir(repository(home).join("blobs")).unwrap();
    assert_eq!(incomplete.count(), names.len());
}

/// The bytes of a file that were asked for, and in how many requests.
fn asked_for(hub: &HubServer, name: &str) -> Vec<Option<std::ops::Range<usize>>> {
    let requests = hub.requests().into_iter().filter(|request| request.path.contains(&format!("/cdn/{name}")));
    requests.map(|request| request.range).collect()
}

#[test]
fn a_model_is_in_the_cache_and_the_output_is_that_of_a_stream() {
    let (hub, home, streamed) = (HubServer::of(&fixture()), home(), super::home());
    done(&hub, streamed.path(), &APPLY);
    done(&hub, home.path(), &download());
    assert!(files(home.path()) == files(streamed.path()));
    assert_whole(home.path());
    let link = |name: &str| fs::read_link(snapshot(home.path()).join(name)).unwrap();
    let content = |name: &str| fs::read(fixture().join(name)).unwrap();
    assert_eq!(link(SHARD), Path::new("../../blobs").join(sha256(&content(SHARD))));
    assert_eq!(link("config.json"), Path::new("../../blobs").join(git_blob(&content("config.json"))));
    // It is there now, and nobody is asked.
    hub.requests();
    fs::remove_dir_all(home.path().join("out")).unwrap();
    done(&hub, home.path(), &download());
    assert!(hub.requests().is_empty());
}

#[test]
fn an_interrupted_download_goes_on() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let cdn = format!("/cdn/{SHARD}");
    // The header passes, for the look before the download; then half of the file, and nothing for a long time.
    let later = Fault::Status(429, vec![("Retry-After", "3600".to_owned())]);
    hub.fault(&cdn, Fault::Pause(Duration::ZERO));
    hub.fault(&cdn, Fault::Drop(9_000));
    (0..20).for_each(|_| hub.fault(&cdn, later.clone()));
    let said = refused(&hub, home.path(), &download(), 2);
    assert!(said.contains("too often") && said.contains(SHARD), "{said}");
    // What is there is no model yet.
    assert!(!snapshot(home.path()).exists() && !home.path().join("out").exists());
    let shard = fs::read(fixture().join(SHARD)).unwrap();
    let incomplete = repository(home.path()).join("blobs").join(format!("{}.incomplete", sha256(&shard)));
    assert!(fs::read(&incomplete).unwrap() == shard[..9_000]);
    hub.forget_faults();
    hub.requests();
    done(&hub, home.path(), &download());
    assert_eq!(asked_for(&hub, SHARD).last(), Some(&Some(9_000..shard.len())));
    assert_whole(home.path());
}

#[test]
fn what_is_left_of_something_else_is_fetched_again() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let shard = fs::read(fixture().join(SHARD)).unwrap();
    let blobs = repository(home.path()).join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&shard))), [7; 5_000]).unwrap();
    done(&hub, home.path(), &download());
    assert_whole(home.path());
}

#[test]
fn content_that_is_not_what_is_listed_is_refused_and_removed() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    hub.spoil(SHARD);
    let said = refused(&hub, home.path(), &download(), 2);
    assert!(said.contains(SHARD) && said.contains("is not what is listed: its hash is"), "{said}");
    assert!(!snapshot(home.path()).exists());
    let left = fs::read_dir(repository(home.path()).join("blobs")).unwrap().map(|entry| entry.unwrap().file_name());
    let sum = sha256(&fs::read(fixture().join(SHARD)).unwrap());
    assert!(left.into_iter().all(|name| !name.to_str().unwrap().starts_with(&sum)));
}

#[test]
fn a_snapshot_without_all_of_its_shards_is_completed() {
    let (hub, home) = (HubServer::of(&fixture()), home_with_snapshot());
    fs::remove_file(snapshot(home.path()).join(SHARD)).unwrap();
    done(&hub, home.path(), &download());
    assert!(fs::read(snapshot(home.path()).join(SHARD)).unwrap() == fs::read(fixture().join(SHARD)).unwrap());
}

/// A cache in which another model has brought the content of a shard, as version 2 of the Python library lays it out.
fn with_shared_shard(home: &Path) -> PathBuf {
    let shard = fs::read(fixture().join(SHARD)).unwrap();
    let (cache, hash) = (home.join(".cache/huggingface/hub"), xet_hash(&shard));
    let store = cache.join("blobs").join(&hash[..2]);
    fs::create_dir_all(&store).unwrap();
    fs::write(cache.join("blobs/.huggingface-shared-blobs"), "1\n").unwrap();
    fs::write(store.join(&hash), &shard).unwrap();
    let other = cache.join("models--org--other/blobs");
    fs::create_dir_all(&other).unwrap();
    symlink(format!("../../blobs/{}/{hash}", &hash[..2]), other.join(sha256(&shard))).unwrap();
    let snapshot = cache.join("models--org--other/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    symlink(format!("../../blobs/{}", sha256(&shard)), snapshot.join(SHARD)).unwrap();
    fs::write(store.join(format!("{hash}.refs")), format!("models--org--other/blobs/{}\n", sha256(&shard))).unwrap();
    store.join(hash)
}

#[test]
fn content_that_another_model_has_brought_is_shared() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let shared = with_shared_shard(home.path());
    let sum = sha256(&fs::read(&shared).unwrap());
    done(&hub, home.path(), &download());
    assert_whole(home.path());
    assert!(asked_for(&hub, SHARD).len() <= 1, "its header alone");
    let blob = repository(home.path()).join("blobs").join(&sum);
    assert_eq!(fs::canonicalize(&blob).unwrap(), fs::canonicalize(&shared).unwrap());
    assert!(fs::read_link(&blob).unwrap().is_relative());
    let refs = fs::read_to_string(shared.with_extension("refs")).unwrap();
    assert_eq!(refs, format!("models--org--other/blobs/{sum}\nmodels--org--tiny/blobs/{sum}\n"));
    // Not where somebody has switched that off, nor where the size is another.
    for (variable, content) in [("HF_HUB_DISABLE_SHARED_BLOBS", None), ("QWEN_FP8_NONE", Some("x"))] {
        let home = super::home();
        let shared = with_shared_shard(home.path());
        content.into_iter().for_each(|content| fs::write(&shared, content).unwrap());
        let output = hub.command(home.path()).args(download()).env(variable, "1").output().unwrap();
        super::said(&output, 0);
        assert_whole(home.path());
        assert!(!repository(home.path()).join("blobs").join(&sum).is_symlink());
    }
}

#[test]
fn a_directory_needs_no_download_and_a_store_has_none() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let model = fixture();
    let apply = ["apply", "recipe.yaml", "-q", "-o", "out", "--download", "-m"];
    done(&hub, home.path(), &[&apply[..], &[model.to_str().unwrap()]].concat());
    let said = refused(&hub, home.path(), &[&apply[..], &["s3://bucket/model"]].concat(), 1);
    assert!(said.contains("`--download` is for models of the hub, and `s3://bucket/model` is none"), "{said}");
    assert!(hub.requests().is_empty());
}

/// Runs where `QWEN_FP8_HUB_PYTHON` names a Python that has `huggingface_hub`, as `.ci/run hub-clients` does.
#[test]
fn the_python_client_finds_what_was_downloaded() {
    let Some(python) = std::env::var_os("QWEN_FP8_HUB_PYTHON") else { return };
    for shares in [false, true] {
        let (hub, home) = (HubServer::of(&fixture()), home());
        if shares {
            with_shared_shard(home.path());
        }
        done(&hub, home.path(), &download());
        hub.requests();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hub/offline.py");
        let mut command = Command::new(&python);
        command.args([script, ID, COMMIT]).arg(fixture());
        command.env("HF_ENDPOINT", &hub.address).env("HF_HUB_OFFLINE", "1");
        let output = command.env("HF_HUB_CACHE", home.path().join(".cache/huggingface/hub")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(hub.requests().is_empty());
    }
}
