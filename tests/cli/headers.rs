//! The headers of a checkpoint as a file, for which recipes are planned and tested without the weights.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::json::validator;
use super::{BLOCKS, FIXTURE, Folder, run};

const EXPECTED: &str = "expect:\n  quantized: 14\n  copied: 56\n  unquantized_layers: ['re:.*visual.*']\n";

/// A folder with a recipe, and the headers of a checkpoint.
fn scene(model: &str) -> Folder {
    let folder = Folder::new(&format!("{BLOCKS}{EXPECTED}"));
    let headers = run(&["inspect", model, "--headers"]);
    assert!(headers.status.success(), "{headers:?}");
    fs::write(folder.path("headers.json"), headers.stdout).unwrap();
    folder
}

/// Runs a line in which `@name` is a file of the folder; exit code, stdout and stderr.
fn done(folder: &Folder, line: &str) -> (i32, String, String) {
    let words = folder.words(line);
    let output = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn headers(folder: &Folder) -> Value {
    serde_json::from_slice(&fs::read(folder.path("headers.json")).unwrap()).unwrap()
}

#[test]
fn a_plan_of_headers_is_that_of_the_checkpoint() {
    let folder = scene(FIXTURE);
    let errors: Vec<String> =
        validator("headers").iter_errors(&headers(&folder)).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    for line in [
        "plan @recipe.yaml --no-manifest --json --model",
        "fit @recipe.yaml --vram 2GiB --json --model",
        "inspect --json",
    ] {
        let answer = |model: &str| -> Value {
            let (code, stdout, stderr) = done(&folder, &format!("{line} {model}"));
            assert_eq!(code, 0, "{line}: {stderr}");
            serde_json::from_str(&stdout).unwrap()
        };
        let (mut whole, mut alone) = (answer(FIXTURE), answer("@headers.json"));
        if line.starts_with("inspect") {
            assert_ne!(whole["directory"], alone["directory"]);
            // A header that is written anew may be shorter than the padded one of a file.
            for shard in
                [&mut whole, &mut alone].into_iter().flat_map(|answer| answer["shards"].as_array_mut().unwrap())
            {
                shard["bytes"] = Value::Null;
            }
            for answer in [&mut whole, &mut alone] {
                answer["directory"] = Value::Null;
                answer["left_out"] = Value::Null;
            }
        }
        assert_eq!(whole, alone, "{line}");
    }
}

#[test]
fn recipes_are_tested_for_headers_and_held_against_their_locks() {
    let folder = scene(FIXTURE);
    assert_eq!(done(&folder, &format!("plan @recipe.yaml --model {FIXTURE} --lock -q")).0, 0);
    let (code, stdout, stderr) = done(&folder, "test @recipe.yaml --model @headers.json --json");
    assert_eq!(code, 0, "{stderr}");
    let tested: Value = serde_json::from_str(&stdout).unwrap();
    let recipe = &tested["recipes"][0];
    assert_eq!((&recipe["outcome"], &recipe["expectations"]), (&"passed".into(), &3.into()));
    assert_eq!(recipe["lock"], folder.path("recipe.lock.json"));
    // A model that has grown by a layer is another one.
    let mut more = headers(&folder);
    let tensors = more["shards"][0]["tensors"].as_array_mut().unwrap();
    tensors.push(
        json!({ "name": "model.language_model.layers.2.mlp.up_proj.weight", "dtype": "BF16", "shape": [256, 128] }),
    );
    fs::write(folder.path("headers.json"), more.to_string()).unwrap();
    let (code, _, stderr) = done(&folder, "test @recipe.yaml --model @headers.json");
    assert!(code == 1 && stderr.contains("quantized"), "{stderr}");
}

#[test]
fn what_needs_weights_says_so() {
    let folder = scene(FIXTURE);
    let (code, _, stderr) = done(&folder, "apply @recipe.yaml --model @headers.json --output @out");
    assert!(code == 1 && stderr.contains("holds headers alone: there are no weights to quantize"), "{stderr}");
    assert!(!Path::new(&folder.path("out")).exists() && !Path::new(&folder.path(".out.partial")).exists());
    assert_eq!(done(&folder, "lint @headers.json").0, 2);
    assert!(done(&folder, "plan @recipe.yaml --model @headers.json").2.contains("the manifest is not counted"));
    let (code, stdout, _) = done(&folder, "doctor @recipe.yaml --model @headers.json");
    assert!(code == 0 && stdout.contains("headers alone, without weights") && !stdout.contains("reading:"), "{stdout}");
    // The shape of a packed weight stands in its data.
    fs::write(folder.path("pack.yaml"), "scheme: W4A16\ngroup_size: channel\ntargets: 're:.*language_model.*proj'\n")
        .unwrap();
    assert_eq!(done(&folder, &format!("apply @pack.yaml --model {FIXTURE} --output @packed -q")).0, 0);
    let packed = run(&["inspect", &folder.path("packed"), "--headers"]);
    fs::write(folder.path("packed.json"), packed.stdout).unwrap();
    fs::write(folder.path("back.yaml"), "scheme: DEQUANTIZE\ntargets: Linear\n").unwrap();
    assert_eq!(done(&folder, "plan @back.yaml --model @packed -q").0, 0);
    let (code, _, stderr) = done(&folder, "plan @back.yaml --model @packed.json");
    assert!(code == 1 && stderr.contains("holds headers alone, and data is asked for"), "{stderr}");
}

#[test]
fn files_that_are_no_headers_are_refused() {
    let folder = scene(FIXTURE);
    let good = headers(&folder);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut headers = good.clone();
        change(&mut headers);
        headers.to_string()
    };
    let tensor = |name: &str, dtype: &str, shape: &[u64]| json!({ "name": name, "dtype": dtype, "shape": shape });
    let first = |tensor: Value| with(&|headers| headers["shards"][0]["tensors"][0] = tensor.clone());
    let twice = good["shards"][0]["tensors"][1].clone();
    let elsewhere = good["shards"][1]["tensors"][0].clone();
    for (text, said) in [
        ("{\"headers_version\": 1".to_owned(), "is no file of headers: EOF while parsing"),
        ("{\"headers_version\": 1, \"schemas\": []}".to_owned(), "unknown field `schemas`"),
        ("{\"schemas\": []}".to_owned(), "is not a directory"),
        (with(&|headers| headers["headers_version"] = 2.into()), "it has version 2, and this program knows 1"),
        (with(&|headers| headers["config"] = json!({})), "it describes no model"),
        (with(&|headers| headers["shards"] = json!([])), "holds no tensors"),
        (with(&|headers| headers["shards"][1]["name"] = good["shards"][0]["name"].clone()), "it names a shard twice"),
        (first(twice), "duplicate tensor"),
        (first(elsewhere), "duplicate tensor"),
        (first(tensor("a", "BF17", &[1])), "unknown variant `BF17`"),
        (first(tensor("", "BF16", &[1])), "error: "),
        (first(tensor("a", "BF16", &[u64::MAX >> 1, 4])), "overflows"),
        (first(tensor("a", "BF16", &[1; 17])), "error: "),
        (first(tensor("a", "BF16", &[1 << 62])), "overflows"),
    ] {
        fs::write(folder.path("bad.json"), &text).unwrap();
        let (code, _, stderr) = done(&folder, "plan @recipe.yaml --model @bad.json");
        assert!(code == 1 && stderr.contains(said), "{said}: {stderr}");
    }
}
