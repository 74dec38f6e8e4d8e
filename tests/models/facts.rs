//! The catalogue against `facts/`: what transformers says each tensor is, and what vLLM does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::models::catalogue::{KnownFused, ListFormat, NotLoaded, families};
use qwen_fp8::checkpoint::models::{LayerKind, Model, Part, layers_of_first_expert};
use qwen_fp8::checkpoint::pattern::Pattern;
use serde_json::{Value, json};

/// What is known of one architecture, and the catalogue's model of it.
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) model: Model,
}

/// The facts of all architectures, in order of their names.
pub(super) fn all_facts() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/facts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

/// The facts of all architectures that a family of the catalogue has.
pub(super) fn of_known_families() -> Vec<Facts> {
    let known = |value: Value| {
        let config = json!({ "architectures": [value["architecture"]], "model_type": value["model_type"] });
        let config = Config::parse(config.to_string().as_bytes()).unwrap();
        let model = Model::of(&config, std::iter::empty());
        Facts { name: value["model_type"].as_str().unwrap().to_owned(), value, model }
    };
    let all = all_facts().into_iter().map(known);
    all.filter(|facts| facts.model.family().is_some() && facts.value["tensors"].is_array()).collect()
}

pub(super) fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The name of a tensor of this form: the first layer, the first expert.
pub(super) fn name_of(form: &str) -> String {
    form.replace('*', "0")
}

impl Facts {
    fn vllm_layers(&self) -> impl Iterator<Item = &Value> {
        self.value["vllm"]["layers"].as_array().into_iter().flatten()
    }

    /// The forms of the tensors that vLLM loads into some layer, and whether it quantizes that online.
    fn quantized_by_vllm(&self) -> BTreeMap<&str, bool> {
        let layers = self.vllm_layers();
        let forms = layers.flat_map(|layer| {
            let is_quantized = layer["quantized"].as_bool().unwrap_or(false);
            texts(&layer["from"]).into_iter().map(move |form| (form, is_quantized))
        });
        forms.collect()
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        self.value["tensors"].as_array().unwrap().iter().map(|tensor| {
            let rank = tensor["shape"].as_array().unwrap().len();
            (tensor["form"].as_str().unwrap(), rank, tensor["class"].as_str().unwrap_or(""))
        })
    }
}

