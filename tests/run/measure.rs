//! The measuring pass: what schemes lose of weights is what `verify` finds of an output, whatever the number of workers.

use std::sync::atomic::{AtomicU64, Ordering};

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::experts::ElementSteps;
use qwen_fp8::checkpoint::progress::ProgressSink;
use qwen_fp8::plan::{InputData, PlannedInput};
use qwen_fp8::run::{MeasuredWeight, RunError, measure};
use qwen_fp8::schemes::{Format, Noise, Scheme, Simd, find};
use serde_json::{Value, json};

use crate::support::random::{Random, Scene, Tensor, Tensors};

fn scheme(name: &str, options: Value) -> Box<dyn Scheme> {
    find(name).unwrap().build(options, Format::CompressedTensors).unwrap().unwrap()
}

/// Weights of several bands in two shards.
fn tensors() -> [Tensors; 2] {
    let mut random = Random::new(7);
    let layer = |number: usize, random: &mut Random| {
        let name = |projection| format!("model.layers.{number}.{projection}.weight");
        Tensors::from([
            (name("mlp.down_proj"), random.tensor(&[700, 384])),
            (name("self_attn.o_proj"), random.tensor(&[128, 256])),
            (name("self_attn.q_proj"), random.tensor(&[160, 256])),
            // Its maximum is that of the fused layer.
            (name("self_attn.v_proj"), peaked(random.tensor(&[64, 256]))),
        ])
    };
    [layer(0, &mut random), layer(1, &mut random)]
}

/// The tensor with one weight that is larger than all others.
fn peaked(mut tensor: Tensor) -> Tensor {
    tensor.bytes[..2].copy_from_slice(&half::bf16::from_f32(3.0).to_le_bytes());
    tensor
}

fn inputs(checkpoint: &Checkpoint) -> Vec<PlannedInput> {
    checkpoint.tensors.iter().map(PlannedInput::stored).collect()
}

fn measured(
    checkpoint: &Checkpoint,
    schemes: &[Box<dyn Scheme>],
    workers: usize,
    progress: &dyn ProgressSink,
) -> Result<Vec<Vec<Noise>>, RunError> {
    let inputs = inputs(checkpoint);
    fn fused(input: &PlannedInput) -> Option<&str> {
        ["q_proj", "v_proj"].iter().find_map(|part| input.module().strip_suffix(part))
    }
    let leader = |number: usize| {
        let of = fused(&inputs[number]);
        inputs.iter().position(|input| of.is_some() && fused(input) == of).unwrap_or(number)
    };
    let weight = |(number, input)| MeasuredWeight {
        input,
        schemes: schemes.iter().map(|scheme| &**scheme).collect(),
        leader: leader(number),
    };
    let weights: Vec<_> = inputs.iter().enumerate().map(weight).collect();
    measure(checkpoint, &weights, workers, Simd::detect(), progress)
}

#[test]
fn the_noise_is_what_verify_finds_of_an_output() {
    let scene = Scene::new();
    let source = scene.checkpoint("source", &tensors(), json!({"hidden_size": 256, "num_hidden_layers": 2}));
    let checkpoint = Checkpoint::open(&source).unwrap();
    for (index, (name, options, line)) in [
        ("FP8_DYNAMIC", json!({}), ""),
        ("W4A16", json!({"group_size": 32}), "\n    group_size: 32"),
        ("MXFP4A16", json!({}), ""),
        ("W8A16", json!({}), ""),
        ("FP8", json!({}), ""),
        ("NVFP4A16", json!({}), ""),
        ("W4A16_ASYM", json!({"group_size": 32}), "\n    group_size: 32"),
    ]
    .into_iter()
    .enumerate()
    {
        let noise = measured(&checkpoint, &[scheme(name, options)], 2, &()).unwrap();
        let recipe =
            format!("format: compressed-tensors\nrules:\n  - scheme: {name}{line}\n    targets: ['re:.*proj']\n");
        let output = scene.path(&format!("output{index}"));
        let [from, to] = [&source, &output].map(|path| path.to_str().unwrap());
        scene.run("apply", &recipe, &["--model", from, "--output", to, "-q"]).unwrap();
        let proof = scene.tool(&["verify", to, "--source", from, "--json"], &[]).unwrap();
        let proof: Value = serde_json::from_str(&proof).unwrap();
        let found = proof["tensors"].as_array().unwrap();
        let inputs = inputs(&checkpoint);
        let mut compared = 0;
        for (input, noise) in inputs.iter().zip(&noise) {
            let tensor = found.iter().find(|tensor| input.name == tensor["name"].as_str().unwrap());
            let expected = tensor.unwrap()["figures"]["sqnr_db"].as_f64().unwrap();
            let measured = -10.0 * noise[0].ratio().log10();
            // Servers round what they decode to the dtype of the source, as `verify` does.
            assert!((measured - expected).abs() < 0.05, "{name} {}: {measured} dB, {expected} dB", input.name);
            compared += 1;
        }
        assert_eq!(compared, 8);
    }
}

