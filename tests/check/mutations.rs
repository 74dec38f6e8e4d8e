//! Every way to spoil a good result that we could think of, and the rule that must notice.

use std::fs;
use std::path::Path;

use qwen_fp8::check::{Finding, Severity, lint, verify};
use serde_json::{Value, json};

use crate::folder::{Base, Folder, INDEX, Tensor, source};

const Q: &str = "model.language_model.layers.0.self_attn.q_proj";
const K: &str = "model.language_model.layers.0.self_attn.k_proj";
const V: &str = "model.language_model.layers.0.self_attn.v_proj";
const O: &str = "model.language_model.layers.0.self_attn.o_proj";
const UP: &str = "model.language_model.layers.0.mlp.up_proj";
const DOWN: &str = "model.language_model.layers.1.mlp.down_proj";
const NORM: &str = "model.language_model.norm.weight";
const QKV: &str = "model.visual.blocks.0.attn.qkv";

/// A way to spoil a result.
struct Mutation {
    name: &'static str,
    base: Base,
    /// The rule that must notice.
    code: &'static str,
    /// Whether `lint`, which reads no weight and knows no source, must notice as well.
    by_lint: bool,
    spoil: Spoil,
}

enum Spoil {
    /// What is in the files; headers and index follow.
    Content(fn(&mut Folder)),
    /// The files themselves.
    Files(fn(&Path)),
}

use Spoil::{Content, Files};

fn weight(module: &str) -> String {
    format!("{module}.weight")
}

fn scale_inv(module: &str) -> String {
    format!("{module}.weight_scale_inv")
}

fn scale(module: &str) -> String {
    format!("{module}.weight_scale")
}

/// The first element that is not zero, nor the largest, from the middle on.
fn some_element(tensor: &Tensor) -> usize {
    let middle = tensor.bytes.len() / 2;
    let found = tensor.bytes[middle..].iter().position(|code| (0x20..0x70).contains(&(code & 0x7F)));
    middle + found.unwrap()
}

fn set_scale(folder: &mut Folder, value: f32) {
    folder.tensor(&scale_inv(UP)).bytes[4..6].copy_from_slice(&half_bits(value));
}

/// BF16 by truncation.
fn half_bits(value: f32) -> [u8; 2] {
    ((value.to_bits() >> 16) as u16).to_le_bytes()
}

/// Replaces the entries of the vision tower.
fn list_vision_as(folder: &mut Folder, entry: &str) {
    folder.edit_list(|list| {
        list.retain(|name| !name.as_str().unwrap().contains("visual"));
        list.push(json!(entry));
    });
}

