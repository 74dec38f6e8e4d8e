//! Experts that the source stacks and the result does not: results made by hand, and by the program, in both layouts.

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use qwen_fp8::check::{CheckedAs, Finding, Verification, verify};
use serde_json::{Value, json};

use crate::support::folder::{Folder, Tensor, apply};

const EXPERTS: usize = 3;
const MODULE: &str = "model.language_model.layers.1.mlp.experts";

/// The sizes of a model with experts, and how it stacks them.
#[derive(Clone, Copy, Debug)]
struct Shape {
    hidden: usize,
    inner: usize,
    transposed: bool,
    /// Whether the stacks are called `.weight`.
    named: bool,
    /// Whether config.json says the sizes.
    told: bool,
}

/// Layouts of which the second and fourth have stacks of one shape for gate and up, whichever way they are stored.
const SHAPES: [Shape; 5] = [
    Shape { hidden: 256, inner: 96, transposed: true, named: false, told: true },
    Shape { hidden: 256, inner: 128, transposed: true, named: false, told: false },
    Shape { hidden: 256, inner: 96, transposed: false, named: false, told: false },
    Shape { hidden: 256, inner: 128, transposed: false, named: false, told: true },
    Shape { hidden: 128, inner: 160, transposed: true, named: true, told: true },
];

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn weight(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / 16_777_216.0 - 0.5) * 0.1
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Vec<Vec<f32>> {
        let mut number = || bf16::from_f32(self.weight()).to_f32();
        (0..rows).map(|_| (0..columns).map(|_| number()).collect()).collect()
    }
}

type Matrix = Vec<Vec<f32>>;

/// The projections of all experts of a layer, gate, up and down.
fn experts(shape: Shape) -> Vec<[Matrix; 3]> {
    let mut random = Random(shape.inner as u64);
    let Shape { hidden, inner, .. } = shape;
    let mut expert = || [random.matrix(inner, hidden), random.matrix(inner, hidden), random.matrix(hidden, inner)];
    (0..EXPERTS).map(|_| expert()).collect()
}

fn bf16s(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|&number| bf16::from_f32(number).to_le_bytes()).collect()
}

fn tensor(matrix: &Matrix) -> Tensor {
    Tensor { dtype: "BF16".to_owned(), shape: vec![matrix.len(), matrix[0].len()], bytes: bf16s(matrix) }
}

fn stack(matrices: Vec<Matrix>, transposed: bool) -> Tensor {
    let turned = |matrix: &Matrix| -> Matrix {
        (0..matrix[0].len()).map(|column| matrix.iter().map(|row| row[column]).collect()).collect()
    };
    let stored: Vec<Matrix> =
        matrices.iter().map(|matrix| if transposed { turned(matrix) } else { matrix.clone() }).collect();
    let shape = vec![stored.len(), stored[0].len(), stored[0][0].len()];
    Tensor { dtype: "BF16".to_owned(), shape, bytes: stored.iter().flat_map(|matrix| bf16s(matrix)).collect() }
}

/// What a model has beside the experts of its second layer.
fn rest(shape: Shape) -> BTreeMap<String, Tensor> {
    let mut random = Random(9);
    let mut tensors = BTreeMap::new();
    let mut add = |name: &str, rows: usize, columns: usize| {
        tensors.insert(name.to_owned(), tensor(&random.matrix(rows, columns)));
    };
    add("model.language_model.layers.1.mlp.gate.weight", EXPERTS, shape.hidden);
    add("model.language_model.layers.0.self_attn.o_proj.weight", shape.hidden, 128);
    add("model.language_model.embed_tokens.weight", 16, shape.hidden);
    add("lm_head.weight", 16, shape.hidden);
    tensors
}

fn folder(shape: Shape, tensors: BTreeMap<String, Tensor>) -> Folder {
    let mut text = json!({ "model_type": "qwen3_vl_moe_text" });
    if shape.told {
        (text["hidden_size"], text["moe_intermediate_size"]) = (json!(shape.hidden), json!(shape.inner));
    }
    let config = json!({
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "text_config": text,
        "tie_word_embeddings": false,
    });
    let Value::Object(config) = config else { unreachable!("an object was written") };
    let shards = BTreeMap::from([("model-00001-of-00001.safetensors".to_owned(), tensors)]);
    Folder { shards, config, others: BTreeMap::new() }
}

