//! What people see: each command's output, and what it says when something is wrong.

mod advice;
mod docs;
mod events;
mod headers;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::program;

mod json;
mod parts;
mod proof;
mod quiet;
mod recipe_tests;
mod schemas;
mod shell;
mod size;
mod width;

const FIXTURE: &str = "tests/fixtures/tiny-qwen3-vl";

const BLOCKS: &str = "\
format: fp8
rules:
  - scheme: PASSTHROUGH
    targets: ['re:.*visual.*', '*norm*']
  - scheme: FP8_DYNAMIC
    block_size: 128
    targets: ['re:.*proj', lm_head]
    ignore: [lm_head]
";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let of_others = ["NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "QWEN_FP8_SIMD"];
    for variable in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].iter().chain(&of_others) {
        command.env_remove(variable);
    }
    // No test asks the hub of the world.
    command.env("HF_HUB_OFFLINE", "1");
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A folder with recipes in it.
struct Folder(TempDir);

impl Folder {
    fn new(recipe: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("recipe.yaml"), recipe).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The words of a line in which `@name` is a file of this folder.
    fn words(&self, line: &str) -> Vec<String> {
        let file = |word: &str| word.strip_prefix('@').map(|name| self.path(name));
        line.split(' ').map(|word| file(word).unwrap_or_else(|| word.to_owned())).collect()
    }

    /// Runs a command in which `@name` is a file of this folder; the text shows it so.
    fn run(&self, line: &str) -> String {
        let arguments = self.words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.seen(line, &mut command(&arguments))
    }

    /// Runs a command, with the data and the home of this folder, and shows it as this line.
    fn seen(&self, line: &str, command: &mut Command) -> String {
        let output = command.env("XDG_DATA_HOME", self.path("data")).env("HOME", self.path("home")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(self.0.path().to_str().unwrap(), "@");
        format!(
            "$ qwen-fp8 {line}\nexit code {}\n\n--- stdout\n{}\n--- stderr\n{}",
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr)
        )
    }
}

/// Asserts a snapshot in which what differs between runs and machines is left out.
macro_rules! assert_seen {
    ($name:literal, $text:expr) => {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.add_filter(r"in \d+\.\d+ s \([^)]*\)", "in [TIME]");
        settings.add_filter(r"\[\d\d:\d\d:\d\d\] ", "[CLOCK] ");
        settings.add_filter(r"\d+\.\d+ ms  \d+\.\d+ GB/s", "[TIME]");
        settings.add_filter(r"this machine has .*; without", "this machine has [SETS]; without");
        settings.bind(|| insta::assert_snapshot!($name, $text));
    };
}

use assert_seen;

#[test]
fn plan_shows_what_becomes_of_every_tensor() {
    let folder = Folder::new(BLOCKS);
    assert_seen!("plan", folder.run(&format!("plan @recipe.yaml --model {FIXTURE}")));
}

#[test]
fn plan_as_json_is_complete() {
    let folder = Folder::new(BLOCKS);
    let output = run(&["plan", &folder.path("recipe.yaml"), "-m", FIXTURE, "--json"]);
    assert!(output.status.success());
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<&String> = plan.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "schema_version",
            "format",
            "on_nonfinite",
            "kv_cache",
            "split_stacks",
            "split_matrices",
            "rows",
            "shards",
            "documents",
            "side_files",
            "quantized_tensors",
            "carried_tensors",
            "dequantized_tensors",
            "merged_tensors",
            "copied_tensors",
            "adapters",
            "source_bytes",
            "output_bytes",
            "saved_share",
            "manifest",
            "directory_bytes",
            "tensor_parallel",
            "warnings",
            "notes",
        ]
    );
    assert_eq!((&plan["format"], &plan["quantized_tensors"]), (&"fp8".into(), &14.into()));
    let row =
        plan["rows"].as_array().unwrap().iter().find(|row| row["name"].as_str().unwrap().ends_with("up_proj.weight"));
    assert_seen!("plan_json_row", serde_json::to_string_pretty(row.unwrap()).unwrap());
    let counted: u64 = plan["rows"].as_array().unwrap().iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 70);
}

