//! What the hub may answer, and what becomes of it.

use std::time::Duration;

use super::{done, fixture, home, refused};
use crate::support::hub::{COMMIT, Fault, HubServer, ID};

/// Where the hub hands out a large file itself, and where its CDN does.
const SHARD: &str = "model-00002-of-00004.safetensors";

fn status(status: u16) -> Fault {
    Fault::Status(status, Vec::new())
}

fn coded(status: u16, code: &str) -> Fault {
    Fault::Status(status, vec![("X-Error-Code", code.to_owned())])
}

#[test]
fn what_passes_is_tried_again() {
    let home = home();
    let busy = || Fault::Status(429, vec![("Retry-After", "0".to_owned())]);
    // The moment of the answer itself, whatever the clock of this machine says.
    let moment = || "Wed, 21 Oct 2026 07:28:00 GMT".to_owned();
    let dated = || Fault::Status(503, vec![("Retry-After", moment()), ("Date", moment())]);
    let cdn = format!("/cdn/{SHARD}");
    for (path, faults) in [
        ("/api/models/", vec![status(503), busy(), status(500), Fault::Drop(50)]),
        ("config.json", vec![Fault::Drop(10), Fault::Drop(0), status(502), busy()]),
        ("/resolve/", vec![status(504), status(408), dated()]),
        // The address that the hub gave has expired.
        (&cdn, vec![status(403), status(404), Fault::Drop(9), busy(), Fault::Pause(Duration::from_millis(20))]),
    ] {
        let hub = HubServer::of(&fixture());
        let whole = done(&hub, home.path(), &["inspect", "--json", ID]);
        faults.iter().for_each(|fault| hub.fault(path, fault.clone()));
        assert_eq!(done(&hub, home.path(), &["inspect", "--json", ID]), whole, "{path}: {faults:?}");
        assert!(!hub.has_faults(), "{path}");
    }
}

#[test]
fn a_connection_goes_on_where_it_was_lost() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    hub.fault("/config.json", Fault::Drop(100));
    done(&hub, home.path(), &["inspect", ID]);
    let requests = hub.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.path.ends_with("/config.json"))
        .map(|request| request.range.clone())
        .collect();
    let size = std::fs::metadata(fixture().join("config.json")).unwrap().len() as usize;
    assert_eq!(ranges, [None, Some(100..size)]);
}

