//! Stacks of experts in every layout that a family's file can describe: each matrix and bias holds the values that were
//! laid down for it, and `verify` proves them against the source.

use std::path::Path;

use safetensors::Dtype;
use serde_json::json;

use crate::support::random::{Random, Scene, Tensor, Tensors};

const EXPERTS: usize = 3;
const HIDDEN: usize = 5;
const INNER: usize = 4;

/// Bits that tell which element of which projection of which expert this is: positive BF16 numbers near 1.
fn element(expert: usize, projection: usize, output: usize, input: usize) -> [u8; 2] {
    (0x3C00 + (expert * 300 + projection * 100 + output * 10 + input) as u16).to_le_bytes()
}

fn bias(expert: usize, projection: usize, output: usize) -> [u8; 2] {
    (0x4200 + (expert * 100 + projection * 20 + output) as u16).to_le_bytes()
}

fn tensor(shape: &[usize], elements: Vec<[u8; 2]>) -> Tensor {
    assert_eq!(shape.iter().product::<usize>(), elements.len());
    Tensor { dtype: Dtype::BF16, shape: shape.to_vec(), bytes: elements.concat() }
}

/// All places of a tensor of three dimensions, in the order in which they are stored.
fn places([a, b, c]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    (0..a).flat_map(move |x| (0..b).flat_map(move |y| (0..c).map(move |z| [x, y, z])))
}

/// The projections gate (0) and up (1) of all experts in one stack.
fn gate_up(columns: bool, interleaved: bool) -> Tensor {
    let shape = if columns { [EXPERTS, HIDDEN, 2 * INNER] } else { [EXPERTS, 2 * INNER, HIDDEN] };
    let of = |[expert, a, b]: [usize; 3]| {
        let (output, input) = if columns { (b, a) } else { (a, b) };
        let (projection, output) =
            if interleaved { (output % 2, output / 2) } else { (output / INNER, output % INNER) };
        element(expert, projection, output, input)
    };
    tensor(&shape, places(shape).map(of).collect())
}

/// The projection down (2) of all experts.
fn down(columns: bool) -> Tensor {
    let shape = if columns { [EXPERTS, INNER, HIDDEN] } else { [EXPERTS, HIDDEN, INNER] };
    let of = |[expert, a, b]: [usize; 3]| if columns { element(expert, 2, b, a) } else { element(expert, 2, a, b) };
    tensor(&shape, places(shape).map(of).collect())
}

/// The biases of gate and up.
fn gate_up_biases(interleaved: bool) -> Tensor {
    let of = |[expert, _, output]: [usize; 3]| match interleaved {
        true => bias(expert, output % 2, output / 2),
        false => bias(expert, output / INNER, output % INNER),
    };
    tensor(&[EXPERTS, 2 * INNER], places([EXPERTS, 1, 2 * INNER]).map(of).collect())
}

fn down_biases() -> Tensor {
    tensor(
        &[EXPERTS, HIDDEN],
        places([EXPERTS, 1, HIDDEN]).map(|[expert, _, output]| bias(expert, 2, output)).collect(),
    )
}

/// One projection of one expert, as a linear layer has it.
fn matrix(expert: usize, projection: usize) -> Tensor {
    let [rows, columns] = if projection == 2 { [HIDDEN, INNER] } else { [INNER, HIDDEN] };
    let of = |[_, output, input]: [usize; 3]| element(expert, projection, output, input);
    tensor(&[rows, columns], places([1, rows, columns]).map(of).collect())
}

fn bias_of(expert: usize, projection: usize) -> Tensor {
    let outputs = if projection == 2 { HIDDEN } else { INNER };
    tensor(&[outputs], (0..outputs).map(|output| bias(expert, projection, output)).collect())
}

/// What a model has beside its experts.
fn rest() -> Tensors {
    let mut random = Random::new(3);
    let shapes: [(&str, &[usize]); 3] = [
        ("model.embed_tokens.weight", &[8, HIDDEN]),
        ("model.layers.0.self_attn.o_proj.weight", &[HIDDEN, HIDDEN]),
        ("lm_head.weight", &[8, HIDDEN]),
    ];
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), random.tensor(shape))).collect()
}

