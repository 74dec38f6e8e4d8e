//! Quantized checkpoints of every layout as sources: decoded to what the tools that load them make of them, proven
//! against the source by another decoder, and passed through where the output can hold their bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::program::program;
use crate::support::random::{Random, Scene, Tensor, Tensors};

pub(super) const MODULE: &str = "model.layers.0.mlp.down_proj";
pub(super) const DECODE: &str = "rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n";

/// Stored tensors of a module and what a reference tool decodes them to; `tests/golden/decoders.py` makes them.
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) config: Value,
    pub(super) stored: Vec<(String, Tensor)>,
    pub(super) decoded: Tensor,
}

pub(super) fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/decoders");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vector {
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let config = metadata.metadata().as_ref().unwrap()["quantization_config"].clone();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| {
        let view = file.tensor(name).unwrap();
        Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() }
    };
    let names = file.names().into_iter().filter_map(|name| Some((name.strip_prefix("m.")?.to_owned(), tensor(name))));
    Vector {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        config: serde_json::from_str(&config).unwrap(),
        stored: names.collect(),
        decoded: tensor("decoded"),
    }
}

/// Runs the program; whether it succeeds, and what it prints.
pub(super) fn run(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program()).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

impl Vector {
    /// What the reference decodes to, with the sign of negative zeros: ModelOpt's table has none, and the same codes have
    /// one in compressed-tensors, which its converter hands them to.
    fn decoded(&self) -> Tensor {
        let mut decoded = self.decoded.clone();
        if self.name == "modelopt_nvfp4" {
            let codes = &self.stored.iter().find(|(name, _)| name == "weight").unwrap().1.bytes;
            let nibbles = codes.iter().flat_map(|byte| [byte & 0xF, byte >> 4]);
            for (value, code) in decoded.bytes.as_chunks_mut::<2>().0.iter_mut().zip(nibbles) {
                if *value == [0, 0] && code == 8 {
                    value[1] = 0x80;
                }
            }
        }
        decoded
    }

    pub(super) fn checkpoint(
        &self,
        scene: &Scene,
        name: &str,
        change: impl FnOnce(&mut Tensors, &mut Value),
    ) -> PathBuf {
        let mut tensors = Tensors::new();
        for (parameter, tensor) in &self.stored {
            tensors.insert(format!("{MODULE}.{parameter}"), tensor.clone());
        }
        let mut random = Random::new(3);
        // A norm whose factor has the name of DeepSeek-V4's scales.
        tensors.insert("model.norm.scale".to_owned(), random.tensor(&[8]));
        tensors.insert("model.embed_tokens.weight".to_owned(), random.tensor(&[4, 8]));
        let dtype = if self.decoded.dtype == safetensors::Dtype::F16 { "float16" } else { "bfloat16" };
        let mut config = json!({ "torch_dtype": dtype, "quantization_config": self.config });
        change(&mut tensors, &mut config);
        scene.checkpoint(name, &[tensors], config)
    }
}

#[test]
fn every_layout_decodes_to_the_bytes_of_the_reference_and_is_proven() {
    let vectors = vectors();
    assert!(vectors.len() >= 50, "{}", vectors.len());
    for vector in vectors {
        let (scene, name) = (Scene::new(), &vector.name);
        let source = vector.checkpoint(&scene, "source", |_, _| {});
        let output = scene.apply(DECODE, &source, "output", &["--threads", "2"]);
        assert!(*output.tensor(&format!("{MODULE}.weight")) == vector.decoded(), "{name}");
        assert_eq!(output.tensors.len(), 3, "{name}");
        assert!(output.config.get("quantization_config").is_none(), "{name}");
        // A row at a time.
        let small = scene.apply(DECODE, &source, "small", &["--max-memory", "32KiB"]);
        assert!(small == output, "{name}");
        let dirs = [scene.path("output"), source.clone()].map(|dir| dir.to_str().unwrap().to_owned());
        let verify = ["verify", &dirs[0], "--source", &dirs[1]];
        let (passes, said) = run(&verify);
        assert!(passes && said.contains("proven"), "{name}: {said}");
        // One bit of one weight.
        let path = scene.path("output").join("model.safetensors");
        let path = if path.exists() { path } else { scene.path("output").join("model-00001-of-00001.safetensors") };
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (passes, said) = run(&verify);
        assert!(!passes && said.contains("Q501"), "{name}: {said}");
    }
}

