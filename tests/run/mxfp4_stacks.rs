//! gpt-oss's experts, stacked as blocks of MXFP4, as a source: decoded whole to what transformers loads, taken apart into
//! matrices, quantized again, and passed through; each proven against the source.

use std::path::{Path, PathBuf};
use std::process::Command;

use half::bf16;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::support::program::program;
use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const EXPERTS: &str = "model.layers.0.mlp.experts";
const DECODE: &str = "rules:\n- {scheme: DEQUANTIZE, targets: Experts}\n";
const PASS: &str = "rules:\n- {scheme: PASSTHROUGH, targets: Experts}\n";

/// The experts of a layer as they are stored, and what transformers decodes them to; `tests/golden/decoders.py` makes
/// them.
struct Layer {
    config: Value,
    stored: Vec<(String, Tensor)>,
    decoded: Vec<(String, Tensor)>,
}

fn layer() -> Layer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stacks/gpt_oss.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let config = metadata.metadata().as_ref().unwrap()["quantization_config"].clone();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let under = |prefix: &str| {
        let named = file.tensors().into_iter().filter_map(|(name, view)| {
            let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            Some((name.strip_prefix(prefix)?.to_owned(), tensor))
        });
        named.collect()
    };
    Layer { config: serde_json::from_str(&config).unwrap(), stored: under("m."), decoded: under("decoded.") }
}

impl Layer {
    fn decoded(&self, name: &str) -> &Tensor {
        &self.decoded.iter().find(|(stack, _)| stack == name).unwrap().1
    }

    /// The values of one matrix of a decoded stack: those of this expert, of every `of`th output from `first` on.
    fn matrix(&self, name: &str, expert: usize, first: usize, of: usize) -> Tensor {
        let stack = self.decoded(name);
        let &[_, inputs, outputs] = stack.shape.as_slice() else { panic!() };
        let elements = stack.bytes.as_chunks::<2>().0;
        let rows = (first..outputs).step_by(of);
        let of_row = |row| (0..inputs).map(move |input| elements[(expert * inputs + input) * outputs + row]);
        let bytes: Vec<[u8; 2]> = rows.flat_map(of_row).collect();
        Tensor { dtype: Dtype::BF16, shape: vec![outputs / of, inputs], bytes: bytes.concat() }
    }

    fn checkpoint(&self, scene: &Scene, name: &str, change: impl FnOnce(&mut Tensors, &mut Value)) -> PathBuf {
        let mut random = Random::new(5);
        let mut tensors = Tensors::new();
        tensors.insert("model.embed_tokens.weight".to_owned(), random.tensor(&[4, 64]));
        tensors.insert("model.layers.0.self_attn.o_proj.weight".to_owned(), random.tensor(&[64, 64]));
        tensors.insert("model.layers.0.mlp.router.weight".to_owned(), random.tensor(&[2, 64]));
        for (parameter, tensor) in &self.stored {
            tensors.insert(format!("{EXPERTS}.{parameter}"), tensor.clone());
        }
        let mut config = json!({
            "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "torch_dtype": "bfloat16",
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "quantization_config": self.config,
        });
        change(&mut tensors, &mut config);
        scene.checkpoint(name, &[tensors], config)
    }
}

/// Runs the program; whether it succeeds, and what it prints.
fn run(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program()).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn verify(output: &Path, source: &Path) -> (bool, String) {
    run(&["verify", output.to_str().unwrap(), "--source", source.to_str().unwrap()])
}

/// Alters a byte of a tensor in the only shard of a checkpoint.
fn spoil(dir: &Path, name: &str, at: usize) {
    let mut shards = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let path = shards.find(|path| path.extension().is_some_and(|extension| extension == "safetensors")).unwrap();
    let mut file = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize + 8;
    let text: Value = serde_json::from_slice(&file[8..header]).unwrap();
    let begin = text[name]["data_offsets"][0].as_u64().unwrap_or_else(|| panic!("{name} in {text}")) as usize;
    file[header + begin + at] ^= 1;
    std::fs::write(path, file).unwrap();
}

#[test]
fn stacks_decode_to_what_transformers_loads_and_are_proven() {
    let (scene, layer) = (Scene::new(), layer());
    let source = layer.checkpoint(&scene, "source", |_, _| {});
    let output = scene.apply(DECODE, &source, "output", &["--threads", "2"]);
    for name in ["gate_up_proj", "down_proj"] {
        assert!(output.tensor(&format!("{EXPERTS}.{name}")) == layer.decoded(name), "{name}");
        let bias = &layer.stored.iter().find(|(stored, _)| *stored == format!("{name}_bias")).unwrap().1;
        assert_eq!(output.tensor(&format!("{EXPERTS}.{name}_bias")), bias);
    }
    assert_eq!(output.tensors.len(), 7);
    assert!(output.config.get("quantization_config").is_none());
    // A row or two at a time, and in parallel.
    for memory in ["16KiB", "48KiB", "200KiB"] {
        let small = scene.apply(DECODE, &source, &format!("small-{memory}"), &["--max-memory", memory]);
        assert!(small == output, "{memory}");
    }
    let dir = scene.path("output");
    let (passes, said) = verify(&dir, &source);
    assert!(passes && said.contains("proven"), "{said}");
    let (passes, said) = run(&["lint", source.to_str().unwrap()]);
    assert!(passes && !said.contains("not checked"), "{said}");
    for (name, at) in [("gate_up_proj", 0), ("down_proj", 2 * 96 * 64 * 2 - 1)] {
        spoil(&dir, &format!("{EXPERTS}.{name}"), at);
        let (passes, said) = verify(&dir, &source);
        assert!(!passes && said.contains("Q501") && said.contains(name), "{said}");
        spoil(&dir, &format!("{EXPERTS}.{name}"), at);
    }
    assert!(verify(&dir, &source).0);
}

