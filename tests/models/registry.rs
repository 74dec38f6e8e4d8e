//! The catalogue against `vllm_registry.json`, the classes that vLLM registers: each has a file, or a reason why it has none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::models::catalogue::families;
use serde_json::Value;

use super::facts::all_facts;

/// Classes that transformers has as well and that no file is about, with the reason.
const NO_FILE: [(&str, &str); 9] = [
    ("CLIPModel", "two encoders side by side, which nobody serves quantized"),
    ("ColModernVBertForRetrieval", "its names depend on the model that it is made of"),
    ("ColPaliForRetrieval", "its names depend on the model that it is made of"),
    ("Dots3NoteForCausalLM", "transformers 5.24 builds no tiny one of its config"),
    ("Gemma2Model", "its published files are those of Gemma2ForCausalLM"),
    ("InklingForConditionalGeneration", "transformers 5.24 builds it only where scipy is installed"),
    ("ModernVBertModel", "its names depend on the model that it is made of"),
    ("SiglipModel", "two encoders side by side, which nobody serves quantized"),
    ("VibeVoiceAsrForConditionalGeneration", "transformers 5.24 builds no tiny one of its config"),
];

/// The classes that vLLM registers, and whether transformers has them too.
fn registered() -> Vec<(String, bool)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/vllm_registry.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let classes = file["classes"].as_object().unwrap().iter();
    classes.map(|(class, entry)| (class.clone(), entry["in_transformers"] == true)).collect()
}

fn in_a_file() -> BTreeSet<String> {
    families().into_iter().flat_map(|family| family.architectures.clone()).collect()
}

/// The classes that vLLM registers and that neither a file is about nor transformers has.
pub(super) fn known_to_vllm_alone() -> Vec<String> {
    let in_a_file = in_a_file();
    let alone =
        registered().into_iter().filter(|(class, in_transformers)| !in_transformers && !in_a_file.contains(class));
    alone.map(|(class, _)| class).collect()
}

/// The model types of transformers that tiny models were made of and that no file is about.
pub(super) fn types_in_no_file() -> Vec<String> {
    let in_a_file = in_a_file();
    let types: BTreeSet<String> = families().into_iter().flat_map(|family| family.model_types.clone()).collect();
    let facts = all_facts().into_iter().filter(|facts| facts["tensors"].is_array() && facts["variant"].is_null());
    let of = facts.filter_map(|facts| {
        let (kind, class) = (facts["model_type"].as_str()?.to_owned(), facts["architecture"].as_str()?.to_owned());
        (!types.contains(&kind) && !in_a_file.contains(&class)).then_some(kind)
    });
    of.collect()
}

#[test]
fn what_vllm_and_transformers_have_is_in_a_file_or_has_a_reason() {
    let (in_a_file, registered) = (in_a_file(), registered());
    assert!(registered.len() > 300, "{}", registered.len());
    let without = registered.iter().filter(|(class, in_transformers)| *in_transformers && !in_a_file.contains(class));
    let without: Vec<&str> = without.map(|(class, _)| class.as_str()).collect();
    assert_eq!(without, NO_FILE.map(|(class, _)| class));
}

#[test]
fn a_type_that_vllm_loads_is_in_a_file() {
    let without = types_in_no_file();
    let facts = all_facts();
    let loaded = facts.iter().filter(|facts| {
        let is_loaded = facts["vllm"]["layers"].is_array() && facts["vllm"]["load_error"].is_null();
        // By a class of its own: the fallback for any model of transformers is none.
        is_loaded
            && facts["vllm"]["registered"] != false
            && without.iter().any(|kind| facts["model_type"] == kind.as_str())
    });
    let loaded: Vec<&str> = loaded.filter_map(|facts| facts["model_type"].as_str()).collect();
    assert_eq!(loaded, [""; 0]);
}

/// The classes that SGLang registers.
fn registered_by_sglang() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/sglang.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    file["classes"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn servers_that_load_no_model_of_a_family_have_no_class_for_it_or_were_seen_to_fail() {
    let vllm: BTreeSet<String> = registered().into_iter().map(|(class, _)| class).collect();
    let sglang = registered_by_sglang();
    let has = |classes: &BTreeSet<String>, names: &[String]| names.iter().any(|name| classes.contains(name));
    let mut said = 0;
    for family in families() {
        let is_without = |server: &str| family.unserved.iter().any(|without| without == server);
        let why = family.unproven.as_deref().unwrap_or_default();
        let fails = why.starts_with("vLLM 0.33 fails to load") || why == "vLLM 0.33 fails to build it";
        if is_without("vLLM") {
            said += 1;
            assert!(fails || !has(&vllm, &family.architectures), "{}", family.name);
        }
        let is_gone = why.starts_with("vLLM 0.33 has no class") || why.starts_with("vLLM serves it no longer");
        assert!(!is_gone || is_without("vLLM"), "{}: {why}", family.name);
        assert!(!is_without("SGLang") || !has(&sglang, &family.architectures), "{}", family.name);
    }
    assert!(said > 40, "{said}");
}