#[test]
fn plan_says_what_a_server_would_not_load() {
    let folder =
        Folder::new("format: fp8\nscheme: FP8_DYNAMIC\ntargets: Linear\nignore: ['re:visual.*', 're:.*k_proj']\n");
    assert_seen!("plan_refused", folder.run(&format!("plan @recipe.yaml --model {FIXTURE}")));
    let folder =
        Folder::new(&BLOCKS.replace("'re:.*visual.*'", "'re:.*layers.1.*k_proj'").replace("'re:.*proj'", "Linear"));
    assert_seen!("plan_refused_by_servers", folder.run(&format!("plan @recipe.yaml --model {FIXTURE}")));
}

#[test]
fn init_writes_a_recipe_that_plan_accepts() {
    let folder = Folder::new("");
    assert_seen!("init", folder.run(&format!("init {FIXTURE}")));
    let new = format!("init {FIXTURE} --output @new.yaml");
    let seen = [new.as_str(), "validate @new.yaml", new.as_str(), &format!("init {FIXTURE} --scheme channel -q")];
    assert_seen!("init_to_a_file", seen.map(|line| folder.run(line)).join("\n\n"));
    assert!(run(&["plan", &folder.path("new.yaml")]).status.success());

    let quantized = folder.path("quantized");
    assert!(run(&["apply", "-q", &folder.path("new.yaml"), "-o", &quantized]).status.success());
    let toml = format!("init {FIXTURE} --output @new.toml");
    let missing = format!("init {FIXTURE} --output @no/new.yaml");
    let seen = ["init @quantized", "init @nowhere", "init @", toml.as_str(), missing.as_str()];
    assert_seen!("init_refused", seen.map(|line| folder.run(line)).join("\n\n"));
    assert!(!Path::new(&folder.path("new.toml")).exists());
}

#[test]
fn explain_names_the_rule() {
    let folder = Folder::new(BLOCKS);
    let mut seen = String::new();
    for name in [
        "model.language_model.layers.1.mlp.up_proj",
        "model.visual.blocks.0.norm1",
        "lm_head.weight",
        "model.language_model.embed_tokens",
        "q_proj",
    ] {
        seen.push_str(&folder.run(&format!("explain @recipe.yaml {name} --model {FIXTURE}")));
        seen.push_str("\n\n");
    }
    assert_seen!("explain", seen);
    let json = run(&["explain", &folder.path("recipe.yaml"), "lm_head", "-m", FIXTURE, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["tensors"][0]["tensor"], &json["tensors"][0]["rules"][1]["decides"]),
        (&"lm_head.weight".into(), &false.into())
    );
}

#[test]
fn inspect_counts_by_kind() {
    let folder = Folder::new("");
    assert_seen!("inspect", folder.run(&format!("inspect {FIXTURE}")));
    let json: Value = serde_json::from_slice(&run(&["inspect", FIXTURE, "--json"]).stdout).unwrap();
    assert_eq!((&json["tensors"], &json["kinds"][0]["kind"]), (&70.into(), &"Linear".into()));
}