fn edit_json(path: &Path, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn first_shard(dir: &Path) -> std::path::PathBuf {
    let mut shards: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    shards.sort();
    shards.swap_remove(0)
}

fn edit_bytes(path: &Path, edit: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const fn content(
    name: &'static str,
    base: Base,
    code: &'static str,
    by_lint: bool,
    spoil: fn(&mut Folder),
) -> Mutation {
    Mutation { name, base, code, by_lint, spoil: Content(spoil) }
}

const fn files(name: &'static str, code: &'static str, by_lint: bool, spoil: fn(&Path)) -> Mutation {
    Mutation { name, base: Base::Block, code, by_lint, spoil: Files(spoil) }
}

const STRUCTURE: bool = true;
const CONTENT: bool = false;

static MUTATIONS: &[Mutation] = &[
    // Values.
    content("a code one step off", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(Q));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 1;
    }),
    content("a code one step off, a scale per row", Base::Channel, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(Q));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 1;
    }),
    content("a flipped sign", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(DOWN));
        let at = some_element(tensor);
        tensor.bytes[at] ^= 0x80;
    }),
    content("the last code", Base::Block, "Q502", CONTENT, |folder| {
        *folder.tensor(&weight(DOWN)).bytes.last_mut().unwrap() ^= 0x08;
    }),
    content("an end that was never written", Base::Block, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&weight(UP)).bytes;
        let at = bytes.len() - 4096;
        bytes[at..].fill(0);
    }),
    content("rows moved by one", Base::Block, "Q502", CONTENT, |folder| {
        let tensor = folder.tensor(&weight(UP));
        let columns = tensor.shape[1];
        tensor.bytes.rotate_right(columns);
    }),
    content("a NaN code", Base::Block, "Q402", CONTENT, |folder| folder.tensor(&weight(V)).bytes[77] = 0x7F),
    content("a negative NaN code", Base::Channel, "Q402", CONTENT, |folder| folder.tensor(&weight(V)).bytes[0] = 0xFF),
    content("the lowest bit of a BF16 scale", Base::Block, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[2] ^= 1;
    }),
    content("the lowest bit of an F32 scale", Base::BlockF32, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[0] ^= 1;
    }),
    content("the highest bit of a scale's exponent", Base::Block, "Q502", CONTENT, |folder| {
        folder.tensor(&scale_inv(O)).bytes[1] ^= 0x20;
    }),
    content("a doubled scale", Base::Channel, "Q502", CONTENT, |folder| {
        // One up in the exponent.
        let bytes = &mut folder.tensor(&scale(UP)).bytes[..2];
        let doubled = u16::from_le_bytes([bytes[0], bytes[1]]) + 0x80;
        bytes.copy_from_slice(&doubled.to_le_bytes());
    }),
    content("scales of two weights swapped", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&scale_inv(Q), &scale_inv(O));
    }),
    content("two scales of a weight swapped", Base::Block, "Q502", CONTENT, |folder| {
        let bytes = &mut folder.tensor(&scale_inv(UP)).bytes;
        let (a, b) = bytes.split_at_mut(2);
        assert_ne!(a[..2], b[..2]);
        a[..2].swap_with_slice(&mut b[..2]);
    }),
    content("weights of two layers swapped", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&weight(Q), &weight(O))
    }),
    content("two layers swapped, scales and all", Base::Block, "Q502", CONTENT, |folder| {
        folder.swap(&weight(Q), &weight(O));
        folder.swap(&scale_inv(Q), &scale_inv(O));
    }),
    content("an infinite scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::INFINITY)),
    content("a NaN scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::NAN)),
    content("a scale of zero", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, 0.0)),
    content("a negative scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, -0.01)),
    content("an uninitialised scale", Base::Block, "Q401", STRUCTURE, |folder| set_scale(folder, f32::MIN)),
    content("a flipped bit in a norm", Base::Block, "Q501", CONTENT, |folder| folder.tensor(NORM).bytes[5] ^= 4),
    content("a flipped bit in the head", Base::Channel, "Q501", CONTENT, |folder| {
        *folder.tensor("lm_head.weight").bytes.last_mut().unwrap() ^= 0x80;
    }),
    content("a copied tensor of zeros", Base::Block, "Q501", CONTENT, |folder| {
        folder.tensor(&weight(QKV)).bytes.fill(0)
    }),
    // Tensors.
    content("a lost norm", Base::Block, "Q503", CONTENT, |folder| drop(folder.remove(NORM))),
    content("a lost bias", Base::Block, "Q503", CONTENT, |folder| drop(folder.remove(&format!("{QKV}.bias")))),
    content("a lost weight, its scale left", Base::Block, "Q302", STRUCTURE, |folder| drop(folder.remove(&weight(O)))),
    content("a lost weight and its scale", Base::Block, "Q503", CONTENT, |folder| {
        folder.remove(&weight(O));
        folder.remove(&scale_inv(O));
    }),
    content("one of k and v lost", Base::Block, "Q311", STRUCTURE, |folder| {
        folder.remove(&weight(V));
        folder.remove(&scale_inv(V));
    }),
    content("a lost layer", Base::Block, "Q312", STRUCTURE, |folder| {
        for tensors in folder.shards.values_mut() {
            tensors.retain(|name, _| !name.contains("language_model.layers.1."));
        }
    }),
    content("a lost head", Base::Block, "Q310", STRUCTURE, |folder| drop(folder.remove("lm_head.weight"))),
    content("a lost scale", Base::Block, "Q301", STRUCTURE, |folder| drop(folder.remove(&scale_inv(DOWN)))),
    content("the lost scale of one of q, k and v", Base::Channel, "Q301", STRUCTURE, |folder| {
        folder.remove(&scale(K));
    }),
    content("an extra tensor", Base::Block, "Q504", CONTENT, |folder| {
        let norm = folder.tensor(NORM).clone();
        folder.add("model.language_model.extra.weight", norm);
    }),
    content("an extra scale on a layer that stays", Base::Block, "Q302", STRUCTURE, |folder| {
        let scale = folder.tensor(&scale_inv(Q)).clone();
        folder.add(&scale_inv(QKV), scale);
    }),
    content("a scale under both names", Base::Block, "Q307", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale_inv(Q)).clone();
        folder.add(&scale(Q), tensor);
    }),
    content("an input scale though activations are dynamic", Base::Channel, "Q307", STRUCTURE, |folder| {
        let tensor = Tensor { dtype: "F32".to_owned(), shape: vec![1], bytes: 1f32.to_le_bytes().to_vec() };
        folder.add(&format!("{Q}.input_scale"), tensor);
    }),
    content("a renamed tensor", Base::Block, "Q503", CONTENT, |folder| {
        folder.rename(NORM, "model.language_model.norm_.weight")
    }),
    content("`weight_scale` for `weight_scale_inv`", Base::Block, "Q303", STRUCTURE, |folder| {
        folder.rename(&scale_inv(Q), &scale(Q));
    }),
    content("`weight_scale_inv` for `weight_scale`", Base::Channel, "Q303", STRUCTURE, |folder| {
        folder.rename(&scale(Q), &scale_inv(Q));
    }),
    content("a weight of another FP8", Base::Block, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "F8_E5M2".to_owned();
    }),
    content("a weight as plain bytes", Base::Channel, "Q306", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).dtype = "U8".to_owned();
    }),
    content("a copied tensor of another dtype", Base::Block, "Q505", CONTENT, |folder| {
        folder.tensor(NORM).dtype = "F16".to_owned();
    }),
    content("a copied tensor of another shape", Base::Block, "Q505", CONTENT, |folder| {
        folder.tensor(&weight(QKV)).shape.reverse();
    }),
    content("a scale of integers", Base::Block, "Q305", STRUCTURE, |folder| {
        folder.tensor(&scale_inv(UP)).dtype = "I16".to_owned();
    }),
    content("a scale read as F16", Base::Block, "Q506", CONTENT, |folder| {
        folder.tensor(&scale_inv(UP)).dtype = "F16".to_owned();
    }),
    content("a transposed scale", Base::Block, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale_inv(UP));
        assert_ne!(tensor.shape[0], tensor.shape[1]);
        tensor.shape.reverse();
    }),
    content("a transposed weight", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.tensor(&weight(UP)).shape.reverse();
    }),
    content("a flat scale per row", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.tensor(&scale(UP)).shape.pop();
    }),
    content("a scale that is too short", Base::Channel, "Q304", STRUCTURE, |folder| {
        let tensor = folder.tensor(&scale(UP));
        tensor.shape[0] -= 1;
        tensor.bytes.truncate(tensor.shape[0] * 2);
    }),
    content("a weight that was not quantized", Base::Block, "Q202", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        *folder.tensor(&weight(DOWN)) = original.tensor(&weight(DOWN)).clone();
        folder.remove(&scale_inv(DOWN));
    }),
    content("one of q, k and v left out and listed", Base::Block, "Q207", STRUCTURE, |folder| {
        let mut original = Folder::read(&source());
        *folder.tensor(&weight(Q)) = original.tensor(&weight(Q)).clone();
        folder.remove(&scale_inv(Q));
        folder.edit_list(|list| list.push(json!(Q)));
    }),
    content("no tensor quantized", Base::Block, "Q103", STRUCTURE, |folder| {
        folder.shards = Folder::read(&source()).shards;
    }),
    // config.json.
    content("a list entry removed", Base::Block, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| list.retain(|name| name != QKV));
    }),
    content("a list entry removed, compressed-tensors", Base::Channel, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| list.retain(|name| name != QKV));
    }),
    content("a list entry misspelt", Base::Block, "Q202", STRUCTURE, |folder| {
        folder.edit_list(|list| {
            list.iter_mut().filter(|name| **name == QKV).for_each(|name| *name = json!(format!("{QKV}s")))
        });
    }),
    content("a list entry for a quantized layer", Base::Block, "Q201", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!(DOWN)));
    }),
    content("a list entry for nothing", Base::Block, "Q206", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!("model.language_model.layers.7.mlp.down_proj")));
    }),
    content("a list entry that is a number", Base::Block, "Q209", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!(7)))
    }),
    content("a prefix for the vision tower", Base::Block, "Q203", STRUCTURE, |folder| {
        list_vision_as(folder, "model.visual")
    }),
    content("a prefix, compressed-tensors", Base::Channel, "Q203", STRUCTURE, |folder| {
        list_vision_as(folder, "model.visual")
    }),
    content("a regex where none is read", Base::Block, "Q204", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*visual.*")
    }),
    content("a regex over the file's names", Base::Channel, "Q205", STRUCTURE, |folder| {
        list_vision_as(folder, "re:model.visual.*")
    }),
    content("a regex that does not parse", Base::Channel, "Q209", STRUCTURE, |folder| {
        list_vision_as(folder, "re:.*(visual")
    }),
    content("a regex that takes in quantized layers", Base::Channel, "Q201", STRUCTURE, |folder| {
        folder.edit_list(|list| list.push(json!("re:.*down_proj")));
    }),
    content("lists that differ", Base::Block, "Q106", STRUCTURE, |folder| {
        folder.quantization()["modules_to_not_convert"].as_array_mut().unwrap().pop();
    }),
    content("another block size", Base::Block, "Q304", STRUCTURE, |folder| {
        folder.quantization()["weight_block_size"] = json!([64, 128]);
    }),
    content("no block size", Base::Block, "Q303", STRUCTURE, |folder| {
        folder.quantization().remove("weight_block_size");
    }),
    content("a block size of zero", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization()["weight_block_size"] = json!([0, 128]);
    }),
    content("no `activation_scheme`", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization().remove("activation_scheme");
    }),
    content("static activations with blocks", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.quantization()["activation_scheme"] = json!("static");
    }),
    content("another `fmt`", Base::Block, "Q104", STRUCTURE, |folder| folder.quantization()["fmt"] = json!("e5m2")),
    content("no `quant_method`", Base::Block, "Q104", STRUCTURE, |folder| {
        drop(folder.quantization().remove("quant_method"))
    }),
    content("another `quant_method`", Base::Block, "Q102", STRUCTURE, |folder| {
        folder.quantization()["quant_method"] = json!("fbgemm_fp8");
    }),
    content("a `quantization_config` that is text", Base::Block, "Q104", STRUCTURE, |folder| {
        folder.config["quantization_config"] = json!("fp8");
    }),
    files("a number in it that no machine holds", "Q104", STRUCTURE, |dir| {
        edit_bytes(&dir.join("config.json"), |text| {
            let edited = String::from_utf8_lossy(text).replace("\"fmt\":", "\"x\":1e999,\"fmt\":");
            *text = edited.into_bytes();
        });
    }),
    content("no `quantization_config`", Base::Block, "Q101", STRUCTURE, |folder| {
        folder.config.remove("quantization_config");
    }),
    content("a status that is not `compressed`", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["quantization_status"] = json!("frozen");
    }),
    content("no groups", Base::Channel, "Q104", STRUCTURE, |folder| folder.quantization()["config_groups"] = json!({})),
    content("a group without targets", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["targets"] = json!([]);
    }),
    content("a group with other targets", Base::Channel, "Q210", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["targets"] = json!(["re:.*self_attn.*"]);
    }),
    content("another strategy", Base::Channel, "Q304", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["strategy"] = json!("tensor");
    }),
    content("asymmetric weights", Base::Channel, "Q104", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["symmetric"] = json!(false);
    }),
    content("another number of bits", Base::Channel, "Q102", STRUCTURE, |folder| {
        folder.quantization()["config_groups"]["group_0"]["weights"]["num_bits"] = json!(4);
    }),
    content("a key of the model changed", Base::Block, "Q508", CONTENT, |folder| {
        folder.config["text_config"]["rms_norm_eps"] = json!(1e-5);
    }),
    content("a key of the model lost", Base::Block, "Q508", CONTENT, |folder| {
        drop(folder.config.remove("image_token_id"))
    }),
    // Files.
    files("a truncated shard", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| bytes.truncate(bytes.len() - 1))
    }),
    files("bytes after the last tensor", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| bytes.extend([0; 8]))
    }),
    files("an empty shard", "Q001", STRUCTURE, |dir| edit_bytes(&first_shard(dir), Vec::clear)),
    files("a lost shard", "Q001", STRUCTURE, |dir| fs::remove_file(first_shard(dir)).unwrap()),
    files("a shifted offset in a header", "Q001", STRUCTURE, |dir| {
        edit_bytes(&first_shard(dir), |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let at = text.find("\"data_offsets\":[0,").unwrap() + "\"data_offsets\":[".len();
            bytes[at] = b'2';
        });
    }),
    files("an index entry to another shard", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| {
            let other = index["weight_map"]["lm_head.weight"].clone();
            let map = index["weight_map"].as_object_mut().unwrap();
            *map.values_mut().find(|shard| **shard != other).unwrap() = other.clone();
        });
    }),
    files("a tensor that is not in the index", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| drop(index["weight_map"].as_object_mut().unwrap().remove(NORM)));
    }),
    files("a ghost in the index", "Q001", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| {
            index["weight_map"]["ghost.weight"] = index["weight_map"][NORM].clone();
        });
    }),
    files("no index", "Q001", STRUCTURE, |dir| fs::remove_file(dir.join(INDEX)).unwrap()),
    files("a tensor in two shards", "Q001", STRUCTURE, |dir| {
        let mut folder = Folder::read(dir);
        let (norm, holder) = (folder.tensor(NORM).clone(), folder.shard_of(NORM));
        let other = folder.shards.keys().find(|shard| **shard != holder).unwrap().clone();
        folder.shards.get_mut(&other).unwrap().insert(NORM.to_owned(), norm);
        folder.write(dir);
    }),
    files("a cut config.json", "Q001", STRUCTURE, |dir| {
        edit_bytes(&dir.join("config.json"), |text| text.truncate(text.len() / 2))
    }),
    files("no config.json", "Q001", STRUCTURE, |dir| fs::remove_file(dir.join("config.json")).unwrap()),
    files("a wrong `total_size`", "Q002", STRUCTURE, |dir| {
        edit_json(&dir.join(INDEX), |index| index["metadata"]["total_size"] = json!(7));
    }),
    files("a shard of another run", "Q003", STRUCTURE, |dir| {
        fs::copy(first_shard(dir), dir.join("model-00009-of-00009.safetensors")).unwrap();
    }),
    files("a lost tokenizer", "Q509", CONTENT, |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap()),
    files("another tokenizer", "Q510", CONTENT, |dir| {
        edit_bytes(&dir.join("tokenizer.json"), |bytes| bytes.push(b'\n'))
    }),
];

