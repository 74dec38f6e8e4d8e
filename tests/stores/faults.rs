//! A network and servers that make mistakes change no byte of the output.

use std::sync::{Arc, Mutex};

use super::proxy::Mistake;
use super::{RECIPE, Scene, done, refused};

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code></Error>";

#[test]
fn a_source_on_a_bad_line_is_read_all_the_same() {
    for scene in Scene::s3_and_google(RECIPE) {
        for shard in 1..=4 {
            let part = format!("model-0000{shard}-of");
            scene.proxy.plan("GET", &part, 1, 1, || Mistake::Short(9_000));
            scene.proxy.plan("GET", &part, 1, 1, || Mistake::Answer(503, "Retry-After: 1\r\n", SLOW_DOWN));
        }
        scene.proxy.once("GET", "tiny-qwen3-vl/config.json", Mistake::LoseAnswer);
        scene.proxy.once("GET", "list-type", Mistake::Answer(500, "", "<Error><Code>InternalError</Code></Error>"));
        done(&mut scene.apply());
        assert!(scene.proxy.is_through());
        scene.check_made();
    }
}

#[test]
fn an_output_on_a_bad_line_is_written_all_the_same() {
    for scene in Scene::s3_and_google(RECIPE) {
        // Requests that come about and whose answers are lost, and others that never arrive.
        for (method, part) in [
            ("PUT", "out/model-00001-of-00004.safetensors?"),
            ("POST", "out/model-00002-of-00004.safetensors?uploadId"),
            ("PUT", "out/qwen-fp8-journal"),
            ("PUT", "out/tokenizer.json"),
            ("PUT", "out/model.safetensors.index.json"),
            ("PUT", "out/config.json"),
        ] {
            scene.proxy.once(method, part, Mistake::LoseRequest);
            scene.proxy.once(method, part, Mistake::Answer(503, "", SLOW_DOWN));
            scene.proxy.once(method, part, Mistake::LoseAnswer);
        }
        // Not the answer to this: an upload of which nobody knows would stay under way.
        scene.proxy.once("POST", "out/model-00003-of-00004.safetensors?uploads", Mistake::LoseRequest);
        // Google takes one change of an object a second, and says so.
        scene.proxy.plan("PUT", "out/qwen-fp8-journal", 4, 3, || Mistake::Answer(429, "", SLOW_DOWN));
        done(&mut scene.apply());
        assert!(scene.proxy.is_through());
        scene.check_made();
    }
}

#[test]
fn a_source_that_changes_meanwhile_ends_the_run() {
    for scene in Scene::s3_and_google(RECIPE) {
        let (server, bucket) = (scene.server, scene.bucket.clone());
        // Its header is read by then; the same size, so that only the tag tells.
        let other = Arc::new(Mutex::new(Some(vec![7; 656_888])));
        scene.proxy.plan("GET", "model-00003-of", 1, 1, move || {
            let (bucket, bytes) = (bucket.clone(), other.lock().unwrap().take().unwrap());
            Mistake::First(Box::new(move || {
                server.put(&bucket, "tiny-qwen3-vl/model-00003-of-00004.safetensors", &bytes)
            }))
        });
        let said = refused(&mut scene.apply(), 2);
        assert!(scene.proxy.is_through(), "{said}");
        assert!(
            said.contains("model-00003-of-00004.safetensors") && said.contains("is not there any more as it was"),
            "{said}"
        );
        // Nothing of it is of use to anybody.
        assert!(scene.made().is_empty(), "{:?}", scene.made().keys());
        assert_eq!(scene.server.uploads(&scene.bucket), 0);
    }
}

#[test]
fn a_store_that_fails_for_good_keeps_what_is_finished() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    scene
        .proxy
        .plan("POST", "out/model-00003-of-00004.safetensors?uploadId", 0, 1, move || Mistake::Answer(403, "", denied));
    let said = refused(&mut scene.apply(), 2);
    assert!(said.contains("may not be used with these credentials (AccessDenied)"), "{said}");
    assert!(said.contains("the same command resumes with"), "{said}");
    let left = scene.made();
    assert!(left.contains_key("qwen-fp8-journal") && !left.contains_key("config.json"));
    let finished: Vec<_> = left.keys().filter(|name| name.ends_with(".safetensors")).cloned().collect();
    assert!(!finished.is_empty());
    assert_eq!(scene.server.uploads(&scene.bucket), 0);
    // Begun by a run that was killed before it could note it.
    scene.server.begin_upload(&scene.bucket, "made/out/model-00004-of-00004.safetensors");
    let before = scene.proxy.seen().len();
    done(&mut scene.apply());
    let again = scene.proxy.seen().split_off(before);
    for shard in finished {
        assert!(
            !again.iter().any(|seen| seen.method == "PUT" && seen.target.contains(&format!("out/{shard}"))),
            "{again:?}"
        );
    }
    scene.check_made();
}
