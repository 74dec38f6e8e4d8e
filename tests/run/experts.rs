//! Stacked experts: split, the result is that of a checkpoint whose experts are stored one by one.

use serde_json::json;

use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const EXPERTS: usize = 3;
const HIDDEN: usize = 256;
const INNER: usize = 128;

/// One layer of experts beside other tensors, each expert by itself.
fn one_by_one() -> Tensors {
    let mut random = Random::new(7);
    let mut tensors = Tensors::new();
    for layer in ["model.layers.0", "model.layers.1"] {
        for expert in 0..EXPERTS {
            for (part, shape) in
                [("gate_proj", [INNER, HIDDEN]), ("up_proj", [INNER, HIDDEN]), ("down_proj", [HIDDEN, INNER])]
            {
                let name = format!("{layer}.mlp.experts.{expert}.{part}.weight");
                tensors.insert(name, random.tensor(&shape));
            }
        }
        for (name, shape) in [
            ("mlp.gate.weight", &[EXPERTS, HIDDEN][..]),
            ("self_attn.q_proj.weight", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj.weight", &[128, HIDDEN]),
            ("self_attn.v_proj.weight", &[128, HIDDEN]),
            ("self_attn.o_proj.weight", &[HIDDEN, HIDDEN]),
            ("input_layernorm.weight", &[HIDDEN]),
        ] {
            tensors.insert(format!("{layer}.{name}"), random.tensor(shape));
        }
    }
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        tensors.insert(name.to_owned(), random.tensor(&[16, HIDDEN]));
    }
    tensors
}

/// The same with stacked experts: `transposed` as on the hub, else as transformers 5 saves them.
fn stacked(tensors: &Tensors, transposed: bool, suffix: &str) -> Tensors {
    let mut stacked: Tensors =
        tensors.iter().filter(|(name, _)| !name.contains(".experts.")).map(|(n, t)| (n.clone(), t.clone())).collect();
    for layer in ["model.layers.0", "model.layers.1"] {
        let matrix = |expert: usize, part: &str| {
            let tensor = &tensors[&format!("{layer}.mlp.experts.{expert}.{part}.weight")];
            let [rows, columns] = tensor.shape[..] else { panic!("no matrix") };
            let element = |row: usize, column: usize| tensor.bytes[2 * (row * columns + column)..][..2].to_vec();
            (0..rows).map(|row| (0..columns).map(|column| element(row, column)).collect()).collect::<Vec<Vec<_>>>()
        };
        let turned = |matrix: Vec<Vec<Vec<u8>>>| match transposed {
            true => (0..matrix[0].len()).map(|column| matrix.iter().map(|row| row[column].clone()).collect()).collect(),
            false => matrix,
        };
        let mut add = |name: &str, of: &dyn Fn(usize) -> Vec<Vec<Vec<u8>>>| {
            let stack: Vec<_> = (0..EXPERTS).map(|expert| turned(of(expert))).collect();
            let shape = vec![EXPERTS, stack[0].len(), stack[0][0].len()];
            let bytes = stack.into_iter().flatten().flatten().flatten().collect();
            let tensor = Tensor { dtype: safetensors::Dtype::BF16, shape, bytes };
            stacked.insert(format!("{layer}.mlp.experts.{name}{suffix}"), tensor);
        };
        add("gate_up_proj", &|expert| [matrix(expert, "gate_proj"), matrix(expert, "up_proj")].concat());
        add("down_proj", &|expert| matrix(expert, "down_proj"));
    }
    stacked
}

fn in_two_shards(tensors: &Tensors) -> [Tensors; 2] {
    let mut first = tensors.clone();
    let second = first.split_off("model.layers.1");
    [first, second]
}

const LINEAR: &str = "experts: split\nformat: compressed-tensors\nrules:\n- {scheme: SCHEME, targets: Linear}\n";

#[test]
fn split_experts_are_those_of_a_checkpoint_that_stores_them_one_by_one() {
    let scene = Scene::new();
    let plain = one_by_one();
    let straight = scene.checkpoint("straight", &in_two_shards(&plain), json!({}));
    let mut sources = Vec::new();
    for (name, transposed, suffix) in [("hub", true, ""), ("rows", false, ""), ("named", true, ".weight")] {
        let shards = in_two_shards(&stacked(&plain, transposed, suffix));
        sources.push((name, scene.checkpoint(name, &shards, json!({}))));
    }
    for scheme in ["FP8_BLOCK", "FP8_DYNAMIC", "FP8", "W8A8", "W4A16_ASYM", "MXFP4", "NVFP4A16"] {
        let recipe = LINEAR.replace("SCHEME", scheme);
        let expected = scene.apply(&recipe, &straight, &format!("straight-{scheme}"), &[]);
        for (name, source) in &sources {
            let output = scene.apply(&recipe, source, &format!("{name}-{scheme}"), &[]);
            assert_eq!(output, expected, "{name} {scheme}");
        }
    }
    // Neither threads nor memory matter; this little of it makes bands of a few rows, which are read one by one.
    let recipe = LINEAR.replace("SCHEME", "FP8_DYNAMIC");
    let expected = scene.apply(&recipe, &straight, "expected", &[]);
    let (_, hub) = &sources[0];
    assert_eq!(scene.apply(&recipe, hub, "four", &["--threads", "4"]), expected);
    assert_eq!(scene.apply(&recipe, hub, "small", &["--threads", "1", "--max-memory", "64KiB"]), expected);
}

