//! `scale_search: lossless` of `NVFP4A16`: weights that were MXFP4 keep their values under scales that are powers of two,
//! as far as E4M3 has these; what lies further below the largest weight ends the run, or is rounded and counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::lossless::mxfp4_config;
use crate::support::program::program;
use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const ATTENTION: &str = "model.layers.0.self_attn";
const EXPERTS: &str = "model.layers.0.mlp.experts";
const ROWS: usize = 24;
const COLUMNS: usize = 96;
const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
/// The parts that servers fuse, each so much larger than the one before.
const PARTS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

fn e2m1(packed: &[u8], at: usize) -> f32 {
    let code = packed[at / 2] >> (at % 2 * 4) & 0xF;
    if code < 8 { VALUES[usize::from(code)] } else { -VALUES[usize::from(code & 7)] }
}

/// A weight in MXFP4 of compressed-tensors: codes in pairs, an exponent for 32 columns.
#[derive(Clone)]
struct Part {
    codes: Vec<u8>,
    exponents: Vec<u8>,
}

impl Part {
    /// Exponents are random between `least` and `largest`, and both occur, with groups that need them.
    fn new(random: &mut Random, least: u8, largest: u8) -> Self {
        let mut codes: Vec<u8> = (0..ROWS * COLUMNS / 2).map(|_| random.next() as u8).collect();
        let span = u32::from(largest - least) + 1;
        let mut exponents: Vec<u8> = (0..ROWS * COLUMNS / 32).map(|_| least + (random.next() % span) as u8).collect();
        (exponents[1], exponents[5]) = (least, largest);
        // 6 and 0.5 in both groups of 16 columns: no other scales hold them.
        for group in [1, 5].into_iter().flat_map(|group| [group * 16, group * 16 + 8]) {
            codes[group] = 0x17;
        }
        // Groups of zeros of either sign, and of fours.
        codes[3 * 16..3 * 16 + 8].fill(0x80);
        codes[4 * 16..4 * 16 + 8].fill(0x66);
        Self { codes, exponents }
    }

    fn values(&self) -> Vec<f32> {
        let power = |at: usize| 2f32.powi(i32::from(self.exponents[at / 32]) - 127);
        (0..ROWS * COLUMNS).map(|at| e2m1(&self.codes, at) * power(at)).collect()
    }
}

fn parts(span: u8) -> Vec<Part> {
    let mut random = Random::new(u64::from(span));
    // The largest of all is 127 in v; the least lies in q.
    (0..3).map(|part| Part::new(&mut random, 127 - span + part, 125 + part)).collect()
}

fn checkpoint(scene: &Scene, name: &str, parts: &[Part]) -> PathBuf {
    let mut tensors: Tensors = [("model.embed_tokens.weight".to_owned(), Random::new(3).tensor(&[4, 8]))].into();
    for (name, part) in PARTS.iter().zip(parts) {
        let tensor = |columns: usize, bytes: &[u8]| Tensor {
            dtype: Dtype::U8,
            shape: vec![ROWS, columns],
            bytes: bytes.to_vec(),
        };
        tensors.insert(format!("{ATTENTION}.{name}.weight_packed"), tensor(COLUMNS / 2, &part.codes));
        tensors.insert(format!("{ATTENTION}.{name}.weight_scale"), tensor(COLUMNS / 32, &part.exponents));
    }
    scene.checkpoint(name, &[tensors], mxfp4_config())
}

fn recipe(more: &str) -> String {
    format!(
        "format: compressed-tensors\nserving: warn\nrules:\n\
         - {{scheme: NVFP4A16, scale_search: lossless, requantize: true, targets: Linear{more}}}\n"
    )
}

/// The values of a layer in NVFP4, and its global scale, by the definitions of the format.
fn decoded(output: &Output, module: &str) -> (Vec<f32>, f32) {
    let [codes, scales, global] = ["weight_packed", "weight_scale", "weight_global_scale"]
        .map(|parameter| output.tensor(&format!("{module}.{parameter}")));
    assert_eq!((codes.dtype, scales.dtype, global.dtype), (Dtype::U8, Dtype::F8_E4M3, Dtype::F32));
    assert_eq!(scales.shape[1] * 8, codes.shape[1]);
    let global = f32::from_le_bytes(*global.bytes.first_chunk().unwrap());
    let scale = |code: u8| match (i32::from(code >> 3), code & 7) {
        (exponent @ 1.., 0) => 2f32.powi(exponent - 7),
        (0, mantissa @ (1 | 2 | 4)) => f32::from(mantissa) * 2f32.powi(-9),
        _ => panic!("{code:#x} is no power of two"),
    };
    let value = |at: usize| e2m1(&codes.bytes, at) * (scale(scales.bytes[at / 16]) / global);
    ((0..codes.bytes.len() * 2).map(value).collect(), global)
}

