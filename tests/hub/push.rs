//! `--push`: a result becomes a model on the hub with one commit, whatever happens on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{files, fixture, home, refused};
use crate::support::hub::{Fault, HubServer, ID, Request};

const TO: &str = "org/result";
const TOKEN: &str = "hf_secret";

/// Shards that the hub wants to have by their content.
const SMALL_SHARDS: &str = "max_shard_size: 300KB\n";

const PUSH: [&str; 6] = ["apply", "recipe.yaml", "-m", ID, "--push", TO];

fn hub() -> HubServer {
    HubServer::with_token(&fixture(), Some(TOKEN))
}

fn home_for_push() -> tempfile::TempDir {
    let home = home();
    fs::write(home.path().join("recipe.yaml"), format!("{}{SMALL_SHARDS}", super::RECIPE)).unwrap();
    home
}

/// The files of the same run into a directory.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let (hub, home) = (hub(), home_for_push());
    super::done(&hub, home.path(), &super::APPLY);
    files(home.path())
}

/// Runs the program, which must succeed, and returns what it said.
fn done(hub: &HubServer, home: &Path, arguments: &[&str]) -> String {
    super::said(&hub.command(home).args(arguments).output().unwrap(), 0)
}

/// Holds what is shown against the files of the same run into a directory, and looks for what is left on this machine.
fn assert_pushed(hub: &HubServer, home: &Path, expected: &BTreeMap<String, Vec<u8>>) {
    let mut shown = hub.shown(TO).unwrap();
    assert!(shown.files.remove(".gitattributes").is_some());
    assert_eq!(shown.files.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(shown.files == *expected);
    assert_eq!(shown.commits, [concat!("Quantized by qwen-fp8 ", env!("CARGO_PKG_VERSION"))]);
    assert_nothing_left(home);
}

fn assert_nothing_left(home: &Path) {
    let left = fs::read_dir(home.join(".cache/qwen-fp8/push")).into_iter().flatten();
    assert_eq!(left.count(), 0);
}

fn is_write(request: &&Request) -> bool {
    request.method == "PUT" || request.method == "POST"
}

#[test]
fn a_result_is_uploaded_while_it_is_computed_and_shown_by_one_commit() {
    let expected = expected();
    for part in [None, Some(70_000)] {
        let (hub, home) = (hub(), home_for_push());
        part.into_iter().for_each(|bytes| hub.ask_for_parts(bytes));
        let said = done(&hub, home.path(), &PUSH);
        assert!(said.contains(&format!("{}/{TO}: ", hub.address)), "{said}");
        assert_pushed(&hub, home.path(), &expected);
        let requests = hub.requests();
        let storage: Vec<_> = requests.iter().filter(|request| request.method == "PUT").collect();
        assert!(storage.len() > 2 && storage.iter().all(|request| request.of_cdn && request.authorization.is_none()));
        // The token goes to the hub, and the commit comes last.
        let own: Vec<_> = requests.iter().filter(|request| !request.of_cdn).collect();
        assert!(own.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
        let writes: Vec<_> = requests.iter().filter(is_write).map(|request| request.path.as_str()).collect();
        assert_eq!(writes.first(), Some(&"/api/repos/create"));
        assert_eq!(writes.last(), Some(&"/api/models/org/result/commit/main"));
        assert_eq!(writes.iter().filter(|path| path.contains("/commit/")).count(), 1);
    }
}

#[test]
fn a_directory_is_pushed_when_it_is_there() {
    let (hub, home) = (hub(), home_for_push());
    let said = done(&hub, home.path(), &[&PUSH[..], &["-o", "out", "--download", "--verify", "--private"]].concat());
    assert!(said.contains("pushed: ") && said.contains("/org/result/commit/"), "{said}");
    assert_pushed(&hub, home.path(), &files(home.path()));
    assert!(hub.shown(TO).unwrap().is_private);
}

#[test]
fn faults_on_the_way_change_no_byte_and_show_nothing_early() {
    let expected = expected();
    let (hub, home) = (hub(), home_for_push());
    let busy = || Fault::Status(429, vec![("Retry-After", "0".to_owned())]);
    for (path, faults) in [
        ("/api/repos/create", vec![Fault::Status(503, Vec::new()), Fault::Drop(0)]),
        ("/preupload/", vec![busy(), Fault::Status(500, Vec::new())]),
        ("/objects/batch", vec![Fault::Drop(9)]),
        // An address of the storage that has expired, and an answer that is lost.
        ("/0?", vec![Fault::Status(403, Vec::new()), Fault::Drop(0)]),
        ("/verify/", vec![Fault::Status(502, Vec::new())]),
        // The commit comes about, and its answer is lost.
        ("/commit/", vec![Fault::Status(503, Vec::new()), Fault::Drop(0)]),
    ] {
        faults.into_iter().for_each(|fault| hub.fault(path, fault));
    }
    done(&hub, home.path(), &PUSH);
    assert!(!hub.has_faults());
    assert_pushed(&hub, home.path(), &expected);
}

#[test]
fn an_interrupted_push_goes_on_with_what_the_hub_has() {
    let expected = expected();
    // The hub keeps what it has, or it has lost it meanwhile.
    for is_lost in [false, true] {
        let (hub, home) = (hub(), home_for_push());
        // Of the shards, one can be sent; then the storage is full.
        let full = Fault::Status(403, vec![("X-Error-Message", "storage quota exceeded".to_owned())]);
        hub.fault("/objects/batch", Fault::Status(503, Vec::new()));
        let apply = [&PUSH[..], &["--threads", "1"]].concat();
        hub.fault("/commit/", full);
        let said = refused(&hub, home.path(), &apply, 2);
        assert!(said.contains("status 403: its server says `storage quota exceeded`"), "{said}");
        assert!(said.contains("the same command resumes with"), "{said}");
        let shown = hub.shown(TO).unwrap();
        assert!(shown.commits.is_empty() && shown.files.len() == 1, "{:?}", shown.files.keys());
        if is_lost {
            hub.forget_uploads();
        }
        hub.requests();
        done(&hub, home.path(), &apply);
        assert_pushed(&hub, home.path(), &expected);
        let sent = hub.requests().iter().filter(|request| request.method == "PUT").count();
        assert_eq!(sent > 0, is_lost, "{sent}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let said = |hub: &HubServer, arguments: &[&str], code| {
        let home = home_for_push();
        let said = refused(hub, home.path(), arguments, code);
        assert_nothing_left(home.path());
        said
    };
    let hub_with = |path: &str, fault: Fault| {
        let hub = hub();
        hub.fault(path, fault);
        hub
    };
    let public = HubServer::of(&fixture());
    assert!(said(&public, &PUSH, 1).contains("nothing can be pushed to `org/result` without a token"));
    for (path, status, code, words) in [
        ("/api/repos/create", 401, 1, "may not be written with this token"),
        ("/api/repos/create", 403, 1, "may not be written with this token"),
        ("/api/repos/create", 402, 2, "was answered with status 402"),
        ("/preupload/", 404, 2, "may not be written"),
    ] {
        let hub = hub_with(path, Fault::Status(status, Vec::new()));
        // The shards of other threads are refused too: one that was taken would stay for the next run.
        (0..20).for_each(|_| hub.fault(path, Fault::Status(status, Vec::new())));
        let said = said(&hub, &PUSH, code);
        assert!(said.contains(words), "{path} {status}: {said}");
        assert!(hub.shown(TO).is_none_or(|model| model.commits.is_empty()));
    }
    let later = Fault::Status(429, vec![("Retry-After", "3600".to_owned())]);
    assert!(said(&hub_with("/repos/create", later), &PUSH, 2).contains("a pause of 3600 s"));
    let at_odds = hub();
    at_odds.ask_for_parts(1 << 14);
    at_odds.number_parts_from_zero();
    assert!(said(&at_odds, &PUSH, 2).contains("it asks for other parts than the file has"));
    let occupied = hub();
    occupied.change(TO, |model| {
        model.commit = "b".repeat(40);
        model.files.insert("config.json".to_owned(), b"{}".to_vec());
    });
    let text = said(&occupied, &PUSH, 1);
    assert!(text.contains("/org/result` already: `config.json`") && text.contains("push to another name"), "{text}");
    for (more, words) in [
        (
            &["--download", "--verify"][..],
            "`--verify` and `--report` read the whole output once more, which an output elsewhere",
        ),
        (&["--sha256"], "`--sha256` reads the whole output once more"),
        (&["-o", "s3://bucket/out"], "`--push` takes the files from a directory, or from the run itself"),
    ] {
        let hub = hub();
        let text = said(&hub, &[&PUSH[..], more].concat(), 1);
        assert!(text.contains(words), "{text}");
        assert!(hub.shown(TO).is_none());
    }
    let text = said(&hub(), &[&PUSH[..4], &["--push", "result"]].concat(), 1);
    assert!(text.contains("`result` is no model id to push to") && text.contains("`org/name`"), "{text}");
}

#[test]
fn somebody_else_who_pushes_meanwhile_is_not_written_over() {
    let (hub, home) = (hub(), home_for_push());
    // Seen at the beginning, and moved before the commit: the hub refuses that by the commit that it is to follow.
    hub.fault("/commit/", Fault::Status(412, Vec::new()));
    let said = refused(&hub, home.path(), &PUSH, 2);
    assert!(said.contains("somebody else has pushed to") && said.contains("/org/result`"), "{said}");
    assert!(hub.shown(TO).unwrap().commits.is_empty());
}

/// Runs where `QWEN_FP8_HUB_PYTHON` names a Python that has `huggingface_hub`, as `.ci/run hub-clients` does.
#[test]
fn the_python_client_uploads_to_the_same_hub_and_finds_what_was_pushed() {
    let Some(python) = std::env::var_os("QWEN_FP8_HUB_PYTHON") else { return };
    let expected = home_for_push();
    for part in [None, Some(70_000)] {
        let (hub, home) = (hub(), home_for_push());
        hub.name_cdn("localhost");
        part.into_iter().for_each(|bytes| hub.ask_for_parts(bytes));
        done(&hub, home.path(), &PUSH);
        super::done(&hub, expected.path(), &[&super::APPLY[..], &["--restart"]].concat());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hub/upload.py");
        let mut command = Command::new(&python);
        command.args([script, TO, "org/by-python"]).arg(expected.path().join("out"));
        command.env("HF_ENDPOINT", &hub.address).env("HF_HOME", home.path()).env("HF_TOKEN", TOKEN);
        let output = command.env("HF_HUB_DISABLE_XET", "1").env_remove("HF_HUB_OFFLINE").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Both have told the hub the same.
        assert!(hub.shown("org/by-python").unwrap().files == hub.shown(TO).unwrap().files);
        fs::remove_dir_all(expected.path().join("out")).unwrap();
    }
}
