//! `apply --verify`, and the quality that a recipe expects: the proof before the output is published.

use std::fs;

use serde_json::{Value, json};

use super::{BLOCKS, FIXTURE, Folder, run};

fn applied(folder: &Folder, more: &[&str]) -> (Option<i32>, String, String) {
    let (recipe, output) = (folder.path("recipe.yaml"), folder.path("out"));
    let output = run(&[&["apply", &recipe, "--model", FIXTURE, "--output", &output], more].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn expecting(decibels: &str) -> Folder {
    Folder::new(&format!("expect:\n  sqnr_at_least: {decibels}\n{BLOCKS}"))
}

/// Nothing lies beside the recipe but what is named.
fn assert_only(folder: &Folder, names: &[&str]) {
    let mut found: Vec<String> = fs::read_dir(folder.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "recipe.yaml")
        .collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn what_is_proven_is_published_with_its_quality() {
    let folder = Folder::new(BLOCKS);
    let (code, json, said) = applied(&folder, &["--verify", "--json", "--sha256"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("proven against") && said.contains("14 quantized"), "{said}");
    assert!(!said.contains("to prove it"), "{said}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["verification"]["verdict"], "proven");
    // It names the place where the output lies by now.
    assert_eq!(report["verification"]["output"], json!(folder.path("out")));
    let on_disk: u64 =
        fs::read_dir(folder.path("out")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(report["output_bytes"], on_disk);
    assert_only(&folder, &["out"]);

    // The figures of the card are those of the proof, and the manifest knows the card by its checksums.
    let card = fs::read_to_string(folder.path("out/README.md")).unwrap();
    for kind in report["verification"]["kinds"].as_array().unwrap() {
        let (name, sqnr) = (kind["kind"].as_str().unwrap(), kind["min_sqnr_db"].as_f64());
        let row = sqnr.map(|sqnr| format!("| `{name}` | {} | {sqnr:.2} dB |", kind["tensors"]));
        assert_eq!(card.contains(&format!("| `{name}` |")), sqnr.is_some(), "{name}");
        assert!(row.is_none_or(|row| card.contains(&row)), "{kind} in {card}");
    }
    let again = run(&["verify", &folder.path("out"), "--source", FIXTURE, "--manifest"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stdout));
    let manifest = fs::read_to_string(folder.path("out/qwen-fp8-manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let of_card = manifest["files"].as_array().unwrap().iter().find(|file| file["name"] == "README.md").unwrap();
    assert_eq!(of_card["size"], card.len());
    use sha2::Digest;
    let sha256: String = sha2::Sha256::digest(&card).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(of_card["sha256"], sha256);
}

#[test]
fn all_else_is_as_it_is_without_a_proof() {
    let (with, without) = (Folder::new(BLOCKS), Folder::new(BLOCKS));
    assert_eq!(applied(&with, &["--verify"]).0, Some(0));
    assert_eq!(applied(&without, &[]).0, Some(0));
    let mut compared = 0;
    for entry in fs::read_dir(without.path("out")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let [a, b] = [&with, &without].map(|folder| fs::read(folder.path(&format!("out/{name}"))).unwrap());
        let may_differ = ["README.md", "qwen-fp8-manifest.json"].contains(&&*name);
        assert_eq!(a != b, may_differ, "{name}");
        compared += usize::from(!may_differ);
    }
    assert!(compared > 3);
}

#[test]
fn less_quality_than_expected_is_not_published() {
    let folder = expecting("33");
    let (code, _, said) = applied(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("recipe.yaml:2:18"), "{said}");
    assert!(said.contains("dB, and the recipe expects 33 dB at least; 13 more have less than that"), "{said}");
    assert!(said.contains("is not published"), "{said}");
    // The same run would come to the same end: it leaves nothing to resume.
    assert_only(&folder, &[]);

    let json: Value = serde_json::from_str(&applied(&folder, &["--json"]).1).unwrap();
    assert!(json["error"]["message"].as_str().unwrap().contains("is not published"), "{json}");

    let folder = expecting("31");
    assert_eq!(applied(&folder, &[]).0, Some(0));
    assert!(fs::read_to_string(folder.path("out/README.md")).unwrap().contains("least SQNR"));
}

#[test]
fn an_expectation_that_nothing_can_be_held_against_is_an_error() {
    let (code, _, said) = applied(&expecting("25"), &["--no-manifest"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("leave out `--no-manifest`"), "{said}");
    let (code, _, said) = applied(&Folder::new(BLOCKS), &["--verify", "--no-manifest"]);
    assert_eq!(code, Some(2), "{said}");

    let folder = Folder::new("expect:\n  sqnr_at_least: 25\nscheme: PASSTHROUGH\ntargets: ['re:.*']\n");
    let (code, _, said) = applied(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no tensor would be quantized"), "{said}");
    assert_only(&folder, &[]);
}

#[test]
fn a_smoke_model_is_proven_against_the_layers_that_it_has() {
    let folder = Folder::new(BLOCKS);
    let (code, _, said) = applied(&folder, &["--verify", "--smoke=1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("proven against the first layer of"), "{said}");
}

#[test]
fn a_page_tells_of_what_was_published_and_of_what_was_not() {
    let folder = Folder::new(BLOCKS);
    let page = folder.path("page.html");
    let (code, _, said) = applied(&folder, &["--report", &page]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("proven against") && said.contains("wrote the report"), "{said}");
    let html = fs::read_to_string(&page).unwrap();
    // The numbers of the run and the decisions of its plan, which `verify` alone does not know.
    for part in ["<h2>Timings</h2>", "Tensors and what was done to them", "<svg"] {
        assert!(html.contains(part), "{part}");
    }

    let folder = expecting("33");
    let page = folder.path("page.html");
    let (code, _, said) = applied(&folder, &["--report", &page]);
    assert_eq!(code, Some(1), "{said}");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<svg") && !html.contains("<h2>Timings</h2>"));
    assert!(!html.contains(".partial"), "the page names a directory that is gone");
    assert_only(&folder, &["page.html"]);

    // Refused before any work, as a file inside of a checkpoint is.
    let folder = Folder::new(BLOCKS);
    fs::write(folder.path("page.html"), "mine").unwrap();
    assert_eq!(applied(&folder, &["--report", &folder.path("page.html")]).0, Some(2));
    assert_only(&folder, &["page.html"]);
}
