//! The JSON of every command: it has a schema, it follows it, and there is one object whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{BLOCKS, FIXTURE, Folder, run};
use crate::support::folder::{Base, Folder as Checkpoint, source};

const SCHEMAS: [&str; 21] = [
    "apply",
    "apply-delta",
    "delta",
    "diff",
    "doctor",
    "error",
    "events",
    "explain",
    "fit",
    "headers",
    "inspect",
    "lint",
    "models",
    "plan",
    "plan-diff",
    "plan-lock",
    "schemes",
    "schemes-test",
    "test",
    "validate",
    "verify",
];

fn checked_in(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/output/{name}.schema.json"));
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// The schema, which allows no key that it does not name: what programs may not count on is not promised either.
pub(super) fn validator(name: &str) -> Validator {
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(object) => {
                if object.contains_key("properties") {
                    object.insert("additionalProperties".to_owned(), false.into());
                }
                object.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema = checked_in(name);
    close(&mut schema);
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn the_checked_in_schemas_are_those_that_are_printed() {
    for name in SCHEMAS {
        let printed: Value = serde_json::from_slice(&run(&["schema", "--output", name]).stdout).unwrap();
        let command = format!("cargo run -- schema --output {name} > schemas/output/{name}.schema.json");
        assert!(printed == checked_in(name), "schemas/output/{name}.schema.json is stale: run `{command}`");
        jsonschema::meta::validate(&printed).unwrap();
    }
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/output")).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let expected: BTreeSet<String> = SCHEMAS.iter().map(|name| format!("{name}.schema.json")).collect();
    assert_eq!(files, expected);
}

/// A folder with recipes, an output, an output with a fault, and one that is not what its manifest says.
fn scene() -> Folder {
    let folder = Folder::new(BLOCKS);
    let keep = format!("on_nonfinite: keep\n{BLOCKS}");
    let bad = "format: fp8\nscheme: FP8_BLOK\ntargets: [Linear, nothing]\n";
    for (name, text) in [("keep.yaml", keep.as_str()), ("bad.yaml", bad), ("warned.yaml", WARNED)] {
        fs::write(folder.path(name), text).unwrap();
    }
    Checkpoint::read(Base::Block.dir()).write(Path::new(&folder.path("good")));
    let mut spoilt = Checkpoint::read(Base::Block.dir());
    spoilt.tensor("model.language_model.layers.0.mlp.up_proj.weight").bytes[300] ^= 0x40;
    spoilt.remove("model.language_model.layers.1.mlp.down_proj.weight_scale_inv");
    spoilt.write(Path::new(&folder.path("spoilt")));
    // NaN, infinity and zeros in a row each, so that every record of a run has an entry.
    let mut odd = Checkpoint::read(&source());
    let weight = &mut odd.tensor("model.language_model.layers.0.mlp.up_proj.weight").bytes;
    weight[..4].copy_from_slice(&[0xc0, 0x7f, 0x80, 0x7f]);
    odd.tensor("model.language_model.layers.1.mlp.up_proj.weight").bytes.fill(0);
    odd.write(Path::new(&folder.path("odd")));
    let mut cut = Checkpoint::read(&source());
    cut.remove("model.language_model.norm.weight");
    cut.rename("lm_head.weight", "other_head.weight");
    cut.write(Path::new(&folder.path("other")));
    folder
}

/// A recipe with a warning: some layers have no kernel that fits.
const WARNED: &str = "format: compressed-tensors\nscheme: W3A16\ntargets: 're:.*language_model.*proj'\n";

/// Runs a line in which `@name` is a file of the folder; the exit code, and the one value on stdout.
fn answer(folder: &Folder, line: &str) -> (i32, Value) {
    let words: Vec<String> = line
        .split(' ')
        .map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| folder.path(name)))
        .collect();
    let output = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{line}: {error}: {}", String::from_utf8_lossy(&output.stdout)));
    (output.status.code().unwrap(), value)
}

fn hold(schema: &Validator, value: &Value, line: &str) {
    let errors: Vec<_> = schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "{line}");
    assert_eq!(value.as_object().unwrap().keys().next().unwrap(), "schema_version", "{line}");
}