fn family(columns: bool, interleaved: bool, biases: bool) -> String {
    let stored = if columns { "columns" } else { "rows" };
    let bias = |of: &str| if biases { format!(", bias: '**.moe.{of}_bias'") } else { String::new() };
    format!(
        "name: Stacked\narchitectures: [StackedForCausalLM]\nmodel_types: [stacked]\nstacks:\n\
         - {{on_disk: '**.moe.both', holds: [w1, w3], interleaved: {interleaved}, stored: {stored}, \
         split_into: '**.moe.experts.{{expert}}.{{projection}}'{}}}\n\
         - {{on_disk: '**.moe.back', holds: [w2], stored: {stored}, \
         split_into: '**.moe.experts.{{expert}}.{{projection}}'{}}}\n",
        bias("both"),
        bias("back")
    )
}

fn write_family(dir: &Path, text: &str) -> String {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("stacked.yaml"), text).unwrap();
    dir.to_str().unwrap().to_owned()
}

const COPY: &str = "experts: split\nrules:\n- {scheme: PASSTHROUGH, targets: ['re:.*']}\n";

#[test]
fn every_layout_gives_the_matrices_that_were_laid_down() {
    let scene = Scene::new();
    for (columns, interleaved, biases) in [
        (false, false, false),
        (false, true, true),
        (true, false, true),
        (true, true, true),
        (true, true, false),
        (false, false, true),
    ] {
        let case = format!("{columns}-{interleaved}-{biases}");
        let mut tensors = rest();
        let module = "model.layers.0.moe";
        // One with `.weight` and one without: both are in use.
        tensors.insert(format!("{module}.both.weight"), gate_up(columns, interleaved));
        tensors.insert(format!("{module}.back"), down(columns));
        if biases {
            tensors.insert(format!("{module}.both_bias"), gate_up_biases(interleaved));
            tensors.insert(format!("{module}.back_bias"), down_biases());
        }
        let config = json!({ "architectures": ["StackedForCausalLM"], "model_type": "stacked" });
        let source = scene.checkpoint(&format!("source-{case}"), &[tensors], config);
        let models = write_family(&scene.path(&format!("models-{case}")), &family(columns, interleaved, biases));
        let output = scene.apply(COPY, &source, &format!("output-{case}"), &["--models", &models]);
        for expert in 0..EXPERTS {
            for (projection, name) in ["w1", "w3", "w2"].into_iter().enumerate() {
                let layer = format!("{module}.experts.{expert}.{name}");
                assert_eq!(output.tensor(&format!("{layer}.weight")), &matrix(expert, projection), "{case} {layer}");
                let of_bias = format!("{layer}.bias");
                match biases {
                    true => assert_eq!(output.tensor(&of_bias), &bias_of(expert, projection), "{case} {layer}"),
                    false => assert!(!output.tensors.contains_key(&of_bias)),
                }
            }
        }
        // The stacks themselves are gone.
        let parts = if biases { 2 } else { 1 };
        assert_eq!(output.tensors.len(), rest().len() + EXPERTS * 3 * parts, "{:?}", output.tensors.keys());

        let quantized = "experts: split\nformat: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: 're:.*experts.*'\n";
        let dir = format!("quantized-{case}");
        let output = scene.apply(quantized, &source, &dir, &["--models", &models]);
        assert_eq!(output.tensor(&format!("{module}.experts.2.w3.weight")).dtype, Dtype::F8_E4M3);
        let dir = scene.path(&dir);
        let verify = |models: &str| {
            let arguments = ["verify", dir.to_str().unwrap(), "--source", source.to_str().unwrap(), "--json"];
            scene.tool(&arguments, &["--models", models])
        };
        let report: serde_json::Value = serde_json::from_str(&verify(&models).unwrap()).unwrap();
        assert_eq!(report["verdict"], "proven", "{case}: {report}");
        // Held against another layout, the same values are not those of the source.
        let other = write_family(&scene.path(&format!("other-{case}")), &family(columns, !interleaved, biases));
        assert!(verify(&other).is_err(), "{case}");
    }
}

