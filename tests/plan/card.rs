//! Model cards of outputs: what is kept of the source's, what is added, and where nothing is.

use std::fs;
use std::path::Path;

use qwen_fp8::plan::Plan;
use tempfile::TempDir;

use super::{BLOCKS, try_plan_in};
use crate::support::shapes;

const SOURCE: &str =
    "---\nlicense: apache-2.0  # as ever\nbase_model:\n- Qwen/Qwen3-VL-2B-Instruct\n---\n\n# A model\n\nIts text.\n";

/// A checkpoint with this card, in a folder of the Hugging Face cache.
fn checkpoint(card: Option<&[u8]>) -> (TempDir, std::path::PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models--org--model/snapshots/0123abcd");
    fs::create_dir_all(&snapshot).unwrap();
    let written = shapes::qwen3_vl_2b().write_single();
    for file in fs::read_dir(written.path()).unwrap() {
        let file = file.unwrap();
        fs::rename(file.path(), snapshot.join(file.file_name())).unwrap();
    }
    if let Some(card) = card {
        fs::write(snapshot.join("README.md"), card).unwrap();
    }
    (cache, snapshot)
}

fn planned(recipe: &str, dir: &Path) -> Plan {
    try_plan_in(recipe, dir).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
}

fn card(plan: &Plan) -> Option<String> {
    let card = plan.documents.iter().find(|(name, _)| name == "README.md")?;
    // Either made or copied, and never a file that makes the output loadable last.
    assert!(plan.checkpoint.side_files.iter().all(|file| file.name != "README.md"));
    assert_eq!(plan.documents.last().unwrap().0, "config.json");
    Some(String::from_utf8(card.1.clone()).unwrap())
}

#[test]
fn the_source_is_the_base_and_its_text_stays() {
    let (_cache, dir) = checkpoint(Some(SOURCE.as_bytes()));
    let card = card(&planned(BLOCKS, &dir)).unwrap();
    let front =
        "---\nlicense: apache-2.0  # as ever\nbase_model: \"org/model\"\nbase_model_relation: \"quantized\"\n---\n\n";
    assert!(card.starts_with(front), "{card}");
    assert!(card.ends_with("\n# A model\n\nIts text.\n"), "{card}");
    for part in
        ["from `org/model`", "| 196 weights | quantized | `FP8_DYNAMIC`, `block_size: 128` |", BLOCKS.trim_end()]
    {
        assert!(card.contains(part), "{part}: {card}");
    }
    // What is added is added once.
    fs::write(dir.join("README.md"), &card).unwrap();
    assert_eq!(self::card(&planned(BLOCKS, &dir)).unwrap().matches("base_model:").count(), 1);
}

#[test]
fn a_recipe_names_base_and_author_or_leaves_the_card_alone() {
    let (_cache, dir) = checkpoint(Some(SOURCE.as_bytes()));
    let named = format!("model_card:\n  base_model: other/base\n  quantized_by: 'me, ''myself'''\n{BLOCKS}");
    let card = card(&planned(&named, &dir)).unwrap();
    assert!(
        card.contains("base_model: \"other/base\"\n") && card.contains("quantized_by: \"me, 'myself'\"\n"),
        "{card}"
    );
    let as_in_source = planned(&format!("model_card:\n  as_in_source: true\n{BLOCKS}"), &dir);
    assert!(as_in_source.documents.iter().all(|(name, _)| name != "README.md"));
    assert!(as_in_source.checkpoint.side_files.iter().any(|file| file.name == "README.md"));
}

#[test]
fn a_source_without_a_card_gets_one() {
    let (_cache, dir) = checkpoint(None);
    let card = card(&planned(BLOCKS, &dir)).unwrap();
    assert!(card.starts_with("---\nbase_model: \"org/model\"\n"), "{card}");
    // Outside of the cache nobody knows what the base is called on the hub.
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("model");
    fs::rename(&dir, &moved).unwrap();
    assert!(!self::card(&planned(BLOCKS, &moved)).unwrap().contains("base_model"));
}

#[test]
fn what_is_no_card_is_copied_as_it_is() {
    for text in [&b"\xff\xfe no text"[..], b"---\n- a list\n---\n", &[b'a'; (1 << 20) + 1]] {
        let (_cache, dir) = checkpoint(Some(text));
        let plan = planned(BLOCKS, &dir);
        assert_eq!(card_name(&plan), None);
        assert!(plan.checkpoint.side_files.iter().any(|file| file.name == "README.md"));
    }
    let (_cache, dir) = checkpoint(Some(SOURCE.as_bytes()));
    let copy = "rules:\n  - scheme: PASSTHROUGH\n    targets: ['re:.*']\n";
    assert_eq!(card_name(&planned(copy, &dir)), None, "a copy is no quantized model");
}

fn card_name(plan: &Plan) -> Option<&str> {
    plan.documents.iter().map(|(name, _)| name.as_str()).find(|name| *name == "README.md")
}