#[test]
fn every_output_follows_its_schema() {
    let folder = scene();
    let with = format!("--model {FIXTURE} --json");
    let cases: [(&str, i32, String); 39] = [
        ("plan", 0, format!("plan @recipe.yaml {with}")),
        ("plan", 0, format!("plan @keep.yaml {with}")),
        ("plan", 0, format!("plan @warned.yaml {with}")),
        ("plan", 0, format!("plan @recipe.yaml --no-manifest {with}")),
        ("explain", 0, format!("explain @recipe.yaml lm_head {with}")),
        ("explain", 0, format!("explain @recipe.yaml model.visual.merger.norm {with}")),
        ("apply", 0, format!("apply @recipe.yaml --output @out {with}")),
        ("apply", 0, "apply @keep.yaml --output @kept --model @odd --json".to_owned()),
        ("verify", 0, format!("verify @out --source {FIXTURE} --json")),
        ("verify", 0, format!("verify @out --source {FIXTURE} --json --manifest")),
        ("verify", 0, "verify @kept --source @odd --json".to_owned()),
        ("verify", 1, format!("verify @spoilt --source {FIXTURE} --json")),
        ("verify", 1, format!("verify @out --source {FIXTURE} --json --fail-if sqnr<60dB")),
        ("lint", 0, "lint @out --json".to_owned()),
        ("lint", 0, "lint @out --format json".to_owned()),
        ("lint", 1, "lint @spoilt --format=json".to_owned()),
        ("fit", 0, format!("fit @recipe.yaml --model {FIXTURE} --vram 2GiB --json")),
        ("fit", 5, format!("fit {FIXTURE} --vram 512MiB --concurrency 100000 --json")),
        ("inspect", 0, format!("inspect {FIXTURE} --json")),
        ("inspect", 0, "inspect @out --json".to_owned()),
        ("diff", 0, format!("diff {FIXTURE} @out --json")),
        ("diff", 1, format!("diff {FIXTURE} @other --json --exit-code")),
        ("diff", 0, "diff @out @out --json --exit-code".to_owned()),
        ("diff", 0, "diff @odd @kept --json".to_owned()),
        ("delta", 0, format!("delta {FIXTURE} @out --output @changes --json")),
        ("apply-delta", 0, format!("apply-delta @changes --base {FIXTURE} --output @again --json")),
        ("schemes", 0, "schemes --json".to_owned()),
        ("schemes", 0, "schemes W4A16 --json".to_owned()),
        ("schemes-test", 0, "schemes test MXFP8 passthrough --json".to_owned()),
        ("schemes-test", 1, "schemes test MXFP8 --options {\"wheels\":4} --json".to_owned()),
        ("validate", 0, "validate @recipe.yaml @warned.yaml --json".to_owned()),
        ("validate", 1, "validate @bad.yaml @recipe.yaml --json".to_owned()),
        ("validate", 1, "validate @missing.yaml --format json".to_owned()),
        ("validate", 0, "validate @recipe.yaml --json --quiet".to_owned()),
        ("plan", 0, format!("plan @recipe.yaml --quiet {with}")),
        ("plan-diff", 0, format!("plan @recipe.yaml --diff @keep.yaml {with}")),
        ("plan-diff", 0, format!("plan @recipe.yaml --diff @warned.yaml {with}")),
        ("test", 0, format!("test @recipe.yaml @warned.yaml {with}")),
        ("test", 1, format!("test @recipe.yaml @bad.yaml {with}")),
    ];
    for (name, code, line) in cases {
        let (exit_code, value) = answer(&folder, &line);
        assert_eq!(exit_code, code, "{line}: {value}");
        hold(&validator(name), &value, &line);
    }
}

