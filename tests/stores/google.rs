//! Buckets of Google's, by a server that translates what differs from S3: a run from one to another is that of a disk, and nothing
//! of somebody else is written over.

use std::fs;
use std::process::Stdio;

use super::output::run_that_waits;
use super::proxy::Mistake;
use super::{OTHER_RECIPE, RECIPE, Scene, done, fixture, refused, said};

#[test]
fn from_google_to_google_the_output_is_that_of_a_disk() {
    for recipe in [RECIPE, OTHER_RECIPE] {
        let Some(scene) = Scene::google(recipe) else { return };
        done(scene.command().args(["plan", "recipe.yaml", "-m", &scene.source()]));
        done(&mut scene.apply());
        scene.check_made();
        let puts = scene.proxy.seen();
        let puts = puts.iter().filter(|seen| seen.method == "PUT" && !seen.target.contains("journal"));
        let names: Vec<_> = puts.map(|seen| seen.target.rsplit('/').next().unwrap()).collect();
        assert_eq!(names[names.len() - 2..], ["model.safetensors.index.json", "config.json"]);
        let verify = ["verify", &scene.output(), "--manifest", "--source"];
        let proven = done(scene.command().args(verify).arg(fixture()));
        assert!(proven.contains("proven against"), "{proven}");
        done(scene.command().args(["verify", "expected", "--source", &scene.source()]));
    }
}

#[test]
fn on_google_answers_that_are_lost_change_nothing() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    for (method, part) in [
        ("PUT", "out/model-00001-of-00004.safetensors?"),
        ("POST", "out/model-00002-of-00004.safetensors?uploadId"),
        ("PUT", "out/qwen-fp8-journal"),
        ("PUT", "out/tokenizer.json"),
        ("PUT", "out/model.safetensors.index.json"),
        ("PUT", "out/config.json"),
    ] {
        scene.proxy.once(method, part, Mistake::LoseRequest);
        scene.proxy.once(method, part, Mistake::Answer(503, "", "<Error><Code>ServiceUnavailable</Code></Error>"));
        scene.proxy.once(method, part, Mistake::LoseAnswer);
    }
    // Not the answer to this: an upload of which nobody knows would stay under way.
    scene.proxy.once("POST", "out/model-00003-of-00004.safetensors?uploads", Mistake::LoseRequest);
    // Google takes one change of an object a second, and says so.
    let too_many = || Mistake::Answer(429, "", "<Error><Code>SlowDown</Code></Error>");
    scene.proxy.plan("PUT", "out/qwen-fp8-journal", 4, 3, too_many);
    scene.proxy.once("GET", "tiny-qwen3-vl/model-00001-of-00004.safetensors", Mistake::Short(3_000));
    done(&mut scene.apply());
    assert!(scene.proxy.is_through());
    scene.check_made();
}

#[test]
fn on_google_what_comes_there_meanwhile_is_not_written_over() {
    for name in ["model-00003-of-00004.safetensors", "config.json"] {
        let Some(scene) = Scene::google(RECIPE) else { return };
        let (server, bucket) = (scene.server, scene.bucket.clone());
        let put = move || server.put(&bucket, &format!("made/out/{name}"), b"of somebody else");
        // While a part of the third shard is on its way.
        scene.proxy.once("PUT", "out/model-00003-of-00004.safetensors?", Mistake::First(Box::new(put)));
        let said = refused(&mut scene.apply(), 2);
        assert!(said.contains("another run writes to"), "{said}");
        assert_eq!(scene.server.uploads(&scene.bucket), 0);
        assert!(scene.made().get("config.json").is_none_or(|config| config == b"of somebody else"));
    }
}

#[test]
fn on_google_a_run_that_was_killed_goes_on() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let (mut run, _gate) = run_that_waits(&scene);
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!scene.made().contains_key("config.json"));
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

#[test]
fn on_google_a_run_goes_on_over_the_files_that_it_had_put() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let denied = || Mistake::Answer(403, "", "<Error><Code>AccessDenied</Code></Error>");
    scene.proxy.plan("PUT", "out/config.json", 0, 1, denied);
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("the same command resumes with"), "{said}");
    assert!(scene.made().contains_key("tokenizer.json"));
    done(&mut scene.apply());
    scene.check_made();
    // Not over what another one has put in their place.
    let Some(scene) = Scene::google(RECIPE) else { return };
    scene.proxy.plan("PUT", "out/config.json", 0, 1, denied);
    refused(&mut scene.apply(), 2);
    let (server, bucket) = (scene.server, scene.bucket.clone());
    let put = move || server.put(&bucket, "made/out/tokenizer.json", b"of somebody else");
    scene.proxy.once("PUT", "out/README.md", Mistake::First(Box::new(put)));
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("another run writes to"), "{said}");
    assert_eq!(scene.made()["tokenizer.json"], b"of somebody else");
}

#[test]
fn on_google_two_runs_do_not_mix() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let (first, gate) = run_that_waits(&scene);
    // Another job is refused, and the same one takes over.
    fs::write(scene.home.path().join("recipe.yaml"), OTHER_RECIPE).unwrap();
    let other = refused(&mut scene.apply(), 2);
    assert!(other.contains("work of an interrupted run of another job"), "{other}");
    fs::write(scene.home.path().join("recipe.yaml"), RECIPE).unwrap();
    done(&mut scene.apply());
    drop(gate);
    let said = said(&first.wait_with_output().unwrap(), 2);
    assert!(said.contains("another run writes to"), "{said}");
    scene.check_made();
}

#[test]
fn on_google_runs_that_begin_together_do_not_mix() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let runs: Vec<_> = (0..3).map(|_| scene.apply().stderr(Stdio::piped()).spawn().unwrap()).collect();
    let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    if !outputs.iter().any(|output| output.status.success()) {
        assert!(!scene.made().contains_key("config.json"));
        done(&mut scene.apply());
    }
    scene.check_made();
}

#[test]
fn on_google_a_source_that_changes_meanwhile_ends_the_run() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let (server, bucket) = (scene.server, scene.bucket.clone());
    let mut change = Some(Mistake::First(Box::new(move || {
        server.put(&bucket, "tiny-qwen3-vl/model-00003-of-00004.safetensors", &[7; 656_888]);
    })));
    // Behind the header.
    scene.proxy.plan("GET", "model-00003-of", 1, 1, move || change.take().unwrap());
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("is not there any more as it was"), "{said}");
    assert!(scene.made().is_empty(), "{:?}", scene.made().keys());
}

#[test]
fn a_bucket_that_google_does_not_have_is_named() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let said = refused(scene.command().args(["inspect", "gs://no-such-bucket/tiny"]), 1);
    assert!(said.contains("`gs://no-such-bucket` is no bucket, or none that these credentials may see"), "{said}");
    let said = refused(scene.command().args(["inspect", &format!("gs://{}/tiny", scene.bucket)]), 1);
    assert!(said.contains("nothing lies at"), "{said}");
}