#[test]
fn what_is_decoded_can_be_quantized_again() {
    for vector in vectors().iter().filter(|vector| vector.decoded.shape[1] % 32 == 0) {
        let scene = Scene::new();
        let source = vector.checkpoint(&scene, "source", |_, _| {});
        scene.apply(DECODE, &source, "plain", &[]);
        for scheme in ["FP8_DYNAMIC", "W8A8"] {
            let rule = format!("{{scheme: {scheme}, targets: Linear}}");
            let recipe = format!("format: compressed-tensors\nserving: warn\nrules:\n- {rule}\n");
            let twice = scene.apply(&recipe, &scene.path("plain"), &format!("{scheme}-twice"), &[]);
            let again = recipe.replace("targets:", "requantize: true, targets:");
            let once = scene.apply(&again, &source, scheme, &[]);
            assert!(once.tensors == twice.tensors, "{}: {scheme}", vector.name);
            let dirs = [scene.path(scheme), source.clone()].map(|dir| dir.to_str().unwrap().to_owned());
            let (passes, said) = run(&["verify", &dirs[0], "--source", &dirs[1]]);
            assert!(passes, "{}: {scheme}: {said}", vector.name);
        }
    }
}

#[test]
fn exponents_become_float_scales_without_loss() {
    let vector = vectors().into_iter().find(|vector| vector.name == "fp8_e8m0").unwrap();
    let scene = Scene::new();
    let recipe = "format: compressed-tensors\nserving: warn\nrules:\n- {scheme: FP8_BLOCK, block_size: [1, 128], \
                  scale_dtype: f32, scale_search: lossless, requantize: true, targets: Linear}\n";
    // Under the least exponents BF16 has no bits for the least codes: what is decoded is rounded, and not lossless.
    for (first, is_lossless) in [(0, false), (4, true)] {
        let source = vector.checkpoint(&scene, &format!("source-{first}"), |tensors, _| {
            for (parameter, of_row) in [("weight", 256), ("weight_scale_inv", 2)] {
                let tensor = tensors.get_mut(&format!("{MODULE}.{parameter}")).unwrap();
                tensor.shape[0] -= first;
                tensor.bytes.drain(..first * of_row);
            }
        });
        let name = format!("output-{first}");
        let output = scene.apply(recipe, &source, &name, &[]);
        let (passes, said) =
            run(&["verify", scene.path(&name).to_str().unwrap(), "--source", source.to_str().unwrap()]);
        assert!(passes && said.contains("proven"), "{said}");
        assert_eq!(said.contains("1 quantized, lossless"), is_lossless, "{said}");
        // Every block has the code of 448, so that codes stay and scales are the exponents' numbers.
        let stored = |parameter: &str| &vector.stored.iter().find(|(name, _)| name == parameter).unwrap().1.bytes;
        let codes = &output.tensor(&format!("{MODULE}.weight")).bytes;
        let scales = &output.tensor(&format!("{MODULE}.weight_scale")).bytes;
        assert!(codes[(4 - first) * 256..] == stored("weight")[4 * 256..]);
        let expected = stored("weight_scale_inv")[4 * 2..]
            .iter()
            .flat_map(|byte| f32::from_bits(u32::from(*byte) << 23).to_le_bytes());
        assert!(scales[(4 - first) * 8..].iter().copied().eq(expected));
    }
}

/// The layouts whose bytes `format: compressed-tensors` holds, and those that `format: fp8` holds.
#[test]
fn bytes_pass_through_where_the_output_can_hold_them() {
    for vector in vectors() {
        let (scene, name) = (Scene::new(), vector.name.as_str());
        let source = vector.checkpoint(&scene, "source", |_, _| {});
        for format in ["fp8", "compressed-tensors"] {
            let recipe =
                format!("format: {format}\nserving: warn\nrules:\n- {{scheme: PASSTHROUGH, targets: Linear}}\n");
            let holds = match (format, name) {
                ("fp8", "fp8_static") => true,
                // With the source's own config.
                (_, name) if name.starts_with("awq") || name.starts_with("gptq") => true,
                // Blocks of 1 x 128 are of these tests alone.
                ("fp8", _) | (_, "modelopt_nvfp4") => false,
                (_, name) => !name.contains("e8m0"),
            };
            let dir = scene.path(format);
            let dirs = ["--model", source.to_str().unwrap(), "--output", dir.to_str().unwrap()];
            match scene.run("apply", &recipe, &dirs) {
                Ok(_) => assert!(holds, "{name} in {format}"),
                Err(said) => {
                    assert!(!holds, "{name} in {format}: {said}");
                    continue;
                }
            }
            let (passes, said) = run(&["verify", dir.to_str().unwrap(), "--source", source.to_str().unwrap()]);
            assert!(passes && said.contains("proven"), "{name} in {format}: {said}");
            // What was passed through decodes to the same.
            let decoded = scene.apply(DECODE, &dir, &format!("{format}-decoded"), &[]);
            assert!(*decoded.tensor(&format!("{MODULE}.weight")) == vector.decoded, "{name} in {format}");
            let (passes, said) = run(&["lint", dir.to_str().unwrap()]);
            assert!(passes, "{name} in {format}: {said}");
        }
    }
}

