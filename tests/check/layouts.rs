//! Checkpoints as other tools write them: what is right has no findings, what servers load silently wrong has.

use std::collections::BTreeMap;

use qwen_fp8::check::{Finding, Severity, Verdict, lint};
use serde_json::{Value, json};

use crate::support::folder::{Base, Folder, Tensor, source};

fn linted(folder: &Folder) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    folder.write(dir.path());
    lint(dir.path(), &()).unwrap()
}

fn codes(folder: &Folder) -> Vec<(&'static str, Severity)> {
    let mut codes: Vec<_> = linted(folder).iter().map(|finding| (finding.rule.code, finding.severity)).collect();
    codes.dedup();
    codes
}

/// The spelling of the official lists: under `ignored_layers` alone, and each vision module under vLLM's name too.
#[test]
fn the_official_list_has_no_findings() {
    let mut folder = Folder::read(Base::Block.dir());
    folder.quantization().remove("modules_to_not_convert");
    folder.edit_list(|list| {
        let aliases: Vec<Value> = list
            .iter()
            .filter_map(|name| name.as_str().unwrap().strip_prefix("model."))
            .map(|name| json!(name.replace("attn.qkv", "attn.qkv_proj")))
            .collect();
        assert!(aliases.len() > 10);
        list.extend(aliases);
    });
    assert_eq!(linted(&folder), []);
    // vLLM's names alone list the tower as well.
    folder.edit_list(|list| list.retain(|name| !name.as_str().unwrap().starts_with("model.")));
    folder.edit_list(|list| {
        list.iter_mut().for_each(|name| *name = json!(name.as_str().unwrap().replace("qkv_proj", "qkv")))
    });
    assert_eq!(linted(&folder), []);
}

#[test]
fn the_regexes_of_llm_compressor_have_no_findings() {
    let mut folder = Folder::read(Base::Channel.dir());
    folder.quantization()["ignore"] = json!(["re:.*visual.*", "lm_head"]);
    assert_eq!(linted(&folder), []);
    // vLLM's own names begin with `visual.`.
    folder.quantization()["ignore"] = json!(["re:visual.*", "lm_head"]);
    assert_eq!(linted(&folder), []);
    // One that a general recipe carries along.
    folder.quantization()["ignore"] = json!(["re:.*visual.*", "re:.*mlp\\.gate$", "lm_head"]);
    assert_eq!(codes(&folder), [("Q206", Severity::Note)]);
}

#[test]
fn a_futile_entry_beside_full_names_is_a_warning() {
    let mut folder = Folder::read(Base::Block.dir());
    folder.edit_list(|list| list.extend([json!("model.visual"), json!("re:.*visual.*")]));
    assert_eq!(codes(&folder), [("Q203", Severity::Warning), ("Q204", Severity::Warning)]);
}

/// A dense model whose list names the router of its sister with experts.
#[test]
fn a_router_in_the_list_of_a_dense_model_hits_gate_proj() {
    let mut folder = Folder::read(Base::Block.dir());
    folder.edit_list(|list| list.push(json!("model.language_model.layers.0.mlp.gate")));
    let findings = linted(&folder);
    let hit = findings.iter().find(|finding| finding.rule.code == "Q208").unwrap();
    assert_eq!(hit.place.tensor.as_deref(), Some("model.language_model.layers.0.mlp.gate_proj"));
    assert_eq!(hit.severity, Severity::Warning);
}

#[test]
fn a_quantized_tower_head_or_embedding_is_noticed() {
    let mut folder = Folder::read(Base::Channel.dir());
    let quantize = |folder: &mut Folder, module: &str| {
        let tensor = folder.tensor(&format!("{module}.weight"));
        let elements = tensor.shape.iter().product();
        *tensor = Tensor { dtype: "F8_E4M3".to_owned(), shape: tensor.shape.clone(), bytes: vec![0x38; elements] };
        let rows = tensor.shape[0];
        let scale = Tensor { dtype: "F32".to_owned(), shape: vec![rows, 1], bytes: 1f32.to_le_bytes().repeat(rows) };
        folder.add(&format!("{module}.weight_scale"), scale);
        folder.edit_list(|list| list.retain(|name| name != module));
    };
    quantize(&mut folder, "model.visual.blocks.0.attn.qkv");
    assert_eq!(codes(&folder), [("Q211", Severity::Warning)]);
    quantize(&mut folder, "lm_head");
    assert_eq!(codes(&folder), [("Q210", Severity::Error), ("Q211", Severity::Warning)]);
    // vLLM builds a head quantized where a regex says so.
    folder.quantization()["config_groups"]["group_0"]["targets"] = json!(["Linear", "re:.*lm_head"]);
    assert_eq!(codes(&folder), [("Q211", Severity::Warning)]);
    quantize(&mut folder, "model.language_model.embed_tokens");
    assert_eq!(codes(&folder), [("Q210", Severity::Error), ("Q211", Severity::Warning)]);
}

