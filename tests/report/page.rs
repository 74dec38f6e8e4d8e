//! What a page says of results that are sound, spoilt, without a source, and maliciously named.

use std::fs;

use qwen_fp8::checkpoint::manifest::MANIFEST_FILE;
use qwen_fp8::report::{MARKER, MARKER_WITHIN};

use super::markup::Markup;
use super::{page_of, pages, verify};
use crate::support::folder::{Base, Folder, source};

fn source_text() -> String {
    source().to_str().unwrap().to_owned()
}

/// The titles of the sections, in order.
fn sections(page: &str) -> Vec<&str> {
    page.split("<h2>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect()
}

#[test]
fn a_proven_result_has_its_figures_map_and_recipe() {
    let (page, code) = page_of("proven.html", Base::Mixed.dir(), &["--source", &source_text(), "--manifest"]);
    assert_eq!(code, Some(0));
    Markup::read(&page).check();
    assert!(page[..MARKER_WITHIN].contains(MARKER));
    let expected = [
        "What was done",
        "Sizes",
        "Map of the model",
        "Noisiest tensors",
        "Quality by scheme",
        "By kind of layer",
        "What was left out",
        "How to serve it",
        "Machine",
        "Manifest",
    ];
    assert_eq!(sections(&page), expected);
    assert!(page.contains("<strong>proven</strong>"));
    // Two schemes, each with its own row, and a cell of the map for each weight of the two layers.
    let json = verify(Base::Mixed.dir(), &["--source", &source_text(), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let quantized = json["tensors"].as_array().unwrap().iter().filter(|tensor| tensor["action"] == "quantized");
    let quantized: Vec<&serde_json::Value> = quantized.collect();
    for tensor in &quantized {
        let form = tensor["storage"].as_str().unwrap();
        assert!(page.contains(&format!("<th scope=\"row\">{form}</th>")), "{form}");
    }
    assert_eq!(page.matches("<g class=\"e").count(), quantized.len());
    assert_eq!(page.matches("<figure>").count(), 6);
    let least =
        quantized.iter().filter_map(|tensor| tensor["figures"]["sqnr_db"].as_f64()).fold(f64::INFINITY, f64::min);
    assert!(page.contains(&format!("<dd>{least:.2} dB</dd>")), "{least}");
    assert!(page.contains("vllm serve ") && page.contains("sglang.launch_server"));
    assert!(page.contains("re:.*self_attn.*") && page.contains("every file and tensor is what the manifest says"));
}

#[test]
fn a_server_without_kernels_for_it_is_named() {
    let (page, _) = page_of("no-kernels.html", Base::Mxfp8.dir(), &[]);
    assert!(page.contains("vllm serve ") && !page.contains("sglang.launch_server"));
    assert!(page.contains("<dt>SGLang</dt><dd>does not serve it: it has no kernels for <code>MXFP8</code></dd>"));
}

#[test]
fn a_server_whose_class_cannot_load_it_is_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    folder.config.insert("model_type".to_owned(), "llama".into());
    folder.config.insert("architectures".to_owned(), serde_json::json!(["LlamaForCausalLM"]));
    folder.write(dir.path());
    let (page, _) = page_of("unserved.html", dir.path(), &["--no-source"]);
    Markup::read(&page).check();
    assert!(page.contains("vllm serve ") && !page.contains("sglang.launch_server"));
    let why =
        "does not serve it: its class for this model cannot load it: it renames each <code>weight_scale_inv</code>";
    assert!(page.contains(&format!("<dt>SGLang</dt><dd>{why}")));
}

#[test]
fn the_page_changes_nothing_of_what_verify_says() {
    let dir = Base::Block.dir();
    for more in [&["--source", &source_text()][..], &[], &["--json"], &["--no-source", "-q"]] {
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("report.html");
        let (with, without) = (verify(dir, &[more, &["--report", path.to_str().unwrap()]].concat()), verify(dir, more));
        assert_eq!((with.status.code(), &with.stdout), (without.status.code(), &without.stdout), "{more:?}");
        assert!(path.exists(), "{more:?}");
    }
}

#[test]
fn without_a_source_the_page_says_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Channel.dir());
    folder.others.remove(MANIFEST_FILE);
    folder.write(dir.path());
    let (page, code) = page_of("sourceless.html", dir.path(), &[]);
    assert_eq!(code, Some(3));
    Markup::read(&page).check();
    assert!(page.contains("<strong>structure only</strong>") && page.contains("Without a source no error is known"));
    assert!(page.contains("no tensor was compared with a source"));
    assert_eq!(page.matches("<figure>").count(), 6);
    assert!(!sections(&page).contains(&"Manifest") && !sections(&page).contains(&"Sizes"));
}

#[test]
fn faults_come_first_and_are_on_the_map() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    folder.tensor("model.language_model.layers.0.mlp.up_proj.weight").bytes[300] ^= 0x40;
    folder.write(dir.path());
    let (page, code) = page_of("fault.html", dir.path(), &["--source", &source_text(), "--manifest"]);
    assert_eq!(code, Some(1));
    Markup::read(&page).check();
    assert_eq!(sections(&page)[0], "Findings");
    assert!(page.contains("<strong>at fault</strong>") && page.contains("Q502"));
    assert_eq!(page.matches("<g class=\"bad\">").count(), 1);
    assert!(page.contains("Differences from the manifest"));
}

#[test]
fn names_of_a_checkpoint_are_text_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    let evil = "model.\"><script>alert(1)</script>&amp;'\u{202e}.layers.0.mlp.<b>.weight";
    let name = "model.language_model.layers.0.mlp.up_proj";
    for shard in folder.shards.values_mut() {
        for parameter in ["weight", "weight_scale_inv"] {
            if let Some(tensor) = shard.remove(&format!("{name}.{parameter}")) {
                shard.insert(format!("{}.{parameter}", evil.strip_suffix(".weight").unwrap()), tensor);
            }
        }
    }
    folder.write(dir.path());
    fs::write(dir.path().join("<img src=x>.txt"), "x").unwrap();
    let (page, code) = page_of("hostile.html", dir.path(), &["--source", &source_text()]);
    assert_eq!(code, Some(1));
    Markup::read(&page).check();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&#39;\\u{202e}"));
    assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains("<img"));
}

#[test]
fn a_result_that_cannot_be_opened_has_a_page_as_well() {
    let dir = tempfile::tempdir().unwrap();
    Folder::read(Base::Block.dir()).write(dir.path());
    fs::write(dir.path().join("config.json"), "{").unwrap();
    let path = pages().join("unreadable.html");
    let done = verify(dir.path(), &["--no-source", "--report", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    let page = fs::read_to_string(&path).unwrap();
    // It has no picture, which the browser would miss.
    fs::remove_file(&path).unwrap();
    Markup::read(&page).check();
    assert_eq!(sections(&page), ["Findings", "What was done", "Machine", "Manifest"]);
}