fn source(shape: Shape, dir: &Path) {
    let (mut tensors, experts) = (rest(shape), experts(shape));
    let gate_up = |[gate, up, _]: &[Matrix; 3]| [gate.clone(), up.clone()].concat();
    let suffix = if shape.named { ".weight" } else { "" };
    let of = |matrices: Vec<Matrix>| stack(matrices, shape.transposed);
    tensors.insert(format!("{MODULE}.gate_up_proj{suffix}"), of(experts.iter().map(gate_up).collect()));
    tensors.insert(format!("{MODULE}.down_proj{suffix}"), of(experts.iter().map(|parts| parts[2].clone()).collect()));
    folder(shape, tensors).write(dir);
}

fn name(expert: usize, part: usize) -> String {
    format!("{MODULE}.{expert}.{}.weight", ["gate_proj", "up_proj", "down_proj"][part])
}

/// The result whose experts are copies, one by one.
fn copies(shape: Shape) -> Folder {
    let mut tensors = rest(shape);
    for (expert, parts) in experts(shape).iter().enumerate() {
        parts.iter().enumerate().for_each(|(part, matrix)| drop(tensors.insert(name(expert, part), tensor(matrix))));
    }
    folder(shape, tensors)
}

/// The result whose experts are FP8 with a scale per row, as the contract has it and nothing of the program.
fn float8(shape: Shape) -> Folder {
    let value = |code: u8| {
        let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
        if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) }
    };
    let numbers: Vec<f32> = (0..0x7F).map(value).collect();
    let code = |quotient: f32| {
        let magnitude = quotient.abs().min(448.0);
        let above = numbers.partition_point(|&number| number < magnitude);
        let below = above.saturating_sub(1);
        let (down, up) = (magnitude - numbers[below], numbers[above] - magnitude);
        let nearest = if up < down || (up == down && above.is_multiple_of(2)) { above } else { below };
        nearest as u8 | if quotient.is_sign_negative() { 0x80 } else { 0 }
    };
    let mut folder = copies(shape);
    let tensors = folder.shards.values_mut().next().unwrap();
    for (expert, parts) in experts(shape).iter().enumerate() {
        for (part, matrix) in parts.iter().enumerate() {
            let largest = |row: &Vec<f32>| row.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
            let scales: Vec<f32> = matrix.iter().map(|row| bf16::from_f32(largest(row) / 448.0).to_f32()).collect();
            let codes =
                matrix.iter().zip(&scales).flat_map(|(row, scale)| row.iter().map(move |weight| code(weight / scale)));
            let name = name(expert, part);
            let weight = Tensor { dtype: "F8_E4M3".to_owned(), bytes: codes.collect(), ..tensors[&name].clone() };
            let scale = Tensor { dtype: "BF16".to_owned(), shape: vec![scales.len(), 1], bytes: bf16s(&[scales]) };
            tensors.insert(format!("{name}_scale"), scale);
            tensors.insert(name, weight);
        }
    }
    let arguments = |strategy: &str, dynamic: bool| json!({ "num_bits": 8, "type": "float", "symmetric": true, "strategy": strategy, "dynamic": dynamic });
    folder.config.insert(
        "quantization_config".to_owned(),
        json!({
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "quantization_status": "compressed",
            "config_groups": { "group_0": {
                "targets": ["Linear"],
                "weights": arguments("channel", false),
                "input_activations": arguments("token", true),
            } },
            "ignore": ["lm_head", "model.language_model.layers.1.mlp.gate", "model.language_model.layers.0.self_attn.o_proj"],
        }),
    );
    folder
}

fn check(folder: &Folder, source: &Path) -> Verification {
    let output = tempfile::tempdir().unwrap();
    folder.write(output.path());
    verify(output.path(), Some(source), &[], &()).unwrap()
}

