//! The catalogue against `sglang.json`, what the source of SGLang's model classes says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::models::catalogue::{FamilyFile, KnownScales, ListFormat, families};
use serde_json::Value;

use super::facts::{Facts, name_of, of_known_families, texts};

/// The classes of SGLang by name.
fn classes() -> BTreeMap<String, Value> {
    classes_in("sglang.json")
}

fn classes_in(file: &str) -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(file);
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    file["classes"].as_object().unwrap().clone().into_iter().collect()
}

/// The tiny models that SGLang has a class for, with what its source says.
fn of_sglang() -> Vec<(Facts, Value)> {
    let classes = classes();
    let with_class = |facts: Facts| {
        let class = classes.get(facts.value["architecture"].as_str()?)?.clone();
        Some((facts, class))
    };
    of_known_families().into_iter().filter_map(with_class).collect()
}

/// Whether a file warns of the scales of blocks in SGLang.
fn warns_of_blocks(family: &FamilyFile) -> bool {
    family.not_loaded.iter().any(|not| {
        not.server.starts_with("SGLang")
            && not.format == Some(ListFormat::Fp8)
            && not.scales == Some(KnownScales::Block)
            && not.layers.is_empty()
    })
}

#[test]
fn scales_of_blocks_that_a_loader_renames_are_a_warning() {
    let (classes, mut wrong, mut lost) = (classes(), Vec::new(), 0);
    for family in families() {
        let of = family.architectures.iter().filter_map(|class| classes.get(class));
        let of: Vec<&Value> = of.collect();
        let loses = |class: &&Value| class["loses_scales_of_blocks"] == true;
        let is_lost = of.iter().copied().any(|class| loses(&class));
        // A class that picks the language model by config.json loses them with some, and so does one of several.
        let may_be = of.iter().any(|class| class["loads_by_config"] == true) || is_lost && !of.iter().all(loses);
        lost += usize::from(is_lost);
        // What vLLM refuses outright needs no second word on it.
        let is_refused = family.not_loaded.iter().any(|not| {
            not.server.starts_with("vLLM")
                && not.format == Some(ListFormat::Fp8)
                && not.scales == Some(KnownScales::Block)
        });
        if warns_of_blocks(&family) != is_lost && !may_be && !is_refused {
            wrong.push(format!("{}: SGLang loses the scales of blocks: {is_lost}", family.origin));
        }
    }
    assert!(lost > 6, "{lost}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// Layers that SGLang puts together otherwise than the catalogue says: its class, its name for the layer, and the reason.
const OTHERWISE_FUSED: [(&str, &str, &str); 2] = [
    ("KimiLinearForCausalLM", "fused_fg_b_proj", "only where nothing is quantized"),
    (
        "KimiLinearForCausalLM",
        "fused_qkvbfg_a_proj",
        "only where nothing is quantized; else `qkv_proj` and the others apart",
    ),
];

#[test]
fn what_sglang_puts_together_is_fused() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (facts, class) in of_sglang() {
        let architecture = facts.value["architecture"].as_str().unwrap_or("").to_owned();
        let modules: BTreeSet<String> = facts
            .tensors()
            .filter(|(form, rank, _)| *rank == 2 && facts.model.layer(&name_of(form), 2).is_quantizable())
            .filter_map(|(form, ..)| form.strip_suffix(".weight").map(name_of))
            .collect();
        for (layer, parts) in class["fused"].as_object().into_iter().flatten() {
            let parts = texts(parts);
            let otherwise = OTHERWISE_FUSED.iter().any(|(of, name, _)| *of == architecture && name == layer);
            let parents = modules.iter().filter_map(|module| module.strip_suffix(&format!(".{}", parts[0])));
            for parent in
                parents.filter(|parent| parts.iter().all(|part| modules.contains(&format!("{parent}.{part}"))))
            {
                compared += 1;
                let of = |part: &str| facts.model.fused(&format!("{parent}.{part}")).map(|fused| &fused.layer);
                let ours: BTreeSet<_> = parts.iter().map(|part| of(part)).collect();
                if (ours.len() > 1 || ours.contains(&None)) && !otherwise {
                    wrong.push(format!(
                        "{} ({architecture}): SGLang puts {parts:?} of {parent} together as {layer}, here {ours:?}",
                        facts.name
                    ));
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// Layers of one class that its file builds unquantized for another: the class, the layer, and the reason.
const ELSEWHERE_UNQUANTIZED: [(&str, &str, &str); 3] = [
    ("BeamForCausalLM", "qkv_gate_proj", "only where nothing is quantized; else `qkv_proj` and `gate_proj` apart"),
    ("Qwen2_5_VLForConditionalGeneration", "gate_proj", "that of the vision tower; the language model is Qwen2's"),
    ("Qwen2_5_VLForConditionalGeneration", "up_proj", "that of the vision tower; the language model is Qwen2's"),
];

#[test]
fn what_sglang_builds_unquantized_is_kept_or_said() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (facts, class) in of_sglang() {
        let architecture = facts.value["architecture"].as_str().unwrap_or("").to_owned();
        let unquantized = texts(&class["unquantized"]);
        for (form, ..) in facts.tensors().filter(|(form, rank, _)| *rank == 2 && form.ends_with(".weight")) {
            let module = name_of(form.strip_suffix(".weight").unwrap_or(form));
            let fused = facts.model.fused(&module).map(|fused| fused.layer.clone());
            let last = module.rsplit('.').next().unwrap_or(&module);
            let Some(name) = unquantized.iter().find(|name| **name == last || fused.as_deref() == Some(**name)) else {
                continue;
            };
            compared += 1;
            let is_said = facts
                .model
                .families()
                .iter()
                .flat_map(|family| &family.not_loaded)
                .any(|not| not.server.starts_with("SGLang") && !not.layers.is_empty() && not.is_about(&module));
            let elsewhere = ELSEWHERE_UNQUANTIZED.iter().any(|(of, layer, _)| *of == architecture && layer == name);
            if facts.model.layer(&name_of(form), 2).is_quantizable() && !is_said && !elsewhere {
                wrong.push(format!("{} ({architecture}): SGLang builds {module} unquantized", facts.name));
            }
        }
    }
    assert!(compared > 20, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// SGLang takes its general class where it has none of a model's own; that one stops at the target `Linear` of
/// `format: compressed-tensors`, and where transformers' class takes no other attention, at the model itself.
#[test]
fn what_the_general_class_of_sglang_cannot_load_is_said() {
    let (classes, general) = (classes(), classes_in("sglang_general.json"));
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for family in families() {
        let of_sglang = family.not_loaded.iter().filter(|not| not.server.starts_with("SGLang"));
        let said: Vec<_> = of_sglang.filter(|not| not.layers.is_empty() && not.scales.is_none()).collect();
        for class in &family.architectures {
            let names = std::slice::from_ref(class);
            let is_said = |format: Option<ListFormat>| {
                said.iter().any(|not| not.is_of(names) && (not.format.is_none() || not.format == format))
            };
            let by_name = said.iter().any(|not| not.classes.contains(class));
            if classes.contains_key(class) && by_name {
                wrong.push(format!("{}: SGLang has a class of its own for {class}", family.origin));
            }
            let Some(general) = general.get(class) else { continue };
            compared += 1;
            let takes_attention = general["takes_attention"] == true;
            let needed = if takes_attention { Some(ListFormat::CompressedTensors) } else { None };
            if !is_said(needed) && !family.unserved.iter().any(|server| server == "SGLang") {
                wrong.push(format!("{}: nothing is said of SGLang's general class for {class}", family.origin));
            }
        }
    }
    assert!(compared > 100, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}