/// Runs the program; whether it succeeds, and what it prints.
fn run(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program()).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn verify(output: &Path, source: &Path) -> (bool, String) {
    run(&["verify", output.to_str().unwrap(), "--source", source.to_str().unwrap()])
}

#[test]
fn mxfp4_becomes_nvfp4_without_loss_as_far_as_its_scales_reach() {
    for span in [3, 17] {
        let (scene, parts) = (Scene::new(), parts(span));
        let source = checkpoint(&scene, "source", &parts);
        let output = scene.apply(&recipe(""), &source, "output", &["--threads", "2"]);
        for (name, part) in PARTS.iter().zip(&parts) {
            let (values, global) = decoded(&output, &format!("{ATTENTION}.{name}"));
            assert!(values == part.values(), "{name} {span}");
            // 6 × 2^0 is the largest of all parts.
            assert_eq!(global, 256.0, "{name}");
        }
        for (more, name) in [("--simd", "portable"), ("--max-memory", "64KiB")] {
            let again = scene.apply(&recipe(", on_lossy: error"), &source, name, &[more, name]);
            assert!(again.tensors == output.tensors, "{name}");
        }
        let (passes, said) = verify(&scene.path("output"), &source);
        assert!(passes && said.contains("proven") && said.contains("3 quantized, lossless"), "{said}");
    }
    // The scales of absolute maxima round.
    let (scene, parts) = (Scene::new(), parts(3));
    let source = checkpoint(&scene, "source", &parts);
    scene.apply(&recipe("").replace("scale_search: lossless, ", ""), &source, "absmax", &[]);
    let (passes, said) = verify(&scene.path("absmax"), &source);
    assert!(passes && !said.contains("quantized, lossless"), "{said}");
}