/// The codes of errors and warnings, and what they are of.
fn found(folder: &Folder, source: &Path) -> Vec<(&'static str, String)> {
    let of = |finding: &Finding| (finding.rule.code, finding.place.tensor.clone().unwrap_or_default());
    check(folder, source).findings.iter().map(of).filter(|(code, _)| *code != "Q107").collect()
}

#[test]
fn copies_and_codes_of_split_experts_are_proven() {
    let root = tempfile::tempdir().unwrap();
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let dir = root.path().join(index.to_string());
        source(shape, &dir);
        assert_eq!(found(&copies(shape), &dir), [], "{shape:?}");
        let verification = check(&float8(shape), &dir);
        assert_eq!(verification.findings, [], "{shape:?}");
        let of = |action| verification.tensors.iter().filter(move |tensor| tensor.action == action);
        assert_eq!((of(CheckedAs::Copied).count(), of(CheckedAs::Quantized).count()), (4, 3 * EXPERTS), "{shape:?}");
        assert!(of(CheckedAs::Quantized).all(|tensor| tensor.figures.unwrap().sqnr_db.unwrap() > 30.0));
    }
}

#[test]
fn every_scheme_of_split_experts_is_proven() {
    let root = tempfile::tempdir().unwrap();
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let dir = root.path().join(index.to_string());
        source(shape, &dir);
        for scheme in ["FP8_DYNAMIC", "W8A8", "MXFP4", "NVFP4A16", "W4A16_ASYM\ngroup_size: 32"] {
            let output = root.path().join(format!("{index}-{}", &scheme[..4]));
            let recipe = format!("experts: split\nformat: compressed-tensors\nscheme: {scheme}\ntargets: Linear\n");
            apply(&recipe, &dir, &output);
            assert_eq!(verify(&output, Some(&dir), &[], &()).unwrap().findings, [], "{shape:?} {scheme}");
        }
        let output = root.path().join(format!("{index}-copied"));
        let recipe = "experts: split\nformat: fp8\nrules:\n  - {scheme: FP8, targets: \"re:.*o_proj\"}\n";
        apply(recipe, &dir, &output);
        let verification = verify(&output, Some(&dir), &[], &()).unwrap();
        assert_eq!(verification.findings, [], "{shape:?}");
        assert_eq!(
            verification.tensors.iter().filter(|tensor| tensor.action == CheckedAs::Copied).count(),
            3 + 3 * EXPERTS
        );
        if shape.named {
            continue;
        }
        // Kept as they are, they are copies too.
        let output = root.path().join(format!("{index}-kept"));
        let recipe = "experts: keep\nformat: fp8\nrules:\n  - {scheme: FP8, targets: \"re:.*o_proj\"}\n";
        apply(recipe, &dir, &output);
        assert_eq!(verify(&output, Some(&dir), &[], &()).unwrap().findings, [], "{shape:?}");
    }
}