#[test]
fn a_server_that_stalls_is_asked_again() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    hub.fault(&format!("/cdn/{SHARD}"), Fault::Pause(Duration::from_secs(3)));
    let output = hub.command(home.path()).args(["inspect", ID]).env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output().unwrap();
    super::said(&output, 0);
    let asked = hub.requests().iter().filter(|request| request.path.contains(&format!("/cdn/{SHARD}"))).count();
    assert_eq!(asked, 2);
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (hub, home) = (HubServer::with_token(&fixture(), Some("hf_secret")), home());
    done(&hub, home.path(), &["inspect", ID]);
    let requests = hub.requests();
    let (cdn, own): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.of_cdn);
    assert!(own.len() >= 4 && own.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    assert!(cdn.len() >= 4 && cdn.iter().all(|request| request.authorization.is_none()));
    // The same token in each place where huggingface_hub looks.
    let without = || {
        let mut command = hub.command(home.path());
        command.args(["inspect", ID]).env_remove("HF_TOKEN");
        command
    };
    let said = super::said(&without().output().unwrap(), 1);
    assert!(said.contains("can be read without a token") && said.contains("HF_TOKEN"), "{said}");
    std::fs::write(home.path().join("token"), "hf_secret\n").unwrap();
    for (variable, value) in [
        ("HUGGING_FACE_HUB_TOKEN", "hf_secret".into()),
        ("HF_TOKEN_PATH", home.path().join("token")),
        ("HF_HOME", home.path().to_path_buf()),
    ] {
        super::said(&without().env(variable, value).output().unwrap(), 0);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let home = home();
    let cdn = format!("/cdn/{SHARD}");
    let renamed = Fault::Status(307, vec![("Location", "/api/models/org/other/revision/main".to_owned())]);
    let elsewhere = |to: &str| Fault::Status(302, vec![("Location", to.to_owned())]);
    let later = Fault::Status(429, vec![("Retry-After", "3600".to_owned())]);
    for (path, fault, code, words) in [
        ("/api/", coded(401, "RepoNotFound"), 1, &["is no model of", "without a token", "hf auth login"][..]),
        ("/api/", status(404), 1, &["is no model of"]),
        ("/api/", renamed, 1, &["`org/tiny` was renamed to `org/other`", "write `org/other` for it"]),
        ("/api/", later.clone(), 2, &["too often", "a pause of 3600 s", "hf auth login"]),
        ("/api/", Fault::Status(418, Vec::new()), 2, &["status 418"]),
        ("/api/", elsewhere("ftp://127.0.0.1/"), 2, &["ftp://127.0.0.1/", "which is not followed"]),
        (
            "config.json",
            coded(403, "GatedRepo"),
            1,
            &["`org/tiny` is gated", "accept the conditions at http://127.0.0.1"],
        ),
        ("config.json", status(403), 1, &["/config.json` may not be read without a token"]),
        ("config.json", coded(404, "EntryNotFound"), 1, &["/config.json` is not there"]),
        ("config.json", Fault::OtherCommit, 1, &["the commit is", COMMIT, "ffffff", "changed meanwhile"]),
        ("config.json", Fault::Longer, 1, &["/config.json` has", "were listed"]),
        (&cdn, Fault::Pointer, 1, &[SHARD, "is a git-lfs pointer"]),
        (&cdn, Fault::Longer, 1, &[SHARD, "were listed"]),
        (&cdn, Fault::Whole, 1, &[SHARD, "the whole file", "parts of files"]),
        (&cdn, Fault::OtherRange, 1, &[SHARD, "sent another: `bytes 1-"]),
        (&cdn, later, 1, &["a pause of 3600 s"]),
    ] {
        let hub = HubServer::of(&fixture());
        hub.fault(path, fault.clone());
        let said = refused(&hub, home.path(), &["inspect", ID], code);
        for word in words {
            assert!(said.contains(word), "{path} {fault:?}: {word}: {said}");
        }
        assert!(!said.contains("signature"), "{said}");
        assert!(!hub.has_faults());
    }
    let hub = HubServer::of(&fixture());
    let said = refused(&hub, home.path(), &["inspect", &format!("{ID}@v9")], 1);
    assert!(said.contains("is on the hub, but not its revision `v9`"), "{said}");
    let said = refused(&hub, home.path(), &["inspect", "org/none"], 1);
    assert!(said.contains("`org/none` is no model of"), "{said}");
    let output = hub.command(home.path()).args(["inspect", ID]).env("HF_ENDPOINT", "127.0.0.1:1").output().unwrap();
    assert!(super::said(&output, 1).contains("`HF_ENDPOINT` is `127.0.0.1:1`"));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let (hub, home) = (HubServer::of(&fixture()), home());
    let said = |variable: &str, value: &str, code| {
        super::said(&hub.command(home.path()).args(["inspect", ID]).env(variable, value).output().unwrap(), code)
    };
    let proxied = said("ALL_PROXY", "http://user:secret@127.0.0.1:1", 2);
    assert!(proxied.contains("by way of the proxy `127.0.0.1:1`: ") && proxied.contains("`NO_PROXY`"), "{proxied}");
    assert!(!proxied.contains("secret"), "{proxied}");
    let socks = said("ALL_PROXY", "socks5://127.0.0.1:1", 2);
    assert!(socks.contains("by way of the proxy `127.0.0.1:1`: it speaks SOCKS"), "{socks}");
    let offline = said("HF_HUB_OFFLINE", "1", 1);
    assert!(offline.contains("`HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` is set"), "{offline}");
    assert!(hub.requests().is_empty());
    // A server that takes the connection and says nothing; no variable is to be blamed.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let mut inspect = hub.command(home.path());
    inspect.args(["inspect", ID]).env("HF_ENDPOINT", address).env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let stalled = super::said(&inspect.output().unwrap(), 2);
    assert!(stalled.contains("cannot be reached: no answer came in time"), "{stalled}");
}
