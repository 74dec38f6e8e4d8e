//! Buckets of Google's, by a server that translates what differs from S3: a run from one to another is that of a disk, and nothing
//! of somebody else is written over. What holds for S3 in the same words is tried with both, beside this file.

use super::proxy::Mistake;
use super::{OTHER_RECIPE, RECIPE, Scene, done, fixture, refused};

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
fn a_bucket_that_google_does_not_have_is_named() {
    let Some(scene) = Scene::google(RECIPE) else { return };
    let said = refused(scene.command().args(["inspect", "gs://no-such-bucket/tiny"]), 1);
    assert!(said.contains("`gs://no-such-bucket` is no bucket, or none that these credentials may see"), "{said}");
    let said = refused(scene.command().args(["inspect", &format!("gs://{}/tiny", scene.bucket)]), 1);
    assert!(said.contains("nothing lies at"), "{said}");
}