#[test]
fn altered_experts_are_found() {
    type Spoil = fn(&mut Folder);
    let root = tempfile::tempdir().unwrap();
    for (index, shape) in SHAPES.into_iter().enumerate() {
        let dir = root.path().join(index.to_string());
        source(shape, &dir);
        let spoils: [(&str, &str, Spoil); 8] = [
            ("a flipped bit", "Q501", |folder| folder.tensor(&name(1, 1)).bytes[77] ^= 1),
            ("the last element", "Q501", |folder| *folder.tensor(&name(2, 2)).bytes.last_mut().unwrap() ^= 0x10),
            ("gate and up exchanged", "Q501", |folder| folder.swap(&name(0, 0), &name(0, 1))),
            ("two experts exchanged", "Q501", |folder| folder.swap(&name(0, 2), &name(1, 2))),
            ("transposed", "Q505", |folder| folder.tensor(&name(2, 2)).shape.reverse()),
            ("a lost projection", "Q503", |folder| drop(folder.remove(&name(2, 2)))),
            ("an expert too many", "Q504", |folder| {
                let tensor = folder.tensor(&name(0, 2)).clone();
                folder.add(&name(EXPERTS, 2), tensor);
            }),
            ("another spelling", "Q504", |folder| {
                folder.rename(&name(1, 0), &name(1, 0).replace(".1.gate", ".01.gate"))
            }),
        ];
        for (what, code, spoil) in spoils {
            let mut folder = copies(shape);
            spoil(&mut folder);
            let found = found(&folder, &dir);
            assert!(found.iter().any(|(found, _)| *found == code), "{shape:?} {what}: {found:?}");
        }
        // All of them are lost by name, and no other.
        let mut folder = copies(shape);
        folder.shards.values_mut().for_each(|tensors| tensors.retain(|name, _| !name.contains(".experts.2.")));
        let lost: Vec<_> = (0..3).map(|part| ("Q503", name(2, [2, 0, 1][part]))).collect();
        assert_eq!(found(&folder, &dir), lost, "{shape:?}");
        // A stack beside its own matrices.
        let mut folder = copies(shape);
        let mut stacks = Folder::read(&dir);
        let down = format!("{MODULE}.down_proj{}", if shape.named { ".weight" } else { "" });
        folder.add(&down, stacks.tensor(&down).clone());
        let extra: Vec<_> = (0..EXPERTS).map(|expert| ("Q504", name(expert, 2))).collect();
        assert_eq!(found(&folder, &dir), extra, "{shape:?}");
        // Codes.
        let mut folder = float8(shape);
        folder.tensor(&name(1, 0)).bytes[500] ^= 0x08;
        assert!(found(&folder, &dir).contains(&("Q502", name(1, 0))), "{shape:?}");
        let mut folder = float8(shape);
        folder.swap(&format!("{}_scale", name(0, 0)), &format!("{}_scale", name(0, 1)));
        assert!(found(&folder, &dir).contains(&("Q502", name(0, 0))), "{shape:?}");
    }
}

/// Stacks of which nobody can say how they lie are not guessed at.
#[test]
fn stacks_that_fit_no_layout_are_lost() {
    let shape = SHAPES[0];
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("source");
    source(shape, &dir);
    let mut folder = Folder::read(&dir);
    let stack = format!("{MODULE}.gate_up_proj");
    for spoil in [
        // config.json says another size.
        |folder: &mut Folder, _: &str| folder.config["text_config"]["moe_intermediate_size"] = json!(95),
        |folder: &mut Folder, stack: &str| folder.tensor(stack).shape = vec![EXPERTS, 128, 384],
        |folder: &mut Folder, stack: &str| {
            let tensor = folder.tensor(stack).clone();
            folder.add(&format!("{stack}_bias"), tensor);
        },
    ] {
        let mut other = folder.clone();
        spoil(&mut other, &stack);
        let dir = root.path().join("other");
        other.write(&dir);
        let mut result = copies(shape);
        result.config["text_config"] = other.config["text_config"].clone();
        let found = found(&result, &dir);
        assert!(found.contains(&("Q503", stack.clone())) && found.contains(&("Q504", name(0, 0))), "{found:?}");
    }
    assert!(folder.tensor(&stack).shape.len() == 3);
}

/// Experts behind a projection of their own are wider than the model. Where a file says how they lie, nothing of
/// config.json has to agree with it.
#[test]
fn wider_experts_are_proven_where_a_file_tells_their_layout() {
    let shape = Shape { hidden: 512, inner: 96, transposed: false, named: false, told: true };
    let root = tempfile::tempdir().unwrap();
    for (class, is_told) in [("MuseSparkForConditionalGeneration", true), ("NonesuchForConditionalGeneration", false)] {
        let dir = root.path().join(class);
        source(shape, &dir);
        let mut of_class = Folder::read(&dir);
        of_class.config["architectures"] = json!([class]);
        of_class.config["model_type"] = json!("nonesuch");
        of_class.config["text_config"]["hidden_size"] = json!(256);
        of_class.write(&dir);
        let mut result = copies(shape);
        result.config = of_class.config.clone();
        let found = found(&result, &dir);
        let is_lost = found.iter().any(|(code, name)| *code == "Q503" && name.ends_with("experts.gate_up_proj"));
        assert_eq!((found.is_empty(), is_lost), (is_told, !is_told), "{class}: {found:?}");
    }
}