/// A change of a source, and the words of the refusal.
type Damage = (&'static str, &'static str, &'static [&'static str]);

#[test]
fn a_tensor_that_is_lost_or_misshapen_is_refused_by_name() {
    const LOST: &[Damage] = &[
        ("fp8_e8m0_scale", "scale", &["has no", "weight_scale_inv"]),
        ("fp8_static", "weight_scale_inv", &["has no"]),
        ("mxfp8", "weight_scale_inv", &["is MXFP8 and has no"]),
        ("fp4_experts", "scale", &["is MXFP4 and has no"]),
        ("ct_mxfp4", "weight_scale", &["is MXFP4 and has no"]),
        ("ct_mxfp6", "weight_scale", &["is MXFP6 and has no"]),
        ("ct_nvfp4", "weight_global_scale", &["is NVFP4 and has no", "weight_global_scale"]),
        ("ct_int4_group_asym", "weight_zero_point", &["has no", "weight_zero_point"]),
        ("ct_int3_channel_sym", "weight_shape", &["has no", "weight_shape"]),
        ("awq_bf16", "qzeros", &["is AWQ and has no", "qzeros"]),
        ("awq_f16", "scales", &["is AWQ and has no", "scales"]),
        ("gptq_int4_f16", "qzeros", &["is GPTQ and has no", "qzeros"]),
        ("gptq_int8_order_v2", "g_idx", &["is GPTQ and has no", "g_idx"]),
        ("gptq_int2_f16", "scales", &["is GPTQ and has no", "scales"]),
    ];
    for (name, parameter, words) in LOST {
        let vector = vectors().into_iter().find(|vector| vector.name == *name).unwrap();
        let scene = Scene::new();
        let tensor = format!("{MODULE}.{parameter}");
        let lost = vector.checkpoint(&scene, "lost", |tensors, _| drop(tensors.remove(&tensor).unwrap()));
        let said = scene.refused(DECODE, &lost);
        for word in words.iter().chain(&["quantized already", MODULE]) {
            assert!(said.contains(word), "{name}: {word}: {said}");
        }
        // `lint` finds the same.
        let (passes, found) = run(&["lint", lost.to_str().unwrap()]);
        assert!(!passes && found.contains(MODULE), "{name}: {found}");
        let short = vector.checkpoint(&scene, "short", |tensors, _| {
            let tensor = tensors.get_mut(&tensor).unwrap();
            match tensor.shape.first() {
                Some(&rows) if rows > 1 => {
                    tensor.bytes.truncate(tensor.bytes.len() / rows * (rows - 1));
                    tensor.shape[0] -= 1;
                }
                _ => {
                    tensor.shape = vec![2];
                    tensor.bytes = tensor.bytes.repeat(2);
                }
            }
        });
        let said = scene.refused(DECODE, &short);
        assert!(said.contains(" shape") && said.contains(MODULE), "{name}: {said}");
        let (passes, found) = run(&["lint", short.to_str().unwrap()]);
        assert!(!passes && found.contains(MODULE), "{name}: {found}");
        let wrong = vector.checkpoint(&scene, "wrong", |tensors, _| {
            let tensor = tensors.get_mut(&tensor).unwrap();
            tensor.dtype = match tensor.dtype.bitsize() {
                8 => safetensors::Dtype::I8,
                16 => safetensors::Dtype::I16,
                32 => safetensors::Dtype::U32,
                _ => safetensors::Dtype::U64,
            };
        });
        let said = scene.refused(DECODE, &wrong);
        assert!(said.contains(&tensor) && said.contains("not "), "{name}: {said}");
        let (passes, found) = run(&["lint", wrong.to_str().unwrap()]);
        assert!(!passes && found.contains(MODULE), "{name}: {found}");
    }
}

