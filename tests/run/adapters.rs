//! Adapters that are merged while a checkpoint is quantized: the bytes are those of PEFT's `merge_and_unload`, whatever
//! becomes of the merged weights.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::adapter::Adapter;
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::{Recipe, RecipeText};
use qwen_fp8::run::{Observer, RunError, RunOptions, run};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::quantized_sources::run as program;
use crate::support::random::{Output, Scene, Tensor, Tensors};

/// What PEFT made; `tests/golden/adapters.py` writes it.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters")
}

const CASES: [(&str, &str); 13] = [
    ("plain", "bf16"),
    ("wide", "bf16"),
    ("half", "f16"),
    ("single", "f32"),
    ("rslora", "bf16"),
    ("patterns", "bf16"),
    ("dora", "bf16"),
    ("dora_single", "f32"),
    ("saved", "bf16"),
    ("biases", "bf16"),
    ("bias_only", "bf16"),
    ("embedding", "bf16"),
    ("two", "bf16"),
];

fn base(dtype: &str) -> PathBuf {
    golden().join(format!("base_{dtype}"))
}

fn adapters(case: &str) -> Vec<PathBuf> {
    let names = if case == "two" { vec!["adapter_0", "adapter_1"] } else { vec!["adapter"] };
    names.into_iter().map(|name| golden().join(case).join(name)).collect()
}

fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| {
        let view = file.tensor(name).unwrap();
        Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() }
    };
    file.names().into_iter().map(|name| (name.to_owned(), tensor(name))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, tensor)| (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The model as PEFT merged it.
fn merged(case: &str, dtype: &str) -> Tensors {
    let mut tensors = read(&base(dtype).join("model.safetensors"));
    for (name, tensor) in read(&golden().join(case).join("merged.safetensors")) {
        let before = tensors.insert(name.clone(), tensor.clone()).unwrap();
        assert_eq!((before.dtype, &before.shape), (tensor.dtype, &tensor.shape), "{name}");
        assert_ne!(before.bytes, tensor.bytes, "{name}");
    }
    tensors
}

fn recipe(adapters: &[PathBuf], rule: &str) -> String {
    format!("adapters: {adapters:?}\nserving: warn\n{rule}\n")
}

const KEEP: &str = "rules: [{scheme: PASSTHROUGH, targets: Linear}]";

fn tensors(output: &Output) -> Tensors {
    output.tensors.iter().map(|(name, (_, tensor))| (name.clone(), tensor.clone())).collect()
}

#[test]
fn merged_weights_are_those_of_peft() {
    for (case, dtype) in CASES {
        let scene = Scene::new();
        let output = scene.apply(&recipe(&adapters(case), KEEP), &base(dtype), "out", &[]);
        let (found, expected) = (tensors(&output), merged(case, dtype));
        for (name, tensor) in &expected {
            assert_eq!(&found[name], tensor, "{case}: {name}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn quantized_weights_are_those_of_the_model_that_peft_merged() {
    let schemes = [
        "format: compressed-tensors\nrules: [{scheme: FP8_DYNAMIC, targets: Linear}]",
        "format: compressed-tensors\nrules: [{scheme: FP8, targets: Linear}]",
        "rules: [{scheme: W8A8, targets: Linear}]",
    ];
    for (case, dtype) in CASES {
        for rule in schemes {
            let scene = Scene::new();
            let whole = scene.path("merged");
            fs::create_dir(&whole).unwrap();
            fs::copy(base(dtype).join("config.json"), whole.join("config.json")).unwrap();
            write(&whole.join("model.safetensors"), &merged(case, dtype));
            let of_merged = scene.apply(&format!("serving: warn\n{rule}"), &whole, "of-merged", &[]);
            let here = scene.apply(&recipe(&adapters(case), rule), &base(dtype), "here", &[]);
            assert_eq!(tensors(&here), tensors(&of_merged), "{case} {rule}");
            assert_eq!(here.config, of_merged.config);
        }
    }
}

#[test]
fn threads_memory_and_instruction_sets_change_no_byte() {
    for case in ["plain", "dora", "embedding", "two"] {
        let scene = Scene::new();
        let recipe = recipe(&adapters(case), KEEP);
        let expected = tensors(&scene.apply(&recipe, &base("bf16"), "whole", &[]));
        for (number, more) in [["--threads", "3"], ["--simd", "portable"], ["--max-memory", "200KB"]].iter().enumerate()
        {
            let output = scene.apply(&recipe, &base("bf16"), &format!("out-{number}"), more);
            assert_eq!(tensors(&output), expected, "{case} {more:?}");
        }
    }
}

#[test]
fn plan_explain_and_manifest_tell_of_adapters() {
    let scene = Scene::new();
    let recipe = recipe(&adapters("patterns"), KEEP);
    let model = ["--model", base("bf16").to_str().unwrap()].map(str::to_owned);
    let model = [model[0].as_str(), model[1].as_str()];
    let plan = scene.run("plan", &recipe, &model).unwrap();
    assert!(plan.contains("the adapter adapter is merged into 6 tensors"), "{plan}");
    assert!(plan.contains("merge · ") && plan.contains("BF16 [24, 24] + adapter"), "{plan}");
    let json: Value =
        serde_json::from_str(&scene.run("plan", &recipe, &[&model[..], &["--json"]].concat()).unwrap()).unwrap();
    assert_eq!(json["adapters"], json!([{ "name": "adapter", "tensors": 6 }]));
    let path = scene.path("recipe.yaml");
    let arguments = ["explain", path.to_str().unwrap(), "model.layers.1.mlp.up_proj"];
    let said = scene.tool(&arguments, &model).unwrap();
    assert!(said.contains("merged with the adapter `adapter`: LoRA of rank 5, times 1.6; left unquantized"), "{said}");
    scene.apply(&recipe, &base("bf16"), "out", &[]);
    let manifest: Value = serde_json::from_slice(&fs::read(scene.path("out/qwen-fp8-manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["source"]["adapters"][0]["name"], "adapter");
    let merged = manifest["actions"].as_array().unwrap().iter().filter(|action| action["adapters"] == json!([1]));
    assert_eq!(merged.count(), 6);
}

/// A copy of the adapter of a case, its options and tensors changed.
fn changed(scene: &Scene, case: &str, change: impl FnOnce(&mut Value, &mut Tensors)) -> PathBuf {
    let dir = scene.path("changed");
    fs::create_dir(&dir).unwrap();
    for file in fs::read_dir(&adapters(case)[0]).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(file.path(), dir.join(file.file_name())).unwrap();
    }
    let (options, weights) = (dir.join("adapter_config.json"), dir.join("adapter_model.safetensors"));
    let mut config: Value = serde_json::from_slice(&fs::read(&options).unwrap()).unwrap();
    let mut tensors = read(&weights);
    change(&mut config, &mut tensors);
    fs::write(&options, config.to_string()).unwrap();
    write(&weights, &tensors);
    dir
}

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn rename(tensors: &mut Tensors, from: &str, to: &str) {
    let tensor = tensors.remove(from).unwrap_or_else(|| panic!("{from}"));
    tensors.insert(to.to_owned(), tensor);
}

#[test]
fn what_cannot_be_merged_is_refused_and_nothing_is_left_out() {
    type Change = fn(&mut Value, &mut Tensors);
    let cases: [(Change, &[&str]); 12] = [
        (|config, _| config["peft_type"] = json!("LOHA"), &["type `LOHA`", "merge_and_unload"]),
        (
            |config, _| config["target_parameters"] = json!(["x"]),
            &["the option `target_parameters`", "merge_and_unload"],
        ),
        (|config, _| config["r"] = json!(5), &["has the rank 3", "says 5"]),
        (|config, _| config["use_dora"] = json!(true), &["no magnitudes", "use_dora"]),
        (|_, tensors| drop(tensors.remove(&format!("{Q}.lora_B.weight"))), &["stands alone", "lora_A.weight"]),
        (
            |_, tensors| rename(tensors, &format!("{Q}.lora_A.weight"), &format!("{Q}.lora_A.default.weight")),
            &["lora_A.default.weight", "a name that PEFT gives to nothing"],
        ),
        (
            |_, tensors| {
                for factor in ["lora_A", "lora_B"] {
                    rename(tensors, &format!("{Q}.{factor}.weight"), &format!("{Q}s.{factor}.weight"));
                }
            },
            &[
                "1 change of the adapter `changed` finds no tensor",
                "q_projs.weight",
                "the nearest is `model.layers.0.self_attn.q_proj.weight`",
            ],
        ),
        (
            |_, tensors| tensors.get_mut(&format!("{Q}.lora_A.weight")).unwrap().shape = vec![3, 24, 1],
            &["belongs to a convolution"],
        ),
        (
            |_, tensors| {
                let a = tensors.get_mut(&format!("{Q}.lora_A.weight")).unwrap();
                (a.shape, a.bytes) = (vec![3, 12], a.bytes[..72].to_vec());
            },
            &["does not fit the checkpoint", "[3, 12] does not go with `model.layers.0.self_attn.q_proj.weight`"],
        ),
        (
            |_, tensors| tensors.get_mut(&format!("{Q}.lora_A.weight")).unwrap().dtype = safetensors::Dtype::I16,
            &["is I16", "F32, F16 or BF16"],
        ),
        (
            |_, tensors| {
                let extended = Tensor { dtype: safetensors::Dtype::BF16, shape: vec![33, 24], bytes: vec![0; 33 * 48] };
                tensors.insert("base_model.model.lm_head.weight".to_owned(), extended);
            },
            &["[33, 24] does not go with `lm_head.weight`"],
        ),
        (|_, tensors| tensors.clear(), &["holds no tensors"]),
    ];
    for (number, (change, said)) in cases.into_iter().enumerate() {
        let scene = Scene::new();
        let adapter = changed(&scene, "plain", change);
        let error = scene.refused(&recipe(&[adapter], KEEP), &base("bf16"));
        for text in said {
            assert!(error.contains(text), "{number}: {text}\n{error}");
        }
        assert!(error.lines().count() < 12, "{error}");
    }
}

#[test]
fn a_directory_that_is_no_adapter_is_refused() {
    let scene = Scene::new();
    let empty = scene.path("empty");
    fs::create_dir(&empty).unwrap();
    let error = scene.refused(&recipe(std::slice::from_ref(&empty), KEEP), &base("bf16"));
    assert!(error.contains("is no adapter: it holds no `adapter_config.json`"), "{error}");
    fs::copy(adapters("plain")[0].join("adapter_config.json"), empty.join("adapter_config.json")).unwrap();
    fs::write(empty.join("adapter_model.bin"), "").unwrap();
    let error = scene.refused(&recipe(std::slice::from_ref(&empty), KEEP), &base("bf16"));
    assert!(error.contains("only `adapter_model.bin`") && error.contains("safe_serialization=True"), "{error}");
    let error = scene.refused(&recipe(&[scene.path("absent")], KEEP), &base("bf16"));
    assert!(error.contains("does not exist"), "{error}");
    // The adapter given as the model.
    let error = scene.refused(KEEP, &adapters("plain")[0]);
    assert!(error.contains("is a LoRA adapter, not a model") && error.contains("in `adapters`"), "{error}");
    let error = scene.refused("adapters: []\nscheme: PASSTHROUGH\ntargets: Linear\n", &base("bf16"));
    assert!(error.contains("`adapters`"), "{error}");
}

#[test]
fn a_number_that_is_none_ends_the_run_with_its_place() {
    for (rule, layer) in [(KEEP, "kept"), ("rules: [{scheme: W8A8, targets: Linear}]", "quantized")] {
        let scene = Scene::new();
        let adapter = changed(&scene, "plain", |_, tensors| {
            // The second row of B.
            tensors.get_mut(&format!("{Q}.lora_B.weight")).unwrap().bytes[6..8].copy_from_slice(&[0xC0, 0x7F]);
        });
        let error = scene.refused(&recipe(&[adapter], rule), &base("bf16"));
        assert!(
            error.contains("q_proj.weight") && error.contains("row 1") && error.contains("adapter"),
            "{layer}: {error}"
        );
    }
}

/// An adapter by the names of another version of the model's class, and one of a layer that was cut away.
#[test]
fn names_of_other_versions_are_found_and_a_smoke_model_takes_its_layers() {
    let scene = Scene::new();
    let adapter = changed(&scene, "plain", |_, tensors| {
        let all = std::mem::take(tensors);
        let renamed = |name: String| name.replace("base_model.model.model.", "base_model.model.model.language_model.");
        tensors.extend(all.into_iter().map(|(name, tensor)| (renamed(name), tensor)));
    });
    let output = scene.apply(&recipe(std::slice::from_ref(&adapter), KEEP), &base("bf16"), "out", &[]);
    assert_eq!(tensors(&output), merged("plain", "bf16"));
    let smoke = scene.apply(&recipe(&[adapter], KEEP), &base("bf16"), "smoke", &["--smoke=1"]);
    let expected = merged("plain", "bf16");
    assert!(smoke.tensors.len() < expected.len());
    assert!(smoke.tensors.iter().all(|(name, (_, tensor))| expected[name] == *tensor));
}

/// The arguments of `verify` for an output of the base with adapters.
fn verify<'a>(output: &'a str, source: &'a str, adapters: &'a [String]) -> Vec<&'a str> {
    let adapters = adapters.iter().flat_map(|adapter| ["--adapter", adapter]);
    ["verify", output, "--source", source].into_iter().chain(adapters).collect()
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn verify_proves_what_was_merged_by_its_own_arithmetic() {
    for (case, dtype) in CASES {
        for rule in [KEEP, "format: compressed-tensors\nrules: [{scheme: FP8_DYNAMIC, targets: Linear}]"] {
            let scene = Scene::new();
            let output = scene.apply(&recipe(&adapters(case), rule), &base(dtype), "out", &["--verify"]);
            assert!(!output.tensors.is_empty());
            let (out, source) = (scene.path("out"), base(dtype));
            let [out, source] = [&out, &source].map(|path| path.to_str().unwrap());
            let said = scene.tool(&verify(out, source, &texts(&adapters(case))), &[]).unwrap();
            assert!(said.contains("proven against") && !said.contains("partly"), "{case}: {said}");
            assert!(rule != KEEP || said.contains(" merged"), "{said}");
        }
    }
}

#[test]
fn verify_tells_other_adapters_and_altered_weights() {
    let scene = Scene::new();
    scene.apply(&recipe(&adapters("plain"), KEEP), &base("bf16"), "out", &[]);
    let (out, source) = (scene.path("out"), base("bf16"));
    let [out, source] = [&out, &source].map(|path| path.to_str().unwrap());
    let given = texts(&adapters("plain"));
    // Nothing is compared without the adapter, and that is said.
    let (sound, said) = program(&verify(out, source, &[]));
    assert!(!sound, "{said}");
    assert!(said.contains("made with `adapter` merged into its source") && said.contains("`--adapter`"), "{said}");
    let (sound, said) = program(&verify(out, source, &texts(&adapters("patterns"))));
    assert!(!sound, "{said}");
    assert!(said.contains("Q5"), "{said}");
    let weights = scene.path("out/model.safetensors");
    let mut tensors = read(&weights);
    tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().bytes[100] ^= 1;
    write(&weights, &tensors);
    let (sound, said) = program(&verify(out, source, &given));
    assert!(!sound, "{said}");
    assert!(said.contains("model.layers.1.mlp.up_proj.weight"), "{said}");
    // Merged by another order of adapters.
    let scene = Scene::new();
    scene.apply(&recipe(&adapters("two"), KEEP), &base("bf16"), "out", &[]);
    let (out, turned) = (scene.path("out"), adapters("two").into_iter().rev().collect::<Vec<_>>());
    let (sound, said) = program(&verify(out.to_str().unwrap(), source, &texts(&turned)));
    assert!(!sound, "{said}");
    assert!(said.contains("q_proj.weight"), "{said}");
}

/// Cancels a run after its first shard.
struct StopAfterOne(AtomicBool);

impl Observer for StopAfterOne {
    fn shard_finished(&self, _: &str) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_run_with_another_adapter_is_not_resumed() {
    let scene = Scene::new();
    let adapter = changed(&scene, "plain", |_, _| {});
    let plan = || {
        let text = format!("max_shard_size: 4KB\n{}", recipe(std::slice::from_ref(&adapter), KEEP));
        let recipe = Recipe::parse(RecipeText { path: "recipe.yaml".into(), text }).unwrap();
        let checkpoint = Checkpoint::open(&base("bf16")).unwrap();
        Plan::build(recipe, checkpoint.with_adapters(vec![Adapter::open(&adapter).unwrap()])).unwrap()
    };
    let output = scene.path("out");
    let stop = StopAfterOne(AtomicBool::new(false));
    let error = run(&plan(), &output, &RunOptions { threads: 1.try_into().ok(), ..RunOptions::new(&stop.0) }, &stop);
    assert!(matches!(error, Err(RunError::Cancelled)));
    let weights = adapter.join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let go_on = StopAfterOne(AtomicBool::new(false));
    let error = run(&plan(), &output, &RunOptions::new(&AtomicBool::new(false)), &go_on).unwrap_err().to_string();
    assert!(error.contains("the file of an adapter `1/adapter_model.safetensors` was written to since"), "{error}");
}

#[test]
fn an_adapter_that_changes_under_a_run_ends_it() {
    let scene = Scene::new();
    let adapter = changed(&scene, "plain", |_, _| {});
    let recipe =
        Recipe::parse(RecipeText { path: "recipe.yaml".into(), text: recipe(std::slice::from_ref(&adapter), KEEP) });
    let checkpoint = Checkpoint::open(&base("bf16")).unwrap().with_adapters(vec![Adapter::open(&adapter).unwrap()]);
    let plan = Plan::build(recipe.unwrap(), checkpoint).unwrap();
    let weights = adapter.join("adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, bytes).unwrap();
    let stop = StopAfterOne(AtomicBool::new(false));
    let error = run(&plan, &scene.path("out"), &RunOptions::new(&stop.0), &stop).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors") && error.contains("changed"), "{error}");
}
