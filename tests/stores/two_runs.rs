//! Two runs with one output: the result is that of one of them, or there is none.

use super::output::run_that_waits;
use super::{OTHER_RECIPE, RECIPE, Scene, done, refused, said};

#[test]
fn a_second_run_of_the_job_takes_over_and_the_first_one_stops() {
    for scene in Scene::s3_and_google(RECIPE) {
        let (first, gate) = run_that_waits(&scene);
        done(&mut scene.apply());
        drop(gate);
        let said = said(&first.wait_with_output().unwrap(), 2);
        assert!(said.contains("another run writes to"), "{said}");
        scene.check_made();
    }
}

#[test]
fn a_run_of_another_job_is_refused_while_the_first_one_goes_on() {
    for scene in Scene::s3_and_google(RECIPE) {
        let (mut first, gate) = run_that_waits(&scene);
        std::fs::write(scene.home.path().join("recipe.yaml"), OTHER_RECIPE).unwrap();
        refused(&mut scene.apply(), 2);
        drop(gate);
        assert!(first.wait().unwrap().success());
        std::fs::write(scene.home.path().join("recipe.yaml"), RECIPE).unwrap();
        scene.check_made();
    }
}

#[test]
fn runs_that_begin_together_do_not_mix() {
    for scene in Scene::s3_and_google(RECIPE) {
        let runs: Vec<_> =
            (0..3).map(|_| scene.apply().stderr(std::process::Stdio::piped()).spawn().unwrap()).collect();
        let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
        // Any of them may have been stopped by the others, all of them too: what is there is whole, or goes on.
        if !outputs.iter().any(|output| output.status.success()) {
            assert!(!scene.made().contains_key("config.json"));
            done(&mut scene.apply());
        }
        scene.check_made();
    }
}
