//! `scale_search: lossless`: weights that were FP4 under powers of two become FP8 under one power of two for a block, each
//! exactly the value that it was; a block that spans more than E4M3 does ends the run, or is rounded and counted.

use std::path::Path;
use std::process::Command;

use half::bf16;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::support::program::program;
use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const MODULE: &str = "model.layers.0.mlp.down_proj";
const ROWS: usize = 256;
const COLUMNS: usize = 384;
const GROUPS: usize = COLUMNS / 32;

/// A weight in MXFP4: two codes in a byte, an exponent for 32 columns.
struct Mxfp4 {
    codes: Vec<u8>,
    exponents: Vec<u8>,
}

impl Mxfp4 {
    /// Random codes, and exponents that lie no further apart than so within a block of 128 × 128.
    fn new(apart: u32) -> Self {
        let mut random = Random::new(11);
        let codes = (0..ROWS * COLUMNS / 2).map(|_| random.next() as u8).collect();
        let exponent = |at: usize| {
            let block = at / GROUPS / 128 * 3 + at % GROUPS / 4;
            // Blocks are of very different sizes.
            100 + 7 * block as u8 + (random.next() % (apart + 1)) as u8
        };
        Self { codes, exponents: (0..ROWS * GROUPS).map(exponent).collect() }
    }

    fn value(&self, row: usize, column: usize) -> f32 {
        const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let code = self.codes[(row * COLUMNS + column) / 2] >> (column % 2 * 4) & 0xF;
        let size =
            VALUES[usize::from(code & 7)] * 2f32.powi(i32::from(self.exponents[row * GROUPS + column / 32]) - 127);
        if code < 8 { size } else { -size }
    }

    fn values(&self) -> Vec<u32> {
        let places = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
        places.map(|(row, column)| self.value(row, column).to_bits()).collect()
    }

    fn checkpoint(&self, scene: &Scene, name: &str) -> std::path::PathBuf {
        let tensor =
            |shape: &[usize], bytes: &[u8]| Tensor { dtype: Dtype::U8, shape: shape.to_vec(), bytes: bytes.to_vec() };
        let mut random = Random::new(3);
        let tensors: Tensors = [
            (format!("{MODULE}.weight_packed"), tensor(&[ROWS, COLUMNS / 2], &self.codes)),
            (format!("{MODULE}.weight_scale"), tensor(&[ROWS, GROUPS], &self.exponents)),
            ("model.embed_tokens.weight".to_owned(), random.tensor(&[4, 8])),
        ]
        .into();
        scene.checkpoint(name, &[tensors], mxfp4_config())
    }
}

/// The config of a checkpoint whose linear layers are MXFP4, as compressed-tensors stores it.
pub(super) fn mxfp4_config() -> Value {
    let weights = json!({
        "num_bits": 4, "type": "float", "symmetric": true, "dynamic": false, "strategy": "group", "group_size": 32,
        "scale_dtype": "torch.uint8",
    });
    let format = "mxfp4-pack-quantized";
    let group = json!({ "targets": ["Linear"], "weights": weights, "input_activations": null, "format": format });
    json!({
        "torch_dtype": "bfloat16",
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
            "ignore": [], "config_groups": { "group_0": group },
        },
    })
}

/// The value of an E4M3 code, by its definition.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 0xF), f32::from(code & 7));
    let size = if exponent == 0 { mantissa * 2f32.powi(-9) } else { (8.0 + mantissa) * 2f32.powi(exponent - 10) };
    if code < 0x80 { size } else { -size }
}

/// The values of an FP8 weight whose scales stand for blocks of this size.
fn decoded(output: &Output, suffix: &str, [height, width]: [usize; 2]) -> Vec<u32> {
    let codes = output.tensor(&format!("{MODULE}.weight"));
    let scales = output.tensor(&format!("{MODULE}.{suffix}"));
    assert_eq!((codes.dtype, codes.shape.as_slice()), (Dtype::F8_E4M3, &[ROWS, COLUMNS][..]));
    let scales: Vec<f32> = match scales.dtype {
        Dtype::F32 => scales.bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
        Dtype::BF16 => scales.bytes.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect(),
        other => panic!("{other}"),
    };
    assert!(scales.iter().all(|scale| scale.to_bits() << 9 == 0 && *scale > 0.0), "{scales:?}");
    let across = COLUMNS.div_ceil(width);
    let value = |(at, &code): (usize, &u8)| {
        (e4m3(code) * scales[at / COLUMNS / height * across + at % COLUMNS / width]).to_bits()
    };
    codes.bytes.iter().enumerate().map(value).collect()
}

