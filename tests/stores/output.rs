//! What lies under the output's address: nothing loads before it is whole, and nothing of somebody else is written over.

use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use super::proxy::Mistake;
use super::{OTHER_RECIPE, RECIPE, Scene, done, refused};

const PART: &str = "out/model-00003-of-00004.safetensors?";

/// Starts a run that stands still at a part of the third shard, when the first two are objects, until what is returned with it
/// is dropped.
pub(super) fn run_that_waits(scene: &Scene) -> (Child, Sender<()>) {
    let (gate, opened) = mpsc::channel();
    scene.proxy.once(
        "PUT",
        PART,
        Mistake::First(Box::new(move || {
            // An error is that it was dropped.
            let _ = opened.recv();
        })),
    );
    let run = scene.apply().stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| {
        let made = scene.made();
        made.contains_key("model-00001-of-00004.safetensors")
            && made.contains_key("model-00002-of-00004.safetensors")
            && String::from_utf8_lossy(&made["qwen-fp8-journal"]).matches("\"shard\":{").count() >= 2
            && scene.proxy.seen().iter().any(|seen| seen.method == "PUT" && seen.target.contains(PART))
    });
    (run, gate)
}

/// Waits, for a minute at most.
fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come to that within a minute");
}

#[test]
fn a_run_that_was_killed_goes_on() {
    for scene in Scene::s3_and_google(RECIPE) {
        let (mut run, _gate) = run_that_waits(&scene);
        run.kill().unwrap();
        run.wait().unwrap();
        assert!(!scene.made().contains_key("config.json"));
        assert!(scene.server.uploads(&scene.bucket) > 0, "{:?}", scene.proxy.seen());
        // Requests to give up what was under way: the library makes each once.
        scene.proxy.once("DELETE", "uploadId", Mistake::LoseRequest);
        scene.proxy.once("DELETE", "uploadId", Mistake::LoseAnswer);
        let before = scene.proxy.seen().len();
        done(&mut scene.apply());
        assert!(scene.proxy.is_through());
        let again = scene.proxy.seen().split_off(before);
        assert!(!again.iter().any(|seen| seen.method == "PUT" && seen.target.contains("out/model-00001-of")));
        scene.remove_directory_of_killed();
        scene.check_made();
    }
}

#[test]
fn a_server_that_lists_neither_tags_nor_uploads_will_do() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let unknown = || Mistake::Answer(501, "", "<Error><Code>NotImplemented</Code></Error>");
    scene.proxy.plan("GET", "?uploads", 0, usize::MAX, unknown);
    scene.proxy.plan("GET", "list-type", 0, usize::MAX, || Mistake::WithoutTags);
    let denied = || Mistake::Answer(403, "", "<Error><Code>AccessDenied</Code></Error>");
    scene.proxy.plan("PUT", "out/config.json", 0, 1, denied);
    refused(&mut scene.apply(), 2);
    let before = scene.proxy.seen().len();
    done(&mut scene.apply());
    let again = scene.proxy.seen().split_off(before);
    assert!(!again.iter().any(|seen| seen.target.contains("uploadId")), "{again:?}");
    scene.check_made();
}

#[test]
fn an_interrupted_run_leaves_no_upload() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let (run, gate) = run_that_waits(&scene);
    let interrupt = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    // What is on its way comes to its end.
    thread::sleep(Duration::from_millis(300));
    drop(gate);
    let said = super::said(&run.wait_with_output().unwrap(), 143);
    assert!(said.contains("nothing that can be loaded is under the output's address"), "{said}");
    assert_eq!(scene.server.uploads(&scene.bucket), 0);
    assert!(!scene.made().contains_key("config.json"));
    done(&mut scene.apply());
    scene.check_made();
}

#[test]
fn a_signal_does_not_wait_for_a_side_file() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let (gate, opened) = mpsc::channel::<()>();
    let hold = move || {
        // An error is that it was dropped.
        let _ = opened.recv();
    };
    scene.proxy.once("GET", "tiny-qwen3-vl/tokenizer.json", Mistake::First(Box::new(hold)));
    let run = scene.apply().stderr(Stdio::piped()).spawn().unwrap();
    wait_until(|| scene.proxy.seen().iter().any(|seen| seen.target.contains("tiny-qwen3-vl/tokenizer.json")));
    let interrupt = std::process::Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    // The answer has not come yet.
    let said = super::said(&run.wait_with_output().unwrap(), 143);
    assert!(said.contains("the same command goes on") || said.contains("resumes with"), "{said}");
    assert!(!scene.made().contains_key("config.json"));
    drop(gate);
    done(&mut scene.apply());
    scene.check_made();
}

#[test]
fn another_job_is_refused_and_may_be_discarded() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let (mut run, _gate) = run_that_waits(&scene);
    run.kill().unwrap();
    run.wait().unwrap();
    let before = scene.made();
    std::fs::write(scene.home.path().join("recipe.yaml"), OTHER_RECIPE).unwrap();
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("work of an interrupted run of another job") && said.contains("the recipe"), "{said}");
    assert!(scene.made() == before);
    done(scene.apply().arg("--restart"));
    scene.remove_directory_of_killed();
    scene.check_made();
}

#[test]
fn what_lies_there_stays() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    scene.server.put(&scene.bucket, "made/out/config.json", b"{}");
    let before = scene.made();
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("exists already: `config.json` lies there"), "{said}");
    assert!(scene.made() == before);
    // The beginning of a name is no folder.
    scene.server.remove(&scene.bucket, "made/out/config.json");
    scene.server.put(&scene.bucket, "made/out-2/config.json", b"{}");
    done(&mut scene.apply());
    scene.check_made();
    // Once more: it is there.
    refused(&mut scene.apply(), 2);
    scene.check_made();
}

#[test]
fn what_comes_there_meanwhile_is_not_written_over() {
    let names = ["model-00003-of-00004.safetensors", "config.json"];
    for (name, scene) in names.into_iter().flat_map(|name| Scene::s3_and_google(RECIPE).map(move |scene| (name, scene)))
    {
        let (server, bucket) = (scene.server, scene.bucket.clone());
        let key = format!("made/out/{name}");
        let put_by_other = move || {
            let (bucket, key) = (bucket.clone(), key.clone());
            Mistake::First(Box::new(move || server.put(&bucket, &key, b"of somebody else")))
        };
        // While the third shard is on its way.
        scene.proxy.plan("PUT", PART, 0, 1, put_by_other);
        let said = refused(&mut scene.apply(), 2);
        assert!(said.contains("another run writes to"), "{said}");
        assert_eq!(scene.server.uploads(&scene.bucket), 0);
        assert!(scene.made().get("config.json").is_none_or(|config| config == b"of somebody else"));
    }
}

#[test]
fn a_store_without_conditions_is_refused() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    scene.proxy.plan("PUT", "", 0, usize::MAX, || Mistake::Unconditional);
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("lets one run write over what another has written"), "{said}");
    assert!(scene.made().is_empty());
}
