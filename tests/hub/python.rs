//! The hub's own client takes the hub of these tests for one, so that it speaks the protocol.

use std::fs;
use std::process::Command;

use super::fixture;
use crate::support::hub::{COMMIT, HubServer, ID};

/// Runs where `QWEN_FP8_HUB_PYTHON` names a Python that has `huggingface_hub`, as `.ci/run hub-clients` does.
#[test]
fn the_python_client_downloads_from_the_same_hub() {
    let Some(python) = std::env::var_os("QWEN_FP8_HUB_PYTHON") else { return };
    let home = tempfile::tempdir().unwrap();
    let hub = HubServer::with_token(&fixture(), Some("hf_secret"));
    // To the Python client another port of one host is the same host.
    hub.name_cdn("localhost");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hub/download.py");
    let mut command = Command::new(python);
    command.arg(script).args([ID, COMMIT]).arg(fixture());
    command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", home.path()).env("HF_TOKEN", "hf_secret");
    command.env("HF_HUB_DISABLE_XET", "1").env_remove("HF_HUB_OFFLINE");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = hub.requests();
    assert!(requests.iter().filter(|request| request.of_cdn).all(|request| request.authorization.is_none()));
    // What it put into its cache is found there, and nobody is asked.
    let mut inspect = hub.command(home.path());
    inspect.args(["inspect", ID]).env("HF_HOME", home.path());
    assert!(inspect.status().unwrap().success());
    assert!(hub.requests().is_empty());
    assert!(fs::read_dir(home.path().join("hub")).unwrap().count() > 0);
}