/// Runs the program; whether it succeeds, and what it prints.
fn run(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(program()).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn verify(output: &Path, source: &Path) -> (bool, String) {
    run(&["verify", output.to_str().unwrap(), "--source", source.to_str().unwrap()])
}

fn recipe(format: &str, more: &str) -> String {
    format!(
        "format: {format}\nserving: warn\nrules:\n\
         - {{scheme: FP8_BLOCK, scale_search: lossless, requantize: true, targets: Linear{more}}}\n"
    )
}

#[test]
fn fp4_becomes_fp8_without_loss_where_the_exponents_of_a_block_allow_it() {
    let scene = Scene::new();
    let weight = Mxfp4::new(14);
    let source = weight.checkpoint(&scene, "source");
    for (number, (format, more, suffix, block)) in [
        ("fp8", ", scale_dtype: f32", "weight_scale_inv", [128, 128]),
        ("fp8", "", "weight_scale_inv", [128, 128]),
        ("compressed-tensors", ", scale_dtype: f32", "weight_scale", [128, 128]),
        ("compressed-tensors", ", block_size: [64, 32], on_lossy: error", "weight_scale", [64, 32]),
        ("compressed-tensors", ", quotient_dtype: source, block_size: [16, 128]", "weight_scale", [16, 128]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("output-{number}");
        let output = scene.apply(&recipe(format, more), &source, &name, &["--threads", "2"]);
        assert!(decoded(&output, suffix, block) == weight.values(), "{more}");
        let portable =
            scene.apply(&recipe(format, more), &source, &format!("{name}-portable"), &["--simd", "portable"]);
        assert!(portable.tensors == output.tensors, "{more}");
        let (passes, said) = verify(&scene.path(&name), &source);
        assert!(passes && said.contains("proven") && said.contains("1 quantized, lossless"), "{more}: {said}");
    }
    // The scale of the absolute maximum rounds.
    let absmax = recipe("fp8", ", scale_dtype: f32").replace("scale_search: lossless, ", "");
    let output = scene.apply(&absmax, &source, "absmax", &[]);
    assert_eq!(output.tensors.len(), 3);
    let (passes, said) = verify(&scene.path("absmax"), &source);
    assert!(passes && !said.contains("lossless"), "{said}");
}

#[test]
fn a_block_that_spans_too_much_is_an_error_or_rounded_and_counted() {
    let scene = Scene::new();
    let mut weight = Mxfp4::new(10);
    // The block of rows 128 to 255 and columns 256 to 383: one group far above all others.
    let group = 200 * GROUPS + 9;
    weight.exponents[group] = weight.exponents[group - 3] + 30;
    let source = weight.checkpoint(&scene, "source");
    let said = scene.refused(&recipe("fp8", ""), &source);
    for words in [MODULE, "the block at row 128, column 256", "cannot be held exactly", "`on_lossy: round`", "2^"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = scene
        .run(
            "apply",
            &recipe("fp8", ", on_lossy: round"),
            &["--model", source.to_str().unwrap(), "--output", scene.path("rounded").to_str().unwrap(), "--json"],
        )
        .unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    let lossy = &report["lossy_granules"];
    assert_eq!(*lossy, json!([{ "tensor": format!("{MODULE}.weight"), "granules": 1, "first": [128, 256] }]));
    let output = Output::read(&scene.path("rounded"));
    let (found, expected) = (decoded(&output, "weight_scale_inv", [128, 128]), weight.values());
    let differ: Vec<usize> = (0..found.len()).filter(|&at| found[at] != expected[at]).collect();
    assert!(!differ.is_empty());
    assert!(differ.iter().all(|at| at / COLUMNS >= 128 && at % COLUMNS >= 256), "{differ:?}");
    let (passes, said) = verify(&scene.path("rounded"), &source);
    assert!(passes && said.contains("proven") && !said.contains("lossless"), "{said}");
    // People are told too.
    let (_, said) = run(&[
        "apply",
        scene.path("recipe.yaml").to_str().unwrap(),
        "--model",
        source.to_str().unwrap(),
        "--output",
        scene.path("again").to_str().unwrap(),
    ]);
    assert!(said.contains("rounded 1 granule of 1 weight"), "{said}");
    // Weights of all their bits are no FP8.
    let plain = scene.apply("rules:\n- {scheme: DEQUANTIZE, targets: Linear}\n", &source, "plain", &[]);
    let mut tensors: Tensors = plain.tensors.into_iter().map(|(name, (_, tensor))| (name, tensor)).collect();
    tensors.insert(format!("{MODULE}.weight"), Random::new(1).tensor(&[ROWS, COLUMNS]));
    let trained = scene.checkpoint("trained", &[tensors], json!({ "torch_dtype": "bfloat16" }));
    let said = scene.refused(&recipe("fp8", "").replace("requantize: true, ", ""), &trained);
    assert!(said.contains("four for each weight") && said.contains("more like it"), "{said}");
    // The key belongs to lossless scales.
    let said = scene.refused(&recipe("fp8", ", on_lossy: round").replace("lossless", "mse"), &source);
    assert!(said.contains("`on_lossy` goes with `scale_search: lossless`"), "{said}");
}

#[test]
fn a_scale_that_is_not_the_least_is_found_though_every_value_is_right() {
    let scene = Scene::new();
    let weight = Mxfp4::new(3);
    let source = weight.checkpoint(&scene, "source");
    scene.apply(&recipe("fp8", ", scale_dtype: f32"), &source, "output", &[]);
    let dir = scene.path("output");
    let path = dir.join("model.safetensors");
    let sound = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(*sound.first_chunk().unwrap()) as usize + 8;
    let text: Value = serde_json::from_slice(&sound[8..header]).unwrap();
    let begin =
        |parameter: &str| header + text[format!("{MODULE}.{parameter}")]["data_offsets"][0].as_u64().unwrap() as usize;
    // Twice the scale of the first block, and half of each of its codes, which stay normal numbers.
    let mut file = sound.clone();
    let at = begin("weight_scale_inv");
    let scale = f32::from_le_bytes(*file[at..].first_chunk().unwrap()) * 2.0;
    file[at..at + 4].copy_from_slice(&scale.to_le_bytes());
    for row in 0..128 {
        for column in 0..128 {
            let code = &mut file[begin("weight") + row * COLUMNS + column];
            *code -= if *code & 0x7F >= 0x10 { 8 } else { 0 };
            assert!(*code & 0x7F == 0 || *code & 0x7F >= 8);
        }
    }
    std::fs::write(&path, file).unwrap();
    let (passes, said) = verify(&dir, &source);
    assert!(!passes && said.contains("Q506") && said.contains("least power of two"), "{said}");
    // A code of another value.
    let mut file = sound;
    file[begin("weight") + 5] ^= 1;
    std::fs::write(&path, file).unwrap();
    let (passes, said) = verify(&dir, &source);
    assert!(!passes && said.contains("Q502"), "{said}");
}
