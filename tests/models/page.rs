//! `docs/models.md`, whose table is made of the catalogue and the facts: `QWEN_FP8_WRITE_DOCS=1 cargo test` writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::models::Part;
use qwen_fp8::checkpoint::models::catalogue::{FamilyFile, families};

use super::facts::all_facts;
use super::registry::{known_to_vllm_alone, types_in_no_file};

const BEGIN: &str = "<!-- The table is made by tests/models/page.rs. -->\n";

/// The class of vLLM that a class of transformers was built as, where it could be.
fn built_by_vllm() -> BTreeMap<String, String> {
    let mut built = BTreeMap::new();
    for facts in all_facts() {
        let (Some(class), Some(vllm)) = (facts["architecture"].as_str(), facts["vllm"]["class"].as_str()) else {
            continue;
        };
        if facts["vllm"]["layers"].is_array() {
            built.insert(class.to_owned(), vllm.to_owned());
        }
    }
    built
}

fn stays(family: &FamilyFile) -> String {
    let parts = family.parts.iter().filter(|(part, _)| **part != Part::Decoder);
    let named = parts.map(|(part, patterns)| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| format!("`{}`", pattern.text())).collect();
        format!("{part}: {}", patterns.join(", "))
    });
    named.collect::<Vec<_>>().join("; ")
}

fn notes(family: &FamilyFile) -> String {
    let mut notes = Vec::new();
    if let Some(like) = &family.like {
        notes.push(format!("otherwise like `{like}`"));
    }
    if !family.asked.is_empty() || !family.listed_patterns.is_empty() {
        notes.push("lists hold vLLM's names too".to_owned());
    }
    if !family.stacks.is_empty() {
        let stacks = family.stacks.iter().map(|stack| format!("`{}`", stack.on_disk.text()));
        notes.push(format!("experts are stacked in {}", stacks.collect::<Vec<_>>().join(", ")));
    }
    if !family.fused.is_empty() {
        let fused = family.fused.iter().map(|fused| format!("`{}` of {}", fused.layer, fused.parts.join(", ")));
        notes.push(format!("vLLM fuses {}", fused.collect::<Vec<_>>().join("; ")));
    }
    let keys = family.config_keys.iter().map(|key| format!("config.json gets `{}: {}`", key.key, key.value));
    notes.extend(keys);
    if !family.cut_rows.is_empty() {
        let rows: Vec<String> = family.cut_rows.iter().map(|pattern| format!("`{}`", pattern.text())).collect();
        notes.push(format!("official files cut the rows of {} inside a block", rows.join(", ")));
    }
    if !family.next_tokens.asked.is_empty() {
        notes.push("lists hold vLLM's names for layers that predict further tokens".to_owned());
    }
    notes.extend(family.not_loaded.iter().map(|not| match not.is_of_all(family) {
        true => format!("{}: {}", not.server, not.because),
        false => format!("{}, of `{}`: {}", not.server, not.classes.join("`, `"), not.because),
    }));
    // Two formats may be refused for one reason.
    notes.dedup();
    notes.join("; ")
}

fn table() -> String {
    let built = built_by_vllm();
    let mut text = String::from(
        "| family | classes | stays unquantized, beside what stays in every model | vLLM 0.33 builds it as | notes |\n|---|---|---|---|---|\n",
    );
    for family in families() {
        let classes: Vec<String> = family.architectures.iter().map(|class| format!("`{class}`")).collect();
        let mut by_vllm: Vec<&str> =
            family.architectures.iter().filter_map(|class| built.get(class)).map(String::as_str).collect();
        by_vllm.dedup();
        // Why it was not seen loaded says more than what it was built as before that failed.
        let by_vllm = match &family.unproven {
            Some(why) => format!("not seen: {why}"),
            None => by_vllm.join(", "),
        };
        text.push_str(&format!(
            "| {} | {} | {} | {by_vllm} | {} |\n",
            family.name,
            classes.join(", "),
            stays(&family),
            notes(&family)
        ));
    }
    text.push_str(&in_no_file());
    text
}

/// What no file is about, and is told by its names alone.
fn in_no_file() -> String {
    let listed = |names: Vec<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!(
        "\n## In no file\n\nThese are told by their names alone, as every model of no known family.\n\nTypes of transformers 5.24 that vLLM 0.33 \
         has no class for: {}.\n\nClasses of vLLM 0.33 that transformers 5.24 has not, so that no tiny model shows what their layers are: {}.\n",
        listed(types_in_no_file()),
        listed(known_to_vllm_alone())
    )
}

#[test]
fn the_table_of_models_is_that_of_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, written) = page.split_once(BEGIN).unwrap();
    let made = table();
    if std::env::var_os("QWEN_FP8_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{made}")).unwrap();
        return;
    }
    assert!(written == made, "run the test with QWEN_FP8_WRITE_DOCS=1 to write docs/models.md anew");
}