/// Experts one by one, a router that stays, and what a server makes of a router that is not listed.
#[test]
fn experts_in_the_ignore_list_and_routers_outside_of_it_are_found() {
    let mut tensors = BTreeMap::new();
    let mut add = |name: &str, dtype: &str, shape: &[usize], element: &[u8]| {
        let bytes = element.repeat(shape.iter().product());
        tensors.insert(name.to_owned(), Tensor { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes });
    };
    for expert in 0..2 {
        for part in ["gate_proj", "up_proj", "down_proj"] {
            let module = format!("model.layers.0.mlp.experts.{expert}.{part}");
            add(&format!("{module}.weight"), "F8_E4M3", &[128, 256], &[0x38]);
            add(&format!("{module}.weight_scale_inv"), "F32", &[1, 2], &1f32.to_le_bytes());
        }
    }
    add("model.layers.0.mlp.gate.weight", "BF16", &[2, 128], &[0, 0]);
    add("lm_head.weight", "BF16", &[8, 128], &[0, 0]);
    let config = json!({
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_hidden_layers": 1,
        "tie_word_embeddings": false,
        "quantization_config": {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate"],
        },
    });
    let Value::Object(config) = config else { unreachable!("an object was written") };
    let shards = BTreeMap::from([("model-00001-of-00001.safetensors".to_owned(), tensors)]);
    let mut folder = Folder { shards, config, others: BTreeMap::new() };
    assert_eq!(linted(&folder), []);
    folder.edit_list(|list| list.truncate(1));
    assert_eq!(codes(&folder), [("Q202", Severity::Error)]);
    // Listing the stack lists each of its experts.
    folder.edit_list(|list| list.push(json!("model.layers.0.mlp.experts")));
    assert!(codes(&folder).contains(&("Q201", Severity::Error)));
}

#[test]
fn a_checkpoint_that_is_not_quantized_says_so() {
    let folder = Folder::read(&source());
    assert_eq!(codes(&folder), [("Q107", Severity::Note)]);
}

#[test]
fn a_format_that_is_not_checked_says_so() {
    let mut folder = Folder::read(Base::Channel.dir());
    folder.quantization()["config_groups"]["group_0"]["format"] = json!("mxfp8-quantized");
    assert_eq!(codes(&folder), [("Q102", Severity::Note)]);
}

/// compressed-tensors 0.20 leaves out what 0.19 writes as null, and has a key that 0.19 does not know.
#[test]
fn the_config_of_a_newer_release_has_no_findings() {
    use Base::{Channel, Int4, Int8, Mixed, Mxfp4, Mxfp6, Mxfp8, Nvfp4, Packed, Shifted};
    for base in [Channel, Int4, Int8, Mixed, Mxfp4, Mxfp6, Mxfp8, Nvfp4, Packed, Shifted] {
        let mut folder = Folder::read(base.dir());
        let config = folder.quantization();
        config.remove("sparsity_config").unwrap();
        config.insert("moe_sparsity_config".to_owned(), Value::Null);
        config.insert("version".to_owned(), json!("0.20.0"));
        for group in config["config_groups"].as_object_mut().unwrap().values_mut() {
            for key in ["weights", "input_activations"] {
                let Some(arguments) = group[key].as_object_mut() else { continue };
                let is_left_out = |key: &str, value: &Value| match key {
                    "actorder" | "block_structure" | "scale_dtype" => value.is_null(),
                    "observer" | "observer_kwargs" | "zp_dtype" => true,
                    _ => false,
                };
                arguments.retain(|key, value| !is_left_out(key, value));
            }
        }
        assert_eq!(linted(&folder), [], "{base:?}");
        let dir = tempfile::tempdir().unwrap();
        folder.write(dir.path());
        let verification = qwen_fp8::check::verify(dir.path(), Some(&source()), &[], &()).unwrap();
        assert_eq!(verification.findings, [], "{base:?}");
    }
}

/// vLLM takes FP8 activations beside MXFP4 in groups of any width and per token, and no others.
#[test]
fn activations_beside_mxfp4_may_be_fp8() {
    let with = |inputs: Value| {
        let mut folder = Folder::read(Base::Mxfp4.dir());
        folder.quantization()["config_groups"]["group_0"]["input_activations"] = inputs;
        codes(&folder)
    };
    let fp8 = |strategy: &str, width: Value| {
        let mut inputs = json!({"num_bits": 8, "type": "float", "symmetric": true, "dynamic": true});
        (inputs["strategy"], inputs["group_size"]) = (json!(strategy), width);
        inputs
    };
    for sound in [fp8("group", json!(128)), fp8("group", json!(64)), fp8("token", Value::Null)] {
        assert_eq!(with(sound), []);
    }
    let mut microscaled = fp8("group", json!(128));
    microscaled["scale_dtype"] = json!("torch.uint8");
    for wrong in [fp8("tensor", Value::Null), microscaled] {
        assert_eq!(with(wrong), [("Q104", Severity::Error)]);
    }
}

/// Matrices without rows or without columns, as many as a header can say of the others: nothing to read, and nothing to count.
#[test]
fn codes_without_elements_are_checked_at_once() {
    const HUGE: usize = 1 << 60;
    let dir = tempfile::tempdir().unwrap();
    use Base::{Block, Channel, Int4, Mxfp4, Mxfp6, Mxfp8, Nvfp4, Packed, Shifted};
    for base in [Block, Channel, Int4, Packed, Shifted, Mxfp8, Mxfp6, Mxfp4, Nvfp4] {
        for sides in [[HUGE, 0], [0, HUGE], [0, 0]] {
            let mut folder = Folder::read(base.dir());
            for (name, tensor) in folder.shards.values_mut().flatten() {
                let Some(parameter) = name.strip_prefix("model.language_model.layers.0.mlp.up_proj.") else { continue };
                // One number each: they say how the others are read.
                if parameter == "weight_global_scale" {
                    continue;
                }
                if parameter == "weight_shape" {
                    tensor.bytes = sides.map(|side| (side as i64).to_le_bytes()).concat();
                    continue;
                }
                (tensor.shape, tensor.bytes) = (sides.to_vec(), Vec::new());
            }
            folder.write(dir.path());
            let findings = lint(dir.path(), &()).unwrap();
            let verification = qwen_fp8::check::verify(dir.path(), Some(&source()), &[], &()).unwrap();
            assert!(verification.verdict == Verdict::AtFault, "{base:?} {sides:?}: {findings:?}");
            qwen_fp8::check::diff(&source(), dir.path(), &()).unwrap();
        }
    }
}