#[test]
fn split_experts_that_no_rule_takes_are_copied_one_by_one() {
    let scene = Scene::new();
    let plain = one_by_one();
    let recipe = "experts: split\nrules:\n- {scheme: PASSTHROUGH, targets: ['re:.*experts.*']}\n\
                  - {scheme: FP8_BLOCK, targets: Linear}\n";
    for transposed in [true, false] {
        let shards = in_two_shards(&stacked(&plain, transposed, ""));
        let source = scene.checkpoint(&format!("source-{transposed}"), &shards, json!({}));
        let output = scene.apply(recipe, &source, &format!("output-{transposed}"), &[]);
        for (name, tensor) in plain.iter().filter(|(name, _)| name.contains("experts")) {
            assert_eq!(output.tensor(name), tensor, "{name}");
        }
        let listed = output.config["quantization_config"]["ignored_layers"].to_string();
        assert!(listed.contains("model.layers.1.mlp.experts.2.down_proj"), "{listed}");
    }
}

#[test]
fn without_a_policy_stacks_are_an_error_and_with_keep_they_stay() {
    let scene = Scene::new();
    let tensors = stacked(&one_by_one(), true, "");
    let source = scene.checkpoint("source", std::slice::from_ref(&tensors), json!({}));
    let rules = "rules:\n- {scheme: FP8_BLOCK, targets: Linear}\n";
    let said = scene.refused(rules, &source);
    assert!(said.contains("4 tensors of stacked experts would stay unquantized"), "{said}");
    assert!(said.contains("`experts: split_or_keep` at the top"), "{said}");
    let output = scene.apply(&format!("experts: keep\n{rules}"), &source, "kept", &[]);
    let name = "model.layers.0.mlp.experts.gate_up_proj";
    assert_eq!(output.tensor(name), &tensors[name]);
    // The list says the same of stacks that are called `.weight`.
    let named = scene.checkpoint("named", &[stacked(&one_by_one(), true, ".weight")], json!({}));
    let lists = |output: Output| output.config["quantization_config"]["ignored_layers"].clone();
    assert!(lists(scene.apply(&format!("experts: keep\n{rules}"), &named, "named-kept", &[])) == lists(output));
    let said = scene.refused(&format!("experts: splt\n{rules}"), &source);
    assert!(said.contains("recipe.yaml:1:10") && said.contains("split"), "{said}");
}

#[test]
fn stacks_whose_layout_cannot_be_told_are_refused_by_name() {
    let scene = Scene::new();
    let mut tensors = stacked(&one_by_one(), true, "");
    let recipe = LINEAR.replace("SCHEME", "FP8_DYNAMIC");
    tensors.remove("model.layers.1.mlp.experts.down_proj");
    let source = scene.checkpoint("alone", std::slice::from_ref(&tensors), json!({}));
    let said = scene.refused(&recipe, &source);
    assert!(said.contains("`model.layers.1.mlp.experts.gate_up_proj` has no `down_proj` beside it"), "{said}");
    let odd = Random::new(1).tensor(&[EXPERTS, 100, HIDDEN]);
    tensors.insert("model.layers.1.mlp.experts.down_proj".to_owned(), odd);
    let source = scene.checkpoint("odd", &[tensors], json!({}));
    let said = scene.refused(&recipe, &source);
    assert!(said.contains("[3, 100, 256]") && said.contains("`experts: keep`"), "{said}");
}

#[test]
fn the_plan_counts_them_and_a_nan_is_named_where_servers_see_it() {
    let scene = Scene::new();
    let mut tensors = stacked(&one_by_one(), true, "");
    let recipe = LINEAR.replace("SCHEME", "FP8_DYNAMIC");
    let source = scene.checkpoint("source", std::slice::from_ref(&tensors), json!({}));
    let plan = scene.run("plan", &recipe, &["--model", source.to_str().unwrap()]).unwrap();
    assert!(plan.contains("4 stacks of experts split into 18 matrices"), "{plan}");
    // Stored row 5 and column 130 of expert 1: row 2 and column 5 of its up projection.
    let stack = tensors.get_mut("model.layers.0.mlp.experts.gate_up_proj").unwrap();
    let at = 2 * ((HIDDEN + 5) * 2 * INNER + INNER + 2);
    stack.bytes[at..at + 2].copy_from_slice(&[0xC0, 0x7F]);
    let source = scene.checkpoint("nan", &[tensors], json!({}));
    let said = scene.refused(&recipe, &source);
    assert!(
        said.contains("`model.layers.0.mlp.experts.1.up_proj.weight`") && said.contains("row 2, column 5"),
        "{said}"
    );
}