#[test]
fn stacks_come_apart_into_matrices_that_are_decoded_or_quantized_again() {
    let (scene, layer) = (Scene::new(), layer());
    let source = layer.checkpoint(&scene, "source", |_, _| {});
    let split = format!("experts: split\n{}", DECODE.replace("Experts", "Linear"));
    let output = scene.apply(&split, &source, "output", &[]);
    for expert in 0..2 {
        for (projection, stack, first, of) in
            [("gate_proj", "gate_up_proj", 0, 2), ("up_proj", "gate_up_proj", 1, 2), ("down_proj", "down_proj", 0, 1)]
        {
            let found = output.tensor(&format!("{EXPERTS}.{expert}.{projection}.weight"));
            assert!(*found == layer.matrix(stack, expert, first, of), "{expert} {projection}");
        }
    }
    let small = scene.apply(&split, &source, "small", &["--max-memory", "16KiB"]);
    assert!(small == output);
    let (passes, said) = verify(&scene.path("output"), &source);
    assert!(passes && said.contains("proven"), "{said}");
    spoil(&scene.path("small"), &format!("{EXPERTS}.1.up_proj.weight"), 96 * 64 * 2 - 1);
    let (passes, said) = verify(&scene.path("small"), &source);
    assert!(!passes && said.contains("Q501"), "{said}");
    // The same as quantizing what was decoded.
    let again = |requantize: &str| {
        format!(
            "format: compressed-tensors\nexperts: split\nserving: warn\nrules:\n\
             - {{scheme: FP8_DYNAMIC, {requantize}targets: 're:.*experts.*'}}\n"
        )
    };
    // Its largest numbers are beyond what F16 and sums of squares hold; those of a real model are not.
    let once = scene.apply(&again("requantize: true, "), &source, "once", &[]);
    scene.apply(DECODE, &source, "plain", &[]);
    let twice = scene.apply(&again(""), &scene.path("plain"), "twice", &[]);
    assert!(once.tensors == twice.tensors);
    let (passes, said) = verify(&scene.path("once"), &source);
    assert!(passes, "{said}");
    // The server's limit is told, and its help leads on.
    let said = scene.refused(&again("requantize: true, ").replace("serving: warn\n", ""), &source);
    assert!(said.contains("loads these experts stacked") && said.contains("`experts: keep`"), "{said}");
}

#[test]
fn stacks_pass_through_with_their_config() {
    let (scene, layer) = (Scene::new(), layer());
    let source = layer.checkpoint(&scene, "source", |_, _| {});
    for format in ["fp8", "compressed-tensors"] {
        let output = scene.apply(&format!("format: {format}\n{PASS}"), &source, format, &[]);
        let before = Output::read(&source);
        let bytes = |output: &Output| -> Tensors {
            output.tensors.iter().map(|(name, (_, tensor))| (name.clone(), tensor.clone())).collect()
        };
        assert!(bytes(&output) == bytes(&before));
        assert_eq!(output.config, before.config);
        let (passes, said) = verify(&scene.path(format), &source);
        assert!(passes && said.contains("proven"), "{said}");
        let decoded = scene.apply(DECODE, &scene.path(format), &format!("{format}-decoded"), &[]);
        assert!(decoded.tensor(&format!("{EXPERTS}.down_proj")) == layer.decoded("down_proj"));
        for part in ["gate_up_proj_blocks", "down_proj_scales"] {
            spoil(&scene.path(format), &format!("{EXPERTS}.{part}"), 5);
            let (passes, said) = verify(&scene.path(format), &source);
            assert!(!passes && said.contains("Q501") && said.contains(part), "{said}");
            spoil(&scene.path(format), &format!("{EXPERTS}.{part}"), 5);
        }
    }
    // No config tells servers of stacks in MXFP4 and of another form.
    let attention = "- {scheme: FP8_DYNAMIC, targets: 're:.*o_proj'}\n";
    let both = format!("format: compressed-tensors\n{PASS}{attention}");
    let said = scene.refused(&both, &source);
    assert!(said.contains("goes on to declare") && said.contains("`DEQUANTIZE`"), "{said}");
    let output = scene.apply(&both.replace("PASSTHROUGH", "DEQUANTIZE"), &source, "both", &[]);
    assert_eq!(output.tensor("model.layers.0.self_attn.o_proj.weight").dtype, Dtype::F8_E4M3);
    let (passes, said) = verify(&scene.path("both"), &source);
    assert!(passes, "{said}");
    let half = "rules:\n- {scheme: PASSTHROUGH, targets: 're:.*down_proj'}\n- {scheme: DEQUANTIZE, targets: Experts}\n";
    let said = scene.refused(half, &source);
    assert!(said.contains("would be decoded") && said.contains("or decode all"), "{said}");
    let said = scene.refused(&format!("experts: split\n{}", PASS.replace("Experts", "Linear")), &source);
    assert!(said.contains("`experts: keep`"), "{said}");
    // A stack is no matrix that a scheme could take.
    let whole = "format: compressed-tensors\nrules:\n- {scheme: FP8_DYNAMIC, requantize: true, targets: Experts}\n";
    let said = scene.refused(whole, &source);
    assert!(said.contains("is not a matrix") && said.contains("`experts: split`"), "{said}");
    // Nothing takes them.
    let said = scene.refused(&format!("format: compressed-tensors\nrules:\n{attention}"), &source);
    assert!(said.contains("2 MXFP4 layers") && said.contains("`DEQUANTIZE` decodes them"), "{said}");
    assert!(said.contains("`targets: Experts` takes stacks"), "{said}");
}