#[test]
fn schemes_are_listed_and_described() {
    let folder = Folder::new("");
    let seen = ["schemes", "schemes FP8_BLOCK", "schemes passthrough", "schemes FP8_BLOK"].map(|line| folder.run(line));
    assert_seen!("schemes", seen.join("\n\n"));
    let json: Value = serde_json::from_slice(&run(&["schemes", "--json"]).stdout).unwrap();
    let names: Vec<&str> =
        json["schemes"].as_array().unwrap().iter().map(|scheme| scheme["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");
    let json: Value = serde_json::from_slice(&run(&["schemes", "W4A16", "--json"]).stdout).unwrap();
    let packed = &json["schemes"][0]["layout"][0];
    assert_eq!((&packed["name"], &packed["bytes"]), (&"weight_packed".into(), &(4096 * 12288 / 2).into()));
    for name in ["FP8", "FP8_BLOCK", "FP8_DYNAMIC", "PASSTHROUGH", "W4A16"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn schemes_test_runs_the_conformance_suite() {
    let folder = Folder::new("");
    let seen = [
        "schemes test NVFP4A16 passthrough int8",
        "schemes test MXFP8 W4A16 --options {\"group_size\":0}",
        "schemes test W4A16 --options {\"group_size\":48}",
        "schemes test W4A16 --options [64]",
        "schemes test --options {}",
        "schemes test NVFP4A61",
    ]
    .map(|line| folder.run(line));
    assert_seen!("schemes_test", seen.join("\n\n"));

    let tested = run(&["schemes", "test", "MXFP8", "--json"]);
    let json: Value = serde_json::from_slice(&tested.stdout).unwrap();
    let scheme = &json["schemes"][0];
    assert_eq!((&scheme["name"], &scheme["passed"]), (&"MXFP8".into(), &true.into()));
    assert!(scheme["golden_vectors"].as_u64() > Some(0), "{json}");
    let tested = run(&["schemes", "test", "MXFP8", "--options", "{\"wheels\": 4}", "--json"]);
    let json: Value = serde_json::from_slice(&tested.stdout).unwrap();
    let scheme = &json["schemes"][0];
    assert_eq!((tested.status.code(), tested.stderr.len(), &scheme["passed"]), (Some(1), 0, &false.into()));
    assert!(scheme["broken"].as_str().unwrap().contains("unknown field `wheels`"), "{json}");
}

#[test]
fn schema_is_the_one_that_is_checked_in() {
    let printed: Value = serde_json::from_slice(&run(&["schema"]).stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/recipe.schema.json");
    assert_eq!(printed, serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap());
}

#[test]
fn validate_needs_no_checkpoint() {
    let folder = Folder::new(BLOCKS);
    fs::write(folder.path("bad.yaml"), "format: fp8\nscheme: FP8_BLOK\ntarget: Linear\n").unwrap();
    fs::write(folder.path("never.yaml"), "format: fp8\nscheme: FP8_DYNAMIC\ntargets: Linear\n").unwrap();
    assert_seen!("validate", folder.run("validate @recipe.yaml @bad.yaml @never.yaml @missing.yaml"));
    assert_seen!("validate_good", folder.run("validate @recipe.yaml"));
    assert_eq!(run(&["validate", "-q", &folder.path("recipe.yaml")]).stderr, b"");
}

#[test]
fn missing_and_wrong_arguments_are_named() {
    let folder = Folder::new(BLOCKS);
    fs::create_dir(folder.path("Qwen3-VL-8B")).unwrap();
    fs::create_dir(folder.path("taken")).unwrap();
    fs::write(folder.path("taken/mine.txt"), "mine").unwrap();
    let seen = [
        "plan @missing.yaml",
        "plan @recipe.yaml",
        "plan @recipe.yaml --model @Qwen3-VL-8b",
        "plan @recipe.yaml --model @Qwen3-VL-8B",
        "apply @recipe.yaml --model tests/fixtures/tiny-qwen3-vl",
        "apply @recipe.yaml --model tests/fixtures/tiny-qwen3-vl --output @taken",
        "apply @recipe.yaml --model tests/fixtures/tiny-qwen3-vl --output @out --simd nonsense",
        "apply @recipe.yaml --model tests/fixtures/tiny-qwen3-vl --output @out --threads 0",
        "explain @recipe.yaml --model",
    ]
    .map(|line| folder.run(line));
    assert_seen!("missing", seen.join("\n\n"));
    assert!(!Path::new(&folder.path("out")).exists());
}

#[test]
fn a_model_id_is_looked_up_in_the_cache() {
    let folder = Folder::new(BLOCKS);
    let cache = folder.path("cache");
    let plan = |id: &str| {
        let output = command(&["plan", &folder.path("recipe.yaml"), "-m", id]).env("HF_HUB_CACHE", &cache).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(folder.0.path().to_str().unwrap(), "@");
        (output.status.code().unwrap(), said)
    };
    let (code, said) = plan("Qwen/Qwen3-VL-8B-Instruct");
    assert_seen!("model_id", format!("exit code {code}\n{said}"));

    let repository = Path::new(&cache).join("models--Qwen--tiny");
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::create_dir_all(repository.join("snapshots/0123456789012345678901234567890123456789")).unwrap();
    fs::write(repository.join("refs/main"), "0123456789012345678901234567890123456789").unwrap();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE)).unwrap() {
        let file = file.unwrap();
        let link = repository.join("snapshots/0123456789012345678901234567890123456789").join(file.file_name());
        std::os::unix::fs::symlink(file.path(), link).unwrap();
    }
    assert_eq!(plan("Qwen/tiny"), (0, String::new()));
}

#[test]
fn apply_and_fit_name_no_server_that_is_known_to_fail() {
    for (class, model_type, ending, line) in [
        ("T5ForConditionalGeneration", "t5", "no server is known here that serves it: vLLM and SGLang: no class", None),
        ("MllamaForConditionalGeneration", "mllama", "to serve it:  python3 -m sglang.launch_server", Some("SGLang")),
        ("Qwen3ForCausalLM", "qwen3", "to serve it:  vllm serve", Some("vLLM")),
    ] {
        let folder = Folder::new("{scheme: FP8_DYNAMIC, targets: Linear}\n");
        let model = crate::support::shapes::small_text()
            .with_config("architectures", serde_json::json!([class]))
            .with_config("model_type", model_type.into())
            .write_single();
        let (recipe, output) = (folder.path("recipe.yaml"), folder.path("out"));
        let model = model.path().to_str().unwrap();
        let applied = run(&["apply", &recipe, "-m", model, "-o", &output]);
        let said = String::from_utf8(applied.stderr).unwrap();
        assert!(applied.status.success() && said.contains(ending), "{class}: {said}");
        for arguments in [
            &["fit", &output, "--vram", "24GiB", "--json"][..],
            &["fit", &recipe, "-m", model, "--vram", "24GiB", "--json"],
        ] {
            let fit: Value = serde_json::from_slice(&run(arguments).stdout).unwrap();
            assert_eq!(fit["serve"][0]["server"].as_str(), line, "{class}: {fit}");
            let notes = fit["notes"].to_string();
            assert_eq!(notes.contains("vLLM is not known to serve it"), line != Some("vLLM"), "{class}: {notes}");
        }
    }
}

#[test]
fn apply_says_as_much_as_is_asked() {
    let folder = Folder::new(BLOCKS);
    let apply = |output: &str, more: &[&str]| {
        let (recipe, output) = (folder.path("recipe.yaml"), folder.path(output));
        let mut arguments = vec!["apply", &recipe, "--model", FIXTURE, "--threads", "1", "--output", &output];
        arguments.extend(more);
        run(&arguments)
    };
    let text =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(folder.0.path().to_str().unwrap(), "@");
    let quiet = apply("quiet", &["-q"]);
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");

    let plain = apply("plain", &[]);
    assert!(plain.stdout.is_empty());
    let said = text(&plain.stderr);
    let end = said.lines().skip_while(|line| !line.starts_with("@/plain: ")).collect::<Vec<_>>().join("\n");
    assert_seen!("apply_last_lines", end);
    // The line that proves the output is one that can be typed.
    let verify = said.lines().find_map(|line| line.strip_prefix("to prove it:  qwen-fp8 ")).unwrap();
    let verify = verify.replace('@', folder.0.path().to_str().unwrap());
    assert!(run(&verify.split(' ').collect::<Vec<_>>()).status.success());

    let verbose = text(&apply("verbose", &["-v"]).stderr);
    assert_eq!(verbose.lines().filter(|line| line.contains(" ms  ")).count(), 70, "{verbose}");

    let json = apply("json", &["--json"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    let mut keys: Vec<&String> = report.as_object().unwrap().keys().collect();
    keys.sort();
    assert_seen!("apply_json_keys", keys.iter().map(|key| format!("{key}\n")).collect::<String>());
    assert_eq!(report["tensors_quantized"], 14);

    let timings = text(&apply("timings", &["--timings"]).stderr);
    assert!(timings.contains("bound by") && timings.contains("slowest tensors"), "{timings}");

    let conflict = apply("both", &["-q", "-v"]);
    assert_eq!(conflict.status.code(), Some(2));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [&["schemes"][..], &["schema"], &["inspect", FIXTURE], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{arguments:?}");
    }
    // A full disk is one.
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let output = command(&["schemes"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stderr.starts_with(b"error: standard output cannot be written"));
    }
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let folder = Folder::new("scheme: FP8_BLOK\ntargets: Linear\n");
    let recipe = folder.path("recipe.yaml");
    let is_coloured = |more: &[&str], no_color: bool| {
        let mut command = command(&["validate", &recipe]);
        command.args(more);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        output.stderr.contains(&0x1b)
    };
    assert!(!is_coloured(&[], false));
    assert!(!is_coloured(&[], true));
    assert!(!is_coloured(&["--color", "never"], false));
    assert!(is_coloured(&["--color", "always"], false));
    // What was typed is meant more than what the environment says.
    assert!(is_coloured(&["--color", "always"], true));
}

#[test]
fn help_names_the_commands_and_exit_codes() {
    assert_seen!("help", Folder::new("").run("--help"));
}

#[test]
fn verify_holds_an_output_against_its_manifest() {
    let folder = Folder::new(BLOCKS);
    let out = folder.path("out");
    assert!(run(&["apply", "-q", &folder.path("recipe.yaml"), "-m", FIXTURE, "-o", &out]).status.success());
    assert!(run(&["verify", &out, "--manifest", "--no-source"]).status.success());
    let shard = Path::new(&out).join("model-00001-of-00004.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let refused = run(&["verify", &out, "--manifest"]);
    let said = String::from_utf8(refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("`model-00001-of-00004.safetensors`, `model.language_model."), "{said}");
}

#[test]
fn fail_if_says_where_it_measured_nothing() {
    let folder = Folder::new("scheme: PASSTHROUGH\ntargets: Linear\n");
    let out = folder.path("out");
    assert!(run(&["apply", "-q", &folder.path("recipe.yaml"), "-m", FIXTURE, "-o", &out]).status.success());
    let verify = |more: &[&str]| {
        String::from_utf8(run(&[&["verify", &out, "--source", FIXTURE], more].concat()).stdout).unwrap()
    };
    let said = verify(&["--fail-if", "sqnr<30dB"]);
    assert!(said.ends_with("`--fail-if` was held against no tensor: none was quantized from the source, so that there is no error to measure\n"), "{said}");
    assert!(!verify(&[]).contains("--fail-if"));
    let json = |more: &[&str]| serde_json::from_str::<Value>(&verify(&[&["--json"], more].concat())).unwrap();
    assert_eq!(json(&["--fail-if", "sqnr<30dB"])["fail_if_tensors"], 0);
    assert_eq!(json(&[]).get("fail_if_tensors"), None);
}

#[test]
fn fit_says_how_to_serve() {
    let folder = Folder::new(BLOCKS);
    assert_seen!("fit", folder.run(&format!("fit @recipe.yaml --model {FIXTURE} --vram 2GiB --context 128")));
    assert_seen!("fit_not", folder.run(&format!("fit {FIXTURE} --vram 512MiB --context 4000 --concurrency 1000")));
    assert_seen!("fit_gpus", folder.run(&format!("fit {FIXTURE} --vram 2GiB --tensor-parallel 3")));
}

#[test]
fn fit_names_what_was_meant() {
    let folder = Folder::new(BLOCKS);
    for (line, said) in [
        ("fit @recipe.yaml", "--vram <SIZE>"),
        ("fit tests/fixtures/tiny-qwen3-v --vram 16GiB", "did you mean `tests/fixtures/tiny-qwen3-vl`?"),
        ("fit tests/fixtures/tiny-qwen3-vl --vram 16", "did you mean 16GiB?"),
        ("fit tests/fixtures/tiny-qwen3-vl --vram 16gigs", "did you mean 16GB?"),
        ("fit tests/fixtures/tiny-qwen3-vl --vram -1", "-1"),
        ("fit tests/fixtures/tiny-qwen3-vl --vram 16GiB --tensor-parallel 0", "0 is not in 1..=1024"),
        ("fit tests/fixtures/tiny-qwen3-vl --vram 16GiB --context 0", "0 is not in 1.."),
        ("fit tests/fixtures/tiny-qwen3-vl --vram 16GiB --model x", "goes with a recipe"),
    ] {
        let seen = folder.run(line);
        assert!(seen.contains(said) && !seen.contains("exit code 0"), "{line}: {seen}");
    }
    let seen = folder.run(&format!("fit {FIXTURE} --vram 16GB"));
    assert!(seen.contains("exit code 0") && seen.contains("sold with 16 GB has 16GiB"), "{seen}");
}