#[test]
fn a_group_too_far_below_the_largest_weight_is_an_error_or_rounded_and_counted() {
    let (scene, parts) = (Scene::new(), parts(18));
    let source = checkpoint(&scene, "source", &parts);
    let said = scene.refused(&recipe(""), &source);
    for words in ["q_proj", "the group at row 0, column 32", "2^-19 to 2^-16", "`on_lossy: round`", "the 21 up to"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let place = scene.path("rounded");
    let arguments = ["--model", source.to_str().unwrap(), "--output", place.to_str().unwrap(), "--json"];
    let json = scene.run("apply", &recipe(", on_lossy: round"), &arguments).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    let (values, global) = decoded(&Output::read(&place), &format!("{ATTENTION}.q_proj"));
    let expected = parts[0].values();
    let groups: Vec<usize> =
        (0..values.len() / 16).filter(|at| values[at * 16..][..16] != expected[at * 16..][..16]).collect();
    assert_eq!((groups[0], global), (2, 256.0));
    let found = json!([{ "tensor": format!("{ATTENTION}.q_proj.weight"), "granules": groups.len(), "first": [0, 32] }]);
    assert_eq!(report["lossy_granules"], found);
    let (passes, said) = verify(&place, &source);
    assert!(passes && said.contains("3 quantized, 2 of them lossless"), "{said}");
    // Weights with more bits than E2M1 has.
    let plain = scene.apply("rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n", &source, "plain", &[]);
    let mut tensors: Tensors = plain.tensors.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect();
    tensors.insert(format!("{ATTENTION}.k_proj.weight"), Random::new(1).tensor(&[ROWS, COLUMNS]));
    let trained = scene.checkpoint("trained", &[tensors], json!({ "torch_dtype": "bfloat16" }));
    let said = scene.refused(&recipe("").replace("requantize: true, ", ""), &trained);
    assert!(said.contains("two for each weight"), "{said}");
    let said = scene.refused(&recipe(", on_lossy: round").replace("scale_search: lossless, ", ""), &source);
    assert!(said.contains("`on_lossy` goes with `scale_search: lossless`"), "{said}");
}

/// An alteration of the bytes of a tensor.
type Change = fn(&mut [u8]);

#[test]
fn scales_that_are_not_the_least_are_found_though_every_value_is_right() {
    let (scene, parts) = (Scene::new(), parts(8));
    let source = checkpoint(&scene, "source", &parts);
    scene.apply(&recipe(""), &source, "output", &[]);
    let path = scene.path("output").join("model.safetensors");
    let sound = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*sound.first_chunk().unwrap()) as usize + 8;
    let text: Value = serde_json::from_slice(&sound[8..header]).unwrap();
    let change = |file: &mut [u8], part: &str, parameter: &str, change: Change| {
        let offsets = &text[format!("{ATTENTION}.{part}.{parameter}")]["data_offsets"];
        let [begin, end] = [0, 1].map(|side| header + offsets[side].as_u64().unwrap() as usize);
        change(&mut file[begin..end]);
    };
    let judged = |file: Vec<u8>| {
        std::fs::write(&path, file).unwrap();
        verify(&scene.path("output"), &source)
    };
    // Half of all global scales and half of all scales: every value is what it was.
    let mut file = sound.clone();
    for part in PARTS {
        change(&mut file, part, "weight_global_scale", |bytes| {
            let half = f32::from_le_bytes(*bytes.first_chunk().unwrap()) / 2.0;
            bytes.copy_from_slice(&half.to_le_bytes());
        });
        change(&mut file, part, "weight_scale", |bytes| bytes.iter_mut().for_each(|code| *code -= 8));
    }
    let (passes, said) = judged(file);
    assert!(!passes && said.contains("is 1.28e2, and the amax gives 2.56e2"), "{said}");
    // Twice the scale of the group of fours, which become twos.
    let mut file = sound.clone();
    change(&mut file, "k_proj", "weight_scale", |scales| scales[8] += 8);
    change(&mut file, "k_proj", "weight_packed", |codes| {
        assert_eq!(codes[64..72], [0x66; 8]);
        codes[64..72].fill(0x44);
    });
    let (passes, said) = judged(file);
    assert!(!passes && said.contains("Q506") && said.contains("least power of two"), "{said}");
    // A code of another value.
    let mut file = sound.clone();
    change(&mut file, "v_proj", "weight_packed", |codes| codes[5 * 16] ^= 1);
    let (passes, said) = judged(file);
    assert!(!passes && said.contains("Q502"), "{said}");
    assert!(judged(sound).0);
}

#[test]
fn stacks_of_gpt_oss_become_nvfp4_without_loss() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stacks/gpt_oss.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let quantization: Value =
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["quantization_config"]).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = [("model.embed_tokens.weight".to_owned(), Random::new(5).tensor(&[4, 64]))].into();
    for (name, view) in file.tensors() {
        let Some(parameter) = name.strip_prefix("m.") else { continue };
        let mut bytes = view.data().to_vec();
        if parameter.ends_with("_scales") {
            // The fixture has every exponent, and no trained layer does: 18 of them.
            bytes.iter_mut().for_each(|exponent| *exponent = 110 + *exponent % 18);
        }
        let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes };
        tensors.insert(format!("{EXPERTS}.{parameter}"), tensor);
    }
    let scene = Scene::new();
    let config = json!({
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "torch_dtype": "bfloat16",
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "quantization_config": quantization,
    });
    let source = scene.checkpoint("source", &[tensors], config);
    let split = |recipe: String| format!("experts: split\n{recipe}");
    let output = scene.apply(&split(recipe("")), &source, "output", &[]);
    let plain = "rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n".to_owned();
    let plain = scene.apply(&split(plain), &source, "plain", &[]);
    for expert in 0..2 {
        for projection in ["gate_proj", "up_proj", "down_proj"] {
            let module = format!("{EXPERTS}.{expert}.{projection}");
            let expected = plain.tensor(&format!("{module}.weight"));
            let expected = expected.bytes.as_chunks().0.iter().map(|&raw| half::bf16::from_le_bytes(raw).to_f32());
            assert!(decoded(&output, &module).0 == expected.collect::<Vec<_>>(), "{module}");
        }
    }
    let (passes, said) = verify(&scene.path("output"), &source);
    assert!(passes && said.contains("6 quantized, lossless"), "{said}");
}