/// A change of a source, the words of the refusal, and the rule of `lint` that tells of it.
type Damage = (&'static str, &'static str, fn(&mut Tensors, &mut Value));

#[test]
fn stacks_that_cannot_be_read_are_refused_by_name_and_linted() {
    const DAMAGES: &[Damage] = &[
        ("has no `model.layers.0.mlp.experts.down_proj_scales`", "Q301", |tensors, _| {
            tensors.remove(&format!("{EXPERTS}.down_proj_scales")).unwrap();
        }),
        ("has no `model.layers.0.mlp.experts.down_proj_blocks`", "Q302", |tensors, _| {
            tensors.remove(&format!("{EXPERTS}.down_proj_blocks")).unwrap();
        }),
        ("needs [2, 192, 2]", "Q304", |tensors, _| {
            tensors.get_mut(&format!("{EXPERTS}.gate_up_proj_scales")).unwrap().shape = vec![2, 2, 192];
        }),
        ("not U8 or F8_E8M0", "Q305", |tensors, _| {
            tensors.get_mut(&format!("{EXPERTS}.gate_up_proj_scales")).unwrap().dtype = Dtype::I8;
        }),
        ("is I8, not U8", "Q306", |tensors, _| {
            tensors.get_mut(&format!("{EXPERTS}.gate_up_proj_blocks")).unwrap().dtype = Dtype::I8;
        }),
        ("[experts, outputs, inputs / 32, 16]", "Q308", |tensors, _| {
            tensors.get_mut(&format!("{EXPERTS}.gate_up_proj_blocks")).unwrap().shape = vec![2, 192, 4, 8];
        }),
        ("no family's file says", "Q102", |_, config| {
            config["model_type"] = json!("qwen3_moe");
            config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
        }),
    ];
    for (number, (words, code, change)) in DAMAGES.iter().enumerate() {
        let (scene, layer) = (Scene::new(), layer());
        let source = layer.checkpoint(&scene, "source", change);
        let said = scene.refused(DECODE, &source);
        assert!(said.contains("cannot be decoded") && said.contains(words), "{number}: {said}");
        let (_, said) = run(&["lint", source.to_str().unwrap()]);
        assert!(said.contains(code), "{number} {code}: {said}");
    }
    let (scene, layer) = (Scene::new(), layer());
    let nan = layer.checkpoint(&scene, "nan", |tensors, _| {
        tensors.get_mut(&format!("{EXPERTS}.down_proj_scales")).unwrap().bytes[7] = 255;
    });
    let (passes, said) = run(&["lint", nan.to_str().unwrap()]);
    assert!(!passes && said.contains("Q401") && said.contains("position 7"), "{said}");
}

#[test]
fn scales_by_their_own_dtype_are_the_same_and_f32_holds_every_value() {
    let (scene, layer) = (Scene::new(), layer());
    let source = layer.checkpoint(&scene, "source", |tensors, config| {
        tensors.get_mut(&format!("{EXPERTS}.gate_up_proj_scales")).unwrap().dtype = Dtype::F8_E8M0;
        config["torch_dtype"] = json!("float32");
    });
    let output = scene.apply(DECODE, &source, "output", &[]);
    let found = output.tensor(&format!("{EXPERTS}.gate_up_proj"));
    assert_eq!(found.dtype, Dtype::F32);
    let wide = |raw: &[u8; 2]| bf16::from_le_bytes(*raw).to_f32().to_le_bytes();
    let expected: Vec<[u8; 4]> = layer.decoded("gate_up_proj").bytes.as_chunks().0.iter().map(wide).collect();
    assert!(found.bytes == expected.concat());
    let (passes, said) = verify(&scene.path("output"), &source);
    assert!(passes, "{said}");
}