#[test]
fn linear_takes_what_vllm_builds_quantized() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        let by_vllm = facts.quantized_by_vllm();
        for (form, rank, _) in facts.tensors() {
            let layer = facts.model.layer(&name_of(form), rank);
            let Some(&is_quantized) = by_vllm.get(form) else { continue };
            compared += 1;
            // What another part or kind is kept for, `Part::why` and the docs say.
            if layer.is_quantizable() && !is_quantized {
                wrong.push(format!("{}: Linear takes {form}, which vLLM builds unquantized", facts.name));
            }
            if layer.kind == LayerKind::Conv && layer.part == Part::Decoder && is_quantized {
                wrong.push(format!("{}: {form} is no convolution: vLLM quantizes it", facts.name));
            }
        }
    }
    assert!(compared > 500, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn lists_are_asked_for_routers_where_the_family_says_so() {
    let mut wrong = Vec::new();
    for facts in of_known_families() {
        let by_vllm = facts.quantized_by_vllm();
        let routers = facts.tensors().filter(|(form, rank, _)| {
            form.ends_with(".weight") && facts.model.layer(&name_of(form), *rank).kind == LayerKind::Router
        });
        let asked: Vec<bool> = routers.filter_map(|(form, ..)| by_vllm.get(form).copied()).collect();
        if asked.contains(&true) != facts.model.asks_for_routers() && !asked.is_empty() {
            wrong.push(format!("{}: vLLM asks for routers: {}", facts.name, asked.contains(&true)));
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn linear_takes_nothing_but_linear_layers_and_experts() {
    let mut wrong = Vec::new();
    for facts in of_known_families() {
        let by_vllm = facts.quantized_by_vllm();
        for (form, rank, class) in facts.tensors() {
            let is_quantizable = facts.model.layer(&name_of(form), rank).is_quantizable();
            let is_linear = class.contains("Linear") || class.contains("Experts") || class == "Conv1D";
            if is_quantizable && !is_linear && by_vllm.get(form) != Some(&true) {
                wrong.push(format!("{}: {form} is a {class}", facts.name));
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn linear_takes_no_layer_of_a_tower() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        for tensor in facts.value["tensors"].as_array().unwrap() {
            let part = tensor["part"].as_str().unwrap_or("");
            let is_tower = part.contains("Vision") || part.contains("Audio");
            // A model's name may have the word, and so have that of its language model.
            if !is_tower || part.contains("Text") || tensor["class"] != "Linear" {
                continue;
            }
            compared += 1;
            let form = tensor["form"].as_str().unwrap();
            let rank = tensor["shape"].as_array().unwrap().len();
            if facts.model.layer(&name_of(form), rank).is_quantizable() {
                wrong.push(format!("{}: Linear takes {form} of {part}", facts.name));
            }
        }
    }
    assert!(compared > 500, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn lists_hold_the_names_that_vllm_asks_for() {
    let mut wrong = Vec::new();
    for facts in of_known_families() {
        let ranks: BTreeMap<&str, usize> = facts.tensors().map(|(form, rank, _)| (form, rank)).collect();
        for (format, listed, list) in
            [(ListFormat::Fp8, "listed_fp8", "list_fp8"), (ListFormat::CompressedTensors, "listed_ct", "list_ct")]
        {
            // Layers that vLLM builds quantized although every name on disk is in the list.
            for layer in facts.vllm_layers().filter(|layer| layer[listed] == "quantized") {
                let asked: BTreeSet<String> = texts(&layer[list]).into_iter().map(name_of).collect();
                for form in texts(&layer["from"]) {
                    let module = name_of(form.strip_suffix(".weight").unwrap_or(form));
                    let kind = facts.model.layer(&name_of(form), ranks.get(form).copied().unwrap_or(2)).kind;
                    // Stacks have a test of their own.
                    let is_stack = facts.model.stack(&name_of(form)).is_some();
                    if is_stack || matches!(kind, LayerKind::Bias | LayerKind::Other | LayerKind::Experts) {
                        continue;
                    }
                    // The parts of a layer that the class fuses stand for it.
                    let (_, last) = module.rsplit_once('.').unwrap_or(("", &module));
                    let fuses = |name: &String| {
                        let fused = name.rsplit('.').next().unwrap_or(name);
                        texts(&facts.value["vllm"]["packed"][fused]).contains(&last)
                    };
                    if facts.model.is_always_quantized(&module) {
                        continue;
                    }
                    let ours = facts.model.asked_name(&module, format).unwrap_or_else(|| module.clone());
                    let served = facts.model.served_name(&ours).into_owned();
                    let is_reached = |text: &str| {
                        let pattern = Pattern::parse_upstream(text).unwrap();
                        [&ours, &served].iter().any(|name| pattern.matches(name, kind).unwrap())
                    };
                    let is_reached_by_pattern = format == ListFormat::CompressedTensors
                        && facts.model.part(&module).is_some_and(|part| part != Part::Decoder)
                        && facts.model.listed_patterns().any(is_reached);
                    let parent =
                        |name: &str| name.rsplit_once('.').map_or_else(String::new, |(parent, _)| parent.to_owned());
                    let is_part = asked
                        .iter()
                        .any(|name| fuses(name) && (parent(name) == parent(&ours) || parent(name) == parent(&served)));
                    if !asked.contains(&ours) && !asked.contains(&served) && !is_reached_by_pattern && !is_part {
                        wrong.push(format!("{}: for {module} vLLM asks {asked:?}, and we list {ours}", facts.name));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// What compressed-tensors looks up in the list is the name inside of transformers.
#[test]
fn lists_reach_the_names_inside_of_transformers() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        let patterns = facts.model.listed_patterns().map(|text| (text, Pattern::parse_upstream(text).unwrap()));
        let patterns: Vec<(&str, Pattern)> = patterns.collect();
        let takes = |pattern: &Pattern, module: &str| pattern.matches(module, LayerKind::Other).unwrap();
        let kept = facts.value["tensors"].as_array().unwrap().iter().filter_map(|tensor| {
            let name = name_of(tensor["form"].as_str()?.strip_suffix(".weight")?);
            let is_linear = [&tensor["class"], &tensor["is"]].iter().any(|class| **class == "Linear");
            let is_matrix = is_linear && tensor["shape"].as_array()?.len() == 2;
            let layer = facts.model.layer(&format!("{name}.weight"), 2);
            (is_matrix && !layer.is_quantizable()).then_some((name, &tensor["in_transformers"]))
        });
        let kept: Vec<(String, &Value)> = kept.collect();
        for (module, inside) in &kept {
            for inside in texts(inside).into_iter().chain(inside.as_str()).map(name_of) {
                compared += 1;
                let inside = inside.strip_suffix(".weight").unwrap_or(&inside);
                if !patterns.iter().any(|(_, pattern)| takes(pattern, inside)) {
                    wrong.push(format!("{}: no pattern reaches {module}, in transformers {inside}", facts.name));
                }
            }
        }
        // `lint` takes a pattern that reaches none of vLLM's names for a mistake.
        let taken = |pattern: &Pattern| kept.iter().filter(|(name, _)| takes(pattern, name)).collect::<Vec<_>>();
        for (text, pattern) in &patterns {
            let mut taken = taken(pattern).into_iter().peekable();
            let is_any = taken.peek().is_some();
            if is_any && !taken.any(|(name, _)| takes(pattern, &facts.model.served_name(name))) {
                wrong.push(format!("{}: {text} reaches the names on disk alone", facts.name));
            }
        }
    }
    assert!(compared > 200, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// The shape of a tensor, and whether its class holds the matrices of experts.
fn is_stack(tensor: &Value) -> bool {
    let class = tensor["class"].as_str().unwrap_or("");
    tensor["shape"].as_array().is_some_and(|shape| shape.len() == 3) && class.contains("Experts")
}

#[test]
fn no_stack_of_experts_is_anything_else() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    // Of families that are not known too: names alone must tell.
    for value in all_facts() {
        let config = json!({ "architectures": [value["architecture"]], "model_type": value["model_type"] });
        let model = Model::of(&Config::parse(config.to_string().as_bytes()).unwrap(), std::iter::empty());
        for tensor in value["tensors"].as_array().into_iter().flatten().filter(|tensor| is_stack(tensor)) {
            let name = name_of(tensor["form"].as_str().unwrap());
            let kind = model.layer(&name, 3).kind;
            compared += 1;
            if kind != LayerKind::Experts {
                wrong.push(format!("{}: {name} is a {kind}", value["model_type"]));
            }
        }
    }
    assert!(compared > 40, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn lists_hold_the_names_of_experts_that_stay_stacked() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        let tensors = facts.value["tensors"].as_array().unwrap();
        let stacks: BTreeSet<&str> =
            tensors.iter().filter(|tensor| is_stack(tensor)).filter_map(|tensor| tensor["form"].as_str()).collect();
        for (format, listed, list) in
            [(ListFormat::Fp8, "listed_fp8", "list_fp8"), (ListFormat::CompressedTensors, "listed_ct", "list_ct")]
        {
            for layer in facts.vllm_layers().filter(|layer| layer[listed] == "quantized") {
                let Some(stack) = texts(&layer["from"]).into_iter().find(|form| stacks.contains(form)) else {
                    continue;
                };
                // Where no name reaches them, as the facts say, a pattern has to.
                if layer[list].is_null() {
                    assert!(facts.model.listed_patterns().next().is_some(), "{}", facts.name);
                    continue;
                }
                let stack = name_of(stack);
                let experts = facts.model.experts_of_stack(&stack);
                let names = match format {
                    ListFormat::Fp8 => vec![experts.to_string()],
                    ListFormat::CompressedTensors => layers_of_first_expert(&experts).to_vec(),
                };
                let ours: BTreeSet<String> = names
                    .iter()
                    .map(|name| facts.model.asked_name(name, format).unwrap_or_else(|| name.clone()))
                    .flat_map(|name| [facts.model.served_name(&name).into_owned(), name])
                    .collect();
                compared += 1;
                for asked in texts(&layer[list]).into_iter().map(name_of).filter(|asked| !ours.contains(asked)) {
                    wrong.push(format!("{}: vLLM asks for {asked}, and we list {ours:?}", facts.name));
                }
            }
        }
    }
    assert!(compared > 10, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn experts_that_are_no_stacks_are_listed_with_their_router() {
    // DBRX has those of a layer in matrices, one below the other, under no name that ends in `.weight`.
    let all = of_known_families();
    let dbrx = all.iter().find(|facts| facts.name == "dbrx").unwrap();
    let experts = dbrx.vllm_layers().find(|layer| layer["class"] == "DbrxExperts").unwrap();
    let asked = dbrx.model.asked_name("transformer.blocks.0.ffn.router.layer", ListFormat::Fp8);
    assert_eq!(texts(&experts["list_fp8"]).into_iter().map(name_of).collect::<Vec<_>>(), asked.as_slice());
}

/// Sets of `packed_modules_mapping` that are others here: the class of vLLM, its name for the layer, and the reason.
const OTHERWISE_FUSED: [(&str, &str, &str); 4] = [
    ("BeamForCausalLM", "qkv_proj", "its attention is built with the gate too, as `qkv_gate_proj`"),
    ("OlmoHybridForCausalLM", "qkv_proj", "only of `self_attn`; the layer of linear attention has its gate too"),
    (
        "TransformersForCausalLM",
        "merged_proj_9_gate_proj_7_up_proj",
        "the name is no layer's: it tells the shares of BitNet's kernel",
    ),
    ("WhisperForConditionalGeneration", "kv_proj", "only of `encoder_attn`; elsewhere the query is fused with them"),
];

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[test]
fn what_vllm_packs_is_fused() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        let packed = facts.value["vllm"]["packed"].as_object().cloned().unwrap_or_default();
        let class = facts.value["vllm"]["class"].as_str().unwrap_or("").to_owned();
        let modules: BTreeSet<String> = facts
            .tensors()
            .filter(|(_, rank, _)| *rank == 2)
            .filter_map(|(form, ..)| form.strip_suffix(".weight").map(name_of))
            .collect();
        for (layer, parts) in &packed {
            let parts = texts(parts);
            if parts.len() < 2 || OTHERWISE_FUSED.iter().any(|(of, name, _)| *of == class && name == layer) {
                continue;
            }
            let parents = modules.iter().filter_map(|module| module.strip_suffix(&format!(".{}", parts[0])));
            // The order is that of the rows, which decides where a block may end.
            for parent in
                parents.filter(|parent| parts.iter().all(|part| modules.contains(&format!("{parent}.{part}"))))
            {
                compared += 1;
                let ours = facts.model.fused(&format!("{parent}.{}", parts[0]));
                // A part of Qwen2.5-Omni's towers is called `attn.q`, and one of Qwen4's lies in its indexer.
                let same = |fused: &KnownFused| {
                    fused.layer == last(layer)
                        && fused.parts.iter().map(|part| last(part)).eq(parts.iter().map(|part| last(part)))
                };
                if !ours.is_some_and(same) {
                    wrong.push(format!(
                        "{} ({class}): vLLM packs {parts:?} of {parent} as {layer}, here {ours:?}",
                        facts.name
                    ));
                }
            }
        }
    }
    assert!(compared > 200, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

/// What a class says that it packs is not all that its loader puts together: a model inside of it may say it, or the loader alone.
#[test]
fn what_vllm_puts_together_is_fused() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in of_known_families() {
        let matrices: BTreeSet<&str> =
            facts.tensors().filter(|(_, rank, _)| *rank == 2).map(|(form, ..)| form).collect();
        for layer in facts.value["vllm"]["layers"].as_array().into_iter().flatten() {
            let parts = texts(&layer["from"]).into_iter().filter(|form| matrices.contains(form));
            let parts: Vec<String> = parts.filter_map(|form| form.strip_suffix(".weight").map(name_of)).collect();
            let is_of_experts = layer["class"].as_str().is_some_and(|class| class.contains("Expert"));
            let stays = layer["quantized"].as_bool() == Some(false) || layer["quantized"].is_null();
            if parts.len() < 2 || is_of_experts || stays {
                continue;
            }
            compared += 1;
            let ours: BTreeSet<_> = parts.iter().map(|part| facts.model.fused_layer(part)).collect();
            if ours.len() > 1 || ours.contains(&None) {
                wrong.push(format!("{}: vLLM puts {parts:?} into one layer, here {ours:?}", facts.name));
            }
        }
    }
    assert!(compared > 300, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

#[test]
fn families_that_nobody_has_loaded_say_so() {
    let facts = all_facts();
    let mut wrong = Vec::new();
    for family in families() {
        let of_family = facts.iter().filter(|facts| {
            facts["architecture"].as_str().is_some_and(|class| family.architectures.iter().any(|known| known == class))
        });
        let is_loaded = |facts: &Value| facts["vllm"]["layers"].is_array() && facts["vllm"]["load_error"].is_null();
        let loaded: Vec<&str> =
            of_family.filter(|facts| is_loaded(facts)).filter_map(|facts| facts["model_type"].as_str()).collect();
        let refuses = |not: &NotLoaded| {
            not.server.starts_with("vLLM") && not.layers.is_empty() && not.format.is_none() && not.scales.is_none()
        };
        // What vLLM refuses in every format needs no second word on it.
        if loaded.is_empty() != (family.unproven.is_some() || family.not_loaded.iter().any(refuses)) {
            wrong.push(format!("{}: vLLM loaded {loaded:?}, and its file says {:?}", family.origin, family.unproven));
        }
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}