/// A checkpoint of this class whose first layer has these stacks, with FP8 per row, proven against its source.
fn quantized(
    scene: &Scene,
    class: &str,
    model_type: &str,
    stacks: &[(&str, Tensor)],
) -> crate::support::random::Output {
    let mut tensors = rest();
    for (name, stack) in stacks {
        tensors.insert(format!("model.layers.0.{name}"), stack.clone());
    }
    let config = json!({ "architectures": [class], "model_type": model_type });
    let source = scene.checkpoint(&format!("{model_type}-source"), &[tensors], config);
    let recipe = "experts: split\nformat: compressed-tensors\nscheme: FP8_DYNAMIC\ntargets: Linear\n";
    let output = scene.apply(recipe, &source, model_type, &[]);
    let dir = scene.path(model_type);
    scene.tool(&["verify", dir.to_str().unwrap(), "--source", source.to_str().unwrap()], &[]).unwrap();
    output
}

#[test]
fn families_have_the_names_that_vllm_loads() {
    let scene = Scene::new();
    let one = |projection: usize| {
        let matrices = (0..EXPERTS).flat_map(|expert| matrix(expert, projection).bytes);
        let mut shape = vec![EXPERTS];
        shape.extend(matrix(0, projection).shape);
        Tensor { dtype: Dtype::BF16, shape, bytes: matrices.collect() }
    };
    let granite = quantized(
        &scene,
        "GraniteMoeForCausalLM",
        "granitemoe",
        &[
            ("block_sparse_moe.input_linear.weight", gate_up(false, false)),
            ("block_sparse_moe.output_linear.weight", down(false)),
        ],
    );
    let step = quantized(
        &scene,
        "Step3p5ForCausalLM",
        "step3p5",
        &[("moe.gate_proj.weight", one(0)), ("moe.up_proj.weight", one(1)), ("moe.down_proj.weight", one(2))],
    );
    for (output, module) in [(&granite, "block_sparse_moe"), (&step, "moe")] {
        for expert in 0..EXPERTS {
            for part in ["gate_proj", "up_proj", "down_proj"] {
                let name = format!("model.layers.0.{module}.experts.{expert}.{part}.weight");
                assert_eq!(output.tensor(&name).dtype, Dtype::F8_E4M3, "{name}");
            }
        }
    }
    // Both projections in one piece: vLLM's mapper takes `gate_proj` for a part of a fused layer there.
    let aria = quantized(
        &scene,
        "AriaForConditionalGeneration",
        "aria",
        &[("mlp.experts.fc1.weight", gate_up(true, false)), ("mlp.experts.fc2.weight", down(true))],
    );
    let both = aria.tensor("model.layers.0.mlp.experts.1.gate_up_proj.weight");
    assert_eq!((both.dtype, both.shape.as_slice()), (Dtype::F8_E4M3, &[2 * INNER, HIDDEN][..]));
}

#[test]
fn stacks_that_no_server_loads_one_by_one_are_refused_with_the_reason() {
    let scene = Scene::new();
    let mut tensors = rest();
    let module = "model.layers.0.mlp.experts";
    for (name, tensor) in [
        ("gate_up_proj", gate_up(true, true)),
        ("gate_up_proj_bias", gate_up_biases(true)),
        ("down_proj", down(true)),
        ("down_proj_bias", down_biases()),
    ] {
        tensors.insert(format!("{module}.{name}"), tensor);
    }
    let config = json!({ "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss" });
    let source = scene.checkpoint("source", &[tensors], config);
    let recipe = |experts: &str| {
        format!("format: compressed-tensors\nexperts: {experts}\nscheme: FP8_DYNAMIC\ntargets: Linear\n")
    };
    let said = scene.refused(&recipe("split"), &source);
    assert!(said.contains("vLLM 0.33 cannot load `model.layers.0.mlp.experts.0.down_proj`"), "{said}");
    assert!(said.contains("loads these experts stacked"), "{said}");
    // What the help says leads to a run, and vLLM is told that the experts stay.
    assert!(said.contains("`experts: keep` at the top"), "{said}");
    let output = scene.apply(&recipe("keep"), &source, "kept", &[]);
    assert_eq!(output.tensor(&format!("{module}.down_proj")), &down(true));
    let listed = output.config["quantization_config"]["ignore"].to_string();
    assert!(listed.contains(r"re:.*\\.mlp\\.experts.*"), "{listed}");
}