/// Faults that are said and do not fail: nothing that a server loads is wrong.
const HARMLESS: [&str; 2] = ["Q002", "Q510"];

#[test]
fn every_mutation_is_caught() {
    for mutation in MUTATIONS {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::read(mutation.base.dir());
        if let Content(spoil) = mutation.spoil {
            spoil(&mut folder);
        }
        folder.write(dir.path());
        if let Files(spoil) = mutation.spoil {
            spoil(dir.path());
        }
        let name = mutation.name;
        let verification = verify(dir.path(), Some(&source()), &[]).unwrap();
        let found = codes(&verification.findings);
        assert!(found.contains(&mutation.code), "{name}: verify found {found:?}: {:#?}", verification.findings);
        assert_eq!(verification.sound, HARMLESS.contains(&mutation.code), "{name}: {:#?}", verification.findings);
        let linted = lint(dir.path()).unwrap();
        assert_eq!(codes(&linted).contains(&mutation.code), mutation.by_lint, "{name}: lint found {linted:#?}");
    }
}

#[test]
fn there_are_enough_mutations_and_each_has_its_name() {
    let mut names: Vec<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), MUTATIONS.len());
    assert!(names.len() >= 90, "{}", names.len());
}

#[test]
fn a_good_result_has_no_findings() {
    for base in [Base::Block, Base::BlockF32, Base::Channel] {
        let rewritten = tempfile::tempdir().unwrap();
        Folder::read(base.dir()).write(rewritten.path());
        for dir in [base.dir(), rewritten.path()] {
            let verification = verify(dir, Some(&source()), &[]).unwrap();
            assert_eq!(verification.findings, [], "{base:?}");
            assert_eq!(verify(dir, None, &[]).unwrap().findings, [], "{base:?}");
            assert_eq!(lint(dir).unwrap(), [], "{base:?}");
            assert_eq!(verification.tensors.len(), 70);
            let quantized = verification.tensors.iter().filter_map(|tensor| tensor.figures);
            assert!(quantized.clone().all(|figures| figures.sqnr_db.unwrap() > 31.0 && figures.cosine > 0.9996));
            assert_eq!(quantized.count(), 14);
        }
    }
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let json = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let verification = pool.install(|| verify(Base::Block.dir(), Some(&source()), &[]).unwrap());
        serde_json::to_string(&verification).unwrap()
    };
    assert_eq!(json(1), json(7));
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings
        .iter()
        .filter(|finding| finding.severity != Severity::Note || finding.rule.code == "Q102")
        .map(|finding| finding.rule.code)
        .collect()
}
