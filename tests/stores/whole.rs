//! From store to store the output is that of a disk, byte for byte, and every command that reads headers reads them.

use std::fs;

use super::proxy::Mistake;
use super::{OTHER_RECIPE, RECIPE, Scene, done, files_in, fixture, refused};

#[test]
fn the_output_is_that_of_a_disk() {
    for recipe in [RECIPE, OTHER_RECIPE] {
        let Some(scene) = Scene::new(recipe) else { return };
        done(&mut scene.apply());
        scene.check_made();
        // `config.json` came last, the index before it.
        let puts = scene.proxy.seen();
        let puts: Vec<_> =
            puts.iter().filter(|seen| seen.method == "PUT" && !seen.target.contains("journal")).collect();
        let last: Vec<_> = puts.iter().rev().take(2).map(|seen| seen.target.rsplit('/').next().unwrap()).collect();
        assert_eq!(last, ["config.json", "model.safetensors.index.json"]);
    }
}

#[test]
fn either_side_may_be_a_directory() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let mut to_disk = scene.command();
    done(to_disk.args(["apply", "recipe.yaml", "-q", "-m", &scene.source(), "-o", "here"]));
    assert!(files_in(&scene.home.path().join("here")) == scene.expected());
    fs::remove_dir_all(scene.home.path().join("here")).unwrap();
    let mut from_disk = scene.command();
    done(from_disk.args(["apply", "recipe.yaml", "-q", "-m"]).arg(fixture()).args(["-o", &scene.output()]));
    scene.check_made();
}

#[test]
fn recipes_name_stores_too() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let recipe = format!("{RECIPE}model: {}\noutput: {}\n", scene.source(), scene.output());
    fs::write(scene.home.path().join("recipe.yaml"), recipe).unwrap();
    done(scene.command().args(["apply", "recipe.yaml", "-q"]));
    // The recipe is part of the manifest.
    assert!(scene.made().contains_key("config.json"));
    assert_eq!(scene.server.uploads(&scene.bucket), 0);
}

#[test]
fn checks_find_what_they_find_on_a_disk() {
    for recipe in [RECIPE, OTHER_RECIPE] {
        let Some(scene) = Scene::new(recipe) else { return };
        done(&mut scene.apply());
        scene.expected();
        let (source, output) = (scene.source(), scene.output());
        let fixture = fixture();
        let here = fixture.to_str().unwrap();
        let printed = |arguments: &[&str]| {
            let mut value: serde_json::Value =
                serde_json::from_str(&done(scene.command().args(arguments).arg("--json"))).unwrap();
            for key in ["output", "source", "directory", "a", "b"] {
                value.as_object_mut().unwrap().remove(key);
            }
            value
        };
        for [there, here] in [
            [
                &["verify", &output, "--source", &source, "--manifest"][..],
                &["verify", "expected", "--source", here, "--manifest"],
            ],
            [&["verify", "expected", "--source", &source], &["verify", "expected", "--source", here]],
            [&["lint", &output], &["lint", "expected"]],
            [&["diff", &source, &output], &["diff", here, "expected"]],
            [&["inspect", &output], &["inspect", "expected"]],
        ] {
            assert_eq!(printed(there), printed(here), "{there:?}");
        }
        scene.check_made();
    }
}

#[test]
fn an_object_that_changes_under_a_check_is_no_verdict() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    done(&mut scene.apply());
    let shard = "made/out/model-00002-of-00004.safetensors";
    let (server, bucket) = (scene.server, scene.bucket.clone());
    let change = Mistake::First(Box::new(move || server.put(&bucket, shard, b"of somebody else")));
    // Behind the header.
    let mut change = Some(change);
    scene.proxy.plan("GET", shard, 1, 1, move || change.take().unwrap());
    let said = refused(scene.command().args(["verify", &scene.output(), "--source", &scene.source()]), 2);
    assert!(said.contains(shard.rsplit('/').next().unwrap()), "{said}");
}

#[test]
fn headers_are_read_from_a_store() {
    let Some(scene) = Scene::new(RECIPE) else { return };
    let source = scene.source();
    done(scene.command().args(["plan", "recipe.yaml", "-m", &source]));
    done(scene.command().args(["init", &source]));
    done(scene.command().args(["fit", &source, "--vram", "24GiB"]));
    done(scene.command().args(["explain", "recipe.yaml", "lm_head.weight", "-m", &source]));
    let here = done(scene.command().arg("inspect").arg(fixture()));
    let there = done(scene.command().args(["inspect", &source]));
    assert_eq!(here.lines().skip(1).collect::<Vec<_>>(), there.lines().skip(1).collect::<Vec<_>>());
    // A file with weights is never asked for as a whole.
    let whole = 592_480;
    let read: usize = scene.proxy.seen().iter().filter(|seen| seen.target.contains("model-0000")).count();
    assert!(read > 0 && whole > read, "{read}");
}