#[test]
fn a_proof_against_another_manifest_is_one_object() {
    let folder = scene();
    assert_eq!(answer(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @out --json")).0, 0);
    let config = Path::new(&folder.path("out")).join("tokenizer_config.json");
    let text = fs::read_to_string(&config).unwrap() + "\n";
    fs::write(&config, text).unwrap();
    let (code, value) = answer(&folder, "verify @out --no-source --manifest --json");
    assert_eq!((code, &value["manifest"][0]["file"]), (1, &json!("tokenizer_config.json")));
    hold(&validator("verify"), &value, "verify --manifest");
}

#[test]
fn every_failure_is_one_object() {
    let folder = scene();
    let schema = validator("error");
    let with = format!("--model {FIXTURE} --json");
    let cases: [(&str, i32, String); 22] = [
        ("usage", 2, "--json".to_owned()),
        ("usage", 2, "plan --json".to_owned()),
        ("usage", 2, "plan @recipe.yaml --wheels --json".to_owned()),
        ("usage", 2, format!("apply @recipe.yaml --output @out --threads 0 {with}")),
        ("usage", 2, "lint @good --json --format sarif".to_owned()),
        ("usage", 2, "verify --json --fail-if psnr<3 @good".to_owned()),
        ("recipe", 1, format!("plan @bad.yaml {with}")),
        ("recipe", 1, format!("plan @missing.yaml {with}")),
        ("recipe", 1, format!("apply @bad.yaml --output @out {with}")),
        ("recipe", 1, format!("explain @bad.yaml lm_head {with}")),
        ("recipe", 1, "plan @recipe.yaml --model @good --json".to_owned()),
        ("input", 1, "plan @recipe.yaml --json".to_owned()),
        ("input", 1, "plan @recipe.yaml --model @nowhere --json".to_owned()),
        ("input", 1, format!("explain @recipe.yaml q_proj {with}")),
        ("input", 1, format!("apply @recipe.yaml {with}")),
        ("input", 1, "inspect @nowhere --json".to_owned()),
        ("input", 1, "schemes FP8_BLOK --json".to_owned()),
        ("input", 1, "apply @recipe.yaml --output @out --model @odd --json".to_owned()),
        ("run", 2, format!("apply @recipe.yaml --output @good {with}")),
        ("usage", 2, format!("apply @recipe.yaml --output @out --simd sse2 {with}")),
        ("run", 2, "lint @nowhere --json".to_owned()),
        ("run", 2, "diff @nowhere @good --json".to_owned()),
    ];
    for (kind, code, line) in cases {
        let (exit_code, value) = answer(&folder, &line);
        hold(&schema, &value, &line);
        let error = &value["error"];
        assert_eq!((exit_code, &error["kind"], &error["exit_code"]), (code, &json!(kind), &json!(code)), "{line}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{line}: {message}");
    }
}

#[test]
fn a_failure_names_its_place_and_the_way_out() {
    let folder = scene();
    let (_, value) = answer(&folder, &format!("plan @bad.yaml --model {FIXTURE} --json"));
    let error = &value["error"];
    assert_eq!(error["message"], "no scheme is called `FP8_BLOK`");
    let place = json!({ "file": folder.path("bad.yaml"), "line": 2, "column": 9, "end_line": 2, "end_column": 17 });
    assert_eq!((&error["places"], &error["help"]), (&json!([place]), &json!(["did you mean `FP8_BLOCK`?"])));
    assert_eq!(error["diagnostics"][0]["level"], "error");
    // Of a file without a text, its name.
    let (_, value) = answer(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @good --json"));
    let error = &value["error"];
    assert_eq!(error["places"][0]["file"], folder.path("good"));
    assert_eq!(error["help"], json!(["give another `--output`, or move it away first"]));
    // People read the same on stderr.
    let output = run(&["plan", &folder.path("bad.yaml"), "-m", FIXTURE, "--json"]);
    assert!(output.stderr.starts_with(b"error: no scheme is called `FP8_BLOK`\n"));
}

#[test]
fn recipes_are_validated_as_sarif() {
    let folder = scene();
    let schema: Value = serde_json::from_str(include_str!("../check/sarif-schema-2.1.0.json")).unwrap();
    let result = |log: &Value| log["runs"][0]["results"][0].clone();
    let (code, log) = answer(&folder, "validate @bad.yaml @recipe.yaml --format sarif");
    assert_eq!((code, log["runs"][0]["results"].as_array().unwrap().len()), (1, 1));
    let physical = &result(&log)["locations"][0]["physicalLocation"];
    assert_eq!(physical["artifactLocation"]["uri"], format!("file://{}", folder.path("bad.yaml")));
    assert_eq!((&physical["region"]["startLine"], &physical["region"]["startColumn"]), (&json!(2), &json!(9)));
    let (code, none) = answer(&folder, "validate @recipe.yaml --format sarif");
    assert_eq!((code, none["runs"][0]["results"].as_array().unwrap().len()), (0, 0));
    // A relative path stays one, so that a service finds it in the repository.
    let (_, relative) = answer(&folder, "validate tests/cli/no_recipe_here.yaml --format sarif");
    let uri = &result(&relative)["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "tests/cli/no_recipe_here.yaml");
    for log in [log, none, relative] {
        let mut schema = schema.clone();
        for owner in ["run", "toolComponent"] {
            schema["definitions"][owner]["properties"]["language"].as_object_mut().unwrap().remove("pattern");
        }
        let schema = jsonschema::draft7::new(&schema).unwrap();
        let errors: Vec<String> = schema.iter_errors(&log).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new());
    }
}

#[test]
fn apply_names_what_it_read_and_wrote() {
    let folder = scene();
    let (_, report) = answer(&folder, &format!("apply @recipe.yaml --model {FIXTURE} --output @out --json"));
    let named = [&report["output"], &report["recipe"], &report["source"]];
    assert_eq!(named, [&json!(folder.path("out")), &json!(folder.path("recipe.yaml")), &json!(FIXTURE)]);
}