#[test]
fn the_sums_do_not_depend_on_the_number_of_workers() {
    let scene = Scene::new();
    let source = scene.checkpoint("source", &tensors(), json!({}));
    let checkpoint = Checkpoint::open(&source).unwrap();
    let schemes = ["W4A16", "FP8_DYNAMIC", "MXFP8A16", "FP8", "NVFP4A16"].map(|name| scheme(name, json!({})));
    let alone = measured(&checkpoint, &schemes, 1, &()).unwrap();
    assert_eq!(alone.iter().map(Vec::len).collect::<Vec<_>>(), [5; 8]);
    for workers in [2, 3, 8] {
        assert_eq!(measured(&checkpoint, &schemes, workers, &()).unwrap(), alone, "{workers} workers");
    }
}

#[test]
fn a_matrix_of_a_stack_is_measured_as_if_it_were_stored_by_itself() {
    let [rows, columns] = [300, 256];
    let matrix = Random::new(3).tensor(&[rows, columns]);
    let mut transposed = matrix.clone();
    transposed.shape = vec![columns, rows];
    for (row, values) in matrix.bytes.chunks(columns * 2).enumerate() {
        for (column, value) in values.chunks(2).enumerate() {
            transposed.bytes[(column * rows + row) * 2..][..2].copy_from_slice(value);
        }
    }
    let scene = Scene::new();
    let tensors = Tensors::from([("a.weight".to_owned(), matrix), ("b.weight".to_owned(), transposed)]);
    let checkpoint = Checkpoint::open(&scene.checkpoint("source", &[tensors], json!({}))).unwrap();
    let [stored, mut strided] = [0, 1].map(|at| PlannedInput::stored(&checkpoint.tensors[at]));
    strided.shape.clone_from(&stored.shape);
    let steps = ElementSteps { row: 2, column: (rows * 2) as u64 };
    strided.data = InputData::Strided { shard: 0, offset: checkpoint.tensors[1].offset, steps };
    let schemes = ["W4A16", "FP8_DYNAMIC", "FP8"].map(|name| scheme(name, json!({})));
    let weights = [(&stored, 0), (&strided, 1)].map(|(input, leader)| MeasuredWeight {
        input,
        schemes: schemes.iter().map(|scheme| &**scheme).collect(),
        leader,
    });
    let noise = measure(&checkpoint, &weights, 2, Simd::detect(), &()).unwrap();
    assert_eq!(noise[0], noise[1]);
    assert!(noise[0].iter().all(|noise| noise.noise > 0.0));
}

#[test]
fn a_weight_with_nan_is_named_with_its_place() {
    let scene = Scene::new();
    let mut shards = tensors();
    let weight = shards[1].get_mut("model.layers.1.mlp.down_proj.weight").unwrap();
    weight.bytes[(600 * 384 + 5) * 2..][..2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    let checkpoint = Checkpoint::open(&scene.checkpoint("source", &shards, json!({}))).unwrap();
    // Found while it is measured, and by the first pass.
    for name in ["W4A16", "FP8", "NVFP4A16"] {
        let error = measured(&checkpoint, &[scheme(name, json!({}))], 2, &()).unwrap_err();
        let RunError::NonFinite { tensor, at, .. } = &error else { panic!("{error}") };
        assert_eq!((tensor.as_str(), at.row, at.column), ("model.layers.1.mlp.down_proj.weight", 600, 5));
    }
}

/// Counts what is reported, and ends the work after so many bytes.
struct Cancelling {
    read: AtomicU64,
    after: u64,
}

impl ProgressSink for Cancelling {
    fn advanced(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.read.load(Ordering::Relaxed) > self.after
    }
}

#[test]
fn it_reports_every_byte_and_ends_when_asked_to() {
    let scene = Scene::new();
    let checkpoint = Checkpoint::open(&scene.checkpoint("source", &tensors(), json!({}))).unwrap();
    let schemes = ["MXFP4A16", "NVFP4A16"].map(|name| scheme(name, json!({})));
    let whole = Cancelling { read: AtomicU64::new(0), after: u64::MAX };
    measured(&checkpoint, &schemes, 2, &whole).unwrap();
    let bytes: u64 = checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    assert_eq!(whole.read.into_inner(), bytes);
    for workers in [1, 4] {
        let part = Cancelling { read: AtomicU64::new(0), after: 0 };
        assert!(matches!(measured(&checkpoint, &schemes, workers, &part), Err(RunError::Cancelled)));
        assert!(part.read.into_inner() < bytes);
    }
}
