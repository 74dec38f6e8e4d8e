//! The page of a run: what it adds to that of a proof.

use std::fs;
use std::sync::atomic::AtomicBool;

use qwen_fp8::check::{distributions, verify};
use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::manifest::Manifest;
use qwen_fp8::plan::Plan;
use qwen_fp8::plan::summary::Summary;
use qwen_fp8::recipe::Recipe;
use qwen_fp8::report::{DRAWN, Machine, Report};
use qwen_fp8::run::{RunOptions, run};

use super::markup::Markup;
use super::pages;
use crate::support::fixture::files;
use crate::support::folder::source;

const RECIPE: &str = "version: 1
format: compressed-tensors
scheme: FP8_DYNAMIC
scale_search: mse
targets: [Linear]
ignore: [\"re:.*visual.*\", lm_head]
";

#[test]
fn a_run_adds_its_plan_its_times_and_what_it_left_out() {
    static CANCEL: AtomicBool = AtomicBool::new(false);
    let dir = tempfile::tempdir().unwrap();
    let [model, output, recipe] = ["model", "Tiny-FP8", "recipe.yaml"].map(|name| dir.path().join(name));
    fs::create_dir(&model).unwrap();
    for (name, bytes) in files(&source()) {
        fs::write(model.join(name), bytes).unwrap();
    }
    fs::write(model.join("<b>.gguf"), "weights").unwrap();
    fs::write(&recipe, RECIPE).unwrap();
    let plan = Plan::build(Recipe::read(&recipe).unwrap(), Checkpoint::open(&model).unwrap()).unwrap();
    let report = run(&plan, &output, &RunOptions::new(&CANCEL), &()).unwrap();
    let verification = verify(&output, Some(&model), &[], &()).unwrap();
    let distributions = distributions(&verification, DRAWN, &()).unwrap();
    let (opened, manifest) = (Checkpoint::open(&output).unwrap(), Manifest::read(&output).unwrap());
    let page = Report {
        name: "Tiny-FP8".to_owned(),
        program: "0.0.0".to_owned(),
        written: "today".to_owned(),
        verification: &verification,
        proof_seconds: 1.0,
        distributions: &distributions,
        checksums: None,
        output: Some(&opened),
        source: Some(&plan.checkpoint),
        manifest: Some(&manifest),
        plan: Some(&Summary::of(&plan)),
        run: Some(&report),
        machine: &Machine { processor: "A <fast> one".to_owned(), threads: 2, ..Machine::default() },
        serve: &[("vLLM", "vllm serve Tiny-FP8".to_owned())],
        not_served: &[],
    }
    .html();
    fs::write(pages().join("run.html"), &page).unwrap();
    Markup::read(&page).check();
    for expected in [
        "<h2>Timings</h2>",
        "Tensors and what was done to them",
        "The slowest tensors",
        "&lt;b&gt;.<wbr>gguf",
        "weights in another format",
        "SGLang builds the tower in BF16",
        "A &lt;fast&gt; one, 2 threads",
        "scale_search: mse",
        report.simd,
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    // The decoded values of a weight and those of its source are as many as it has.
    for distribution in &distributions {
        let tensor = verification.tensors.iter().find(|tensor| tensor.name == distribution.name).unwrap();
        let elements = tensor.figures.unwrap().elements;
        let all = |counts: &[u64]| counts.iter().sum::<u64>();
        assert_eq!(all(&distribution.decoded.counts), elements);
        assert_eq!(all(&distribution.source.as_ref().unwrap().counts), elements);
        let rows = opened.tensors.iter().find(|stored| stored.name == distribution.name).unwrap().shape[0];
        assert_eq!(all(&distribution.scales.counts), rows as u64);
    }
}