#[test]
fn a_config_inside_text_config_is_read_and_taken_away() {
    let vector = vectors().into_iter().find(|vector| vector.name == "fp8_f32").unwrap();
    let scene = Scene::new();
    let nested = vector.checkpoint(&scene, "nested", |_, config| {
        let quantization = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
        config["text_config"] = json!({ "hidden_size": 8, "quantization_config": quantization });
    });
    let output = scene.apply(DECODE, &nested, "output", &[]);
    assert!(*output.tensor(&format!("{MODULE}.weight")) == vector.decoded);
    assert_eq!(output.config["text_config"], json!({ "hidden_size": 8 }));
    let again =
        "format: compressed-tensors\nserving: warn\nrules:\n- {scheme: W8A8, requantize: true, targets: Linear}\n";
    let output = scene.apply(again, &nested, "again", &[]);
    assert_eq!(output.config["text_config"], json!({ "hidden_size": 8 }));
    assert_eq!(output.config["quantization_config"]["format"], "int-quantized");
    for name in ["output", "again"] {
        let dir = scene.path(name);
        let (passes, said) = run(&["verify", dir.to_str().unwrap(), "--source", nested.to_str().unwrap()]);
        assert!(passes, "{name}: {said}");
    }
}

#[test]
fn a_declaration_of_modelopt_may_stand_in_a_file_of_its_own() {
    let vector = vectors().into_iter().find(|vector| vector.name == "modelopt_nvfp4").unwrap();
    let scene = Scene::new();
    let source = vector.checkpoint(&scene, "source", |_, config| {
        config.as_object_mut().unwrap().remove("quantization_config");
    });
    let said = scene.refused(DECODE, &source);
    assert!(said.contains("says how"), "{said}");
    let file = source.join("hf_quant_config.json");
    let declared = |algorithm: &str| {
        let quantization = json!({ "quant_algo": algorithm, "kv_cache_quant_algo": null, "exclude_modules": [] });
        json!({ "producer": { "name": "modelopt", "version": "0.47.0" }, "quantization": quantization }).to_string()
    };
    std::fs::write(&file, declared("NVFP4")).unwrap();
    let output = scene.apply(DECODE, &source, "output", &[]);
    assert!(*output.tensor(&format!("{MODULE}.weight")) == vector.decoded());
    assert!(
        output.config.get("quantization_config").is_none()
            && !scene.path("output").join("hf_quant_config.json").exists()
    );
    let dirs = [scene.path("output"), source.clone()].map(|dir| dir.to_str().unwrap().to_owned());
    let (passes, said) = run(&["verify", &dirs[0], "--source", &dirs[1]]);
    assert!(passes && said.contains("proven"), "{said}");
    let (passes, said) = run(&["lint", &dirs[1]]);
    assert!(passes, "{said}");
    // What is wrong with it is told of this file.
    std::fs::write(&file, declared("NVFP9")).unwrap();
    let said = scene.refused(DECODE, &source);
    assert!(said.contains("`hf_quant_config.json` says `NVFP9`"), "{said}");
    let (_, said) = run(&["lint", &dirs[1]]);
    assert!(said.contains("hf_quant_config.json `/quantization/quant_algo`"), "{said}");
    std::fs::write(&file, "{").unwrap();
    let said = scene.refused(DECODE, &source);
    assert!(said.contains("`hf_quant_config.json`: ") && said.contains("JSON"), "{said}");
    // Two that differ.
    let both = vector.checkpoint(&scene, "both", |_, _| {});
    std::fs::write(both.join("hf_quant_config.json"), declared("FP8")).unwrap();
    let said = scene.refused(DECODE, &both);
    assert!(said.contains("`config.json` declares `NVFP4` and `hf_quant_config.json` `FP8`"), "{said}");
    let (passes, said) = run(&["lint", both.to_str().unwrap()]);
    assert!(!passes && said.contains("Q104") && said.contains("take away the one"), "{said}");
    std::fs::write(both.join("hf_quant_config.json"), declared("nvfp4")).unwrap();
    scene.apply(DECODE, &both, "same", &[]);
}

/// A change of a source that it can still be decoded after, and the rule of `lint` that tells of it.
type Fault = (&'static str, &'static str, fn(&mut Tensors, &mut Value));

#[test]
fn lint_tells_what_is_wrong_with_scales() {
    const FAULTS: &[Fault] = &[
        ("fp8_e8m0_scale", "Q406", |tensors, _| {
            let scale = tensors.get_mut(&format!("{MODULE}.scale")).unwrap();
            let number = |at: usize| if at == 7 { 0.75f32 } else { 0.5 };
            let bytes = (0..scale.bytes.len()).flat_map(|at| number(at).to_le_bytes()).collect();
            *scale = Tensor { dtype: safetensors::Dtype::F32, bytes, ..scale.clone() };
        }),
        ("fp8_ue8m0_uint8", "Q305", |_, config| {
            config["quantization_config"].as_object_mut().unwrap().remove("scale_fmt");
        }),
        ("fp8_e8m0", "Q401", |tensors, _| {
            tensors.get_mut(&format!("{MODULE}.weight_scale_inv")).unwrap().bytes[3] = 255
        }),
        ("mxfp8", "Q401", |tensors, _| tensors.get_mut(&format!("{MODULE}.weight_scale_inv")).unwrap().bytes[3] = 255),
        ("fp4_experts", "Q401", |tensors, _| tensors.get_mut(&format!("{MODULE}.scale")).unwrap().bytes[3] = 255),
        ("modelopt_nvfp4", "Q401", |tensors, _| {
            tensors.get_mut(&format!("{MODULE}.weight_scale_2")).unwrap().bytes = (-1.0f32).to_le_bytes().to_vec();
        }),
        ("modelopt_nvfp4", "Q304", |tensors, _| {
            let scale = tensors.get_mut(&format!("{MODULE}.input_scale")).unwrap();
            (scale.shape, scale.bytes) = (vec![2], scale.bytes.repeat(2));
        }),
        ("fp8_f32", "Q407", |tensors, _| {
            let scale = tensors.get_mut(&format!("{MODULE}.weight_scale_inv")).unwrap();
            scale.bytes = 3000f32.to_le_bytes().repeat(scale.bytes.len() / 4);
        }),
        ("fp8_static", "Q313", |tensors, _| drop(tensors.remove(&format!("{MODULE}.activation_scale")).unwrap())),
        ("fp8_static", "Q303", |tensors, config| {
            config["quantization_config"]["weight_block_size"] = json!([128, 128]);
            config["quantization_config"]["activation_scheme"] = json!("dynamic");
            tensors.remove(&format!("{MODULE}.activation_scale")).unwrap();
            let scale = tensors.remove(&format!("{MODULE}.weight_scale_inv")).unwrap();
            tensors.insert(format!("{MODULE}.weight_scale"), Tensor { shape: vec![1, 1], ..scale });
        }),
        ("ct_mxfp4", "Q305", |tensors, _| {
            tensors.get_mut(&format!("{MODULE}.weight_scale")).unwrap().dtype = safetensors::Dtype::F8_E8M0;
        }),
        ("mxfp8", "Q104", |_, config| config["quantization_config"]["weight_block_size"] = json!([128, 128])),
        ("modelopt_nvfp4", "Q104", |_, config| {
            config["quantization_config"].as_object_mut().unwrap().remove("quant_algo");
        }),
    ];
    for (name, code, change) in FAULTS {
        let vector = vectors().into_iter().find(|vector| vector.name == *name).unwrap();
        let scene = Scene::new();
        let sound = vector.checkpoint(&scene, "sound", |_, _| {});
        let (_, said) = run(&["lint", sound.to_str().unwrap()]);
        assert!(!said.contains(code), "{name}: {said}");
        let faulty = vector.checkpoint(&scene, "faulty", change);
        let (_, said) = run(&["lint", faulty.to_str().unwrap()]);
        assert!(said.contains(code), "{name} {code}: {said}");
    }
}

#[test]
fn a_scale_of_activations_is_carried_and_held_against_the_source() {
    let vector = vectors().into_iter().find(|vector| vector.name == "fp8_static").unwrap();
    let scene = Scene::new();
    let source = vector.checkpoint(&scene, "source", |_, _| {});
    for (format, suffix) in [("fp8", "activation_scale"), ("compressed-tensors", "input_scale")] {
        let recipe = format!("format: {format}\nserving: warn\nrules:\n- {{scheme: PASSTHROUGH, targets: Linear}}\n");
        let output = scene.apply(&recipe, &source, format, &[]);
        let scale = &vector.stored.iter().find(|(name, _)| name == "activation_scale").unwrap().1;
        assert_eq!(output.tensor(&format!("{MODULE}.{suffix}")), scale);
        let path = scene.path(format).join("model.safetensors");
        let file = std::fs::read(&path).unwrap();
        let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize + 8;
        let text: Value = serde_json::from_slice(&file[8..header]).unwrap();
        let at = header + text[format!("{MODULE}.{suffix}")]["data_offsets"][0].as_u64().unwrap() as usize;
        let mut altered = file.clone();
        altered[at] ^= 1;
        std::fs::write(&path, altered).unwrap();
        let (passes, said) =
            run(&["verify", path.parent().unwrap().to_str().unwrap(), "--source", source.to_str().unwrap()]);
        assert!(!passes && said.contains("Q501") && said.contains(suffix), "{format}: {said}");
    }
}
