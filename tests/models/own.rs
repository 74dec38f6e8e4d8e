//! Families of the user's own: what is wrong with their files is said where it stands, with what was expected.

use std::fs;
use std::path::Path;
use std::process::Command;

use qwen_fp8::recipe::diagnostic::render;
use qwen_fp8::recipe::{FamiliesError, read_families};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::program::program;

/// A folder of these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// What is said of these files; nothing of those that are right.
fn said(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    match read_families(folder.path()) {
        Ok(families) => {
            assert_eq!(families.len(), files.len());
            String::new()
        }
        Err(FamiliesError::Folder(message, help)) => panic!("{message}: {help:?}"),
        Err(FamiliesError::Files(refused)) => {
            let all: Vec<String> = refused.iter().map(|error| render(&error.diagnostics, &error.text, false)).collect();
            all.join("\n").replace(folder.path().to_str().unwrap(), "models")
        }
    }
}

const HEAD: &str = "name: Mine\narchitectures: [MineForCausalLM]\n";

#[test]
fn a_mistake_is_said_at_its_place_with_what_was_meant() {
    for (line, marked, wrong, help) in [
        // Keys and values that the schema does not know.
        ("architecture: [A]", "architecture", "unknown key `architecture`", ""),
        ("lke: llama", "lke", "unknown key `lke`", "did you mean `like`?"),
        ("vision: ['**.visual.**']", "vision", "unknown key `vision`", "`vision` belongs under `parts`"),
        ("within: ['**.x']", "within", "unknown key `within`", "`within` belongs in an entry of `fused`"),
        ("parts: {visoin: []}", "visoin", "unknown key `visoin`", "did you mean `vision`?"),
        ("parts: {may_lack: []}", "may_lack", "unknown key `may_lack`", "`may_lack` belongs at the top of the file"),
        ("layers: {router: '**.gate'}", "'**.gate'", "must be a list of strings", "write it as a list: `['**.gate']`"),
        (
            "model_types: mine",
            "mine",
            "must be a list of strings, not the string `mine`",
            "write it as a list: `[mine]`",
        ),
        ("asks_for_routers: 1", "1", "`asks_for_routers` must be `true` or `false`, not `1`", ""),
        // Parts of fused layers.
        ("fused: [{layer: qkv_proj, parts: []}]", "parts", "`parts` is empty", ""),
        ("fused: [{layer: '', parts: [q]}]", "''", "`layer` is empty", ""),
        ("fused: [{layer: qkv_proj, parts: [q_proj, '']}]", "''", "is no name of a part", "such as `q_proj`"),
        ("fused: [{layer: qkv_proj, parts: ['*.q']}]", "'*.q'", "is no name of a part", "`within` has patterns"),
        ("fused: [{layer: qkv_proj, parts: [q, q]}]", "q]", "`q` stands here twice", ""),
        (
            "fused: [{layer: x, parts: [q_proj], needed_together: [q_prj]}]",
            "q_prj",
            "`q_prj` is none of the `parts`",
            "did you mean `q_proj`?",
        ),
        // Patterns, in every key that has some.
        ("parts: {vision: ['re:.*visual\\..*']}", "'re:", "is a regex: a pattern is", "did you mean `**.visual.**`?"),
        ("layers: {router: ['**.gate.weight']}", "'**", "ends in `.weight`", "did you mean `**.gate`?"),
        ("fused: [{layer: x, parts: [q], within: ['a..b']}]", "'a..b'", "has an empty part", "did you mean `a.b`?"),
        ("may_lack: ['**.[kv]_proj']", "'**", "has a `[`, which no name has", ""),
        ("cut_rows: ['**mlp.up']", "'**", "`**` of `**mlp.up` is no whole part", "did you mean `**.mlp.up`?"),
        ("always_quantized: ['']", "''", "entry 1 of `always_quantized` is empty", ""),
        ("replicated: ['a b']", "'a b'", "has a ` `, which no name has", ""),
        ("not_loaded: [{server: vLLM, because: x, layers: ['x|y']}]", "'x|y'", "has a `|`", ""),
        ("asked: [{on_disk: ['x.'], asked: y}]", "'x.'", "has an empty part", "did you mean `x`?"),
        ("next_tokens: {asked: [{on_disk: ['(x'], asked: y}]}", "'(x'", "has a `(`", ""),
        ("config_keys: [{key: a, value: b, layers: ['^x']}]", "'^x'", "has a `^`", "did you mean `x`?"),
        (
            "stacks: [{on_disk: '**.w?', holds: [w1], stored: rows, split_into: '**.{expert}.{projection}'}]",
            "'**.w?'",
            "has a `?`",
            "",
        ),
        ("parts: {vision: ['**.x'], projector: ['**.x']}", "'**.x']}", "`**.x` stands under `vision` already", ""),
        // What is made of patterns.
        ("asked: [{on_disk: ['a.b'], asked: '**.b'}]", "'**.b'", "`asked` has more wildcards than `a.b` on disk", ""),
        ("served: [{on_disk: 'a.*', served: b}]", "'a.*'", "in which `*` means nothing", "`asked` has patterns"),
        ("listed_patterns: [visual]", "visual", "`visual` is no regex that begins with `re:`", ""),
        ("listed_patterns: ['re:(']", "'re:('", "`re:(` is no regex: ", ""),
        (
            "stacks: [{on_disk: '**.w', holds: [w1], stored: rows, split_into: '**.{expert}'}]",
            "'**.{expert}'",
            "`split_into` needs the parts `{expert}` and, behind it, `{projection}`",
            "",
        ),
        // Servers.
        ("not_loaded: [{server: vllm 0.33, because: x}]", "vllm", "none of the servers", "did you mean `vLLM 0.33`?"),
        ("not_loaded: [{server: SGlnag, because: x}]", "SGlnag", "none of the servers", "did you mean `SGLang`?"),
        ("not_loaded: [{server: vLLM v0.3, because: x}]", "vLLM", "none of the servers", "did you mean `vLLM 0.3`?"),
        ("not_loaded: [{server: llama.cpp, because: x}]", "llama", "none of the servers `vLLM`, `SGLang` and", ""),
        ("unserved: [sglang]", "sglang", "none of the servers", "did you mean `SGLang`?"),
        // YAML.
        ("like: a: b", ": b", "not valid YAML: ", ""),
        ("like: llama\nlike: llama", "like", "the key `like` is a duplicate", ""),
    ] {
        let text = format!("{HEAD}{line}\n");
        let seen = said(&[("mine.yaml", &text)]);
        let (at, column) = (3 + line.matches('\n').count(), line.find(marked).unwrap() + 1);
        assert!(seen.contains(&format!("models/mine.yaml:{at}:{column}\n")), "{line}: {seen}");
        assert!(seen.starts_with("error: ") && seen.contains(wrong) && seen.contains(help), "{line}: {seen}");
        assert_eq!(seen.matches("error: ").count(), 1, "{line}: {seen}");
    }
}

#[test]
fn files_that_say_nothing_are_no_families() {
    for (text, wrong) in [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- name: x\n", "the file must be a map"),
        ("architectures: [X]\n", "the file has no `name`"),
        ("name: X\n", "names no `architectures` and no `model_types`"),
        ("name: X\narchitectures: ['X*']\n", "`X*` is no name of a class"),
        ("name: X\narchitectures: [X, X]\n", "`X` stands here twice"),
        ("name: X\nmodel_types: ['a b']\n", "`a b` is no `model_type`"),
    ] {
        let seen = said(&[("mine.yaml", text)]);
        assert!(seen.contains(wrong) && seen.contains("models/mine.yaml"), "{text}: {seen}");
    }
    // Each file that is wrong is told.
    let seen = said(&[("a.yaml", "x: 1\n"), ("b.yaml", "y: 1\n"), ("c.yaml", HEAD)]);
    assert!(seen.contains("models/a.yaml:1:1") && seen.contains("models/b.yaml:1:1"), "{seen}");
}

#[test]
fn two_files_that_claim_one_class_are_told_by_their_names() {
    let seen = said(&[("a.yaml", "name: A\narchitectures: [X, Y]\n"), ("b.yaml", "name: B\narchitectures: [Z, X]\n")]);
    assert!(seen.contains("`X` is claimed by `models/a.yaml` as well\n --> models/b.yaml:2:20\n"), "{seen}");
    let seen = said(&[("a.yaml", "name: A\nmodel_types: [x]\n"), ("b.yaml", "name: B\nmodel_types: [x]\n")]);
    assert!(seen.contains("`x` is claimed by `models/a.yaml` as well\n --> models/b.yaml:2:15\n"), "{seen}");
    // A class may be called like a model type.
    assert_eq!(said(&[("a.yaml", "name: A\narchitectures: [x]\n"), ("b.yaml", "name: B\nmodel_types: [x]\n")]), "");
    // One that is built in is corrected in this way.
    assert_eq!(said(&[("a.yaml", "name: A\narchitectures: [LlamaForCausalLM]\nlike: llama\n")]), "");
}

#[test]
fn families_that_are_like_one_another_in_a_circle_are_told() {
    let family = |class: &str, like: &str| format!("name: X\narchitectures: [{class}]\nlike: {like}\n");
    let seen = said(&[("a.yaml", &family("A", "b")), ("b.yaml", &family("B", "a"))]);
    assert!(seen.contains("a → b → a go round in a circle\n --> models/a.yaml:3:7\n"), "{seen}");
    // By its own name, a file means the one that is built in.
    assert_eq!(said(&[("llama.yaml", &family("A", "llama"))]), "");
    let seen = said(&[("unheard_of.yaml", &family("A", "unheard_of"))]);
    assert!(seen.contains("no other family's file is called `unheard_of`\n"), "{seen}");
    assert_eq!(said(&[("a.yaml", &family("A", "b")), ("b.yaml", &family("B", "llama"))]), "");
}

fn run(arguments: &[&str], at: &Path) -> (bool, String, String) {
    let run = Command::new(program()).args(arguments).current_dir(at).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (run.status.success(), text(run.stdout), text(run.stderr))
}

#[test]
fn a_folder_that_cannot_be_used_leads_on() {
    let desk = folder(&[("recipe.yaml", "models: nowhere\nscheme: FP8_DYNAMIC\ntargets: Linear\n")]);
    fs::create_dir_all(desk.path().join("families/empty")).unwrap();
    fs::write(desk.path().join("families/mine.yaml"), HEAD).unwrap();
    for (named, wrong, help) in [
        (
            "nowhere",
            "`nowhere` does not exist",
            "`mkdir -p nowhere && qwen-fp8 models --draft DIR > nowhere/my_model.yaml`",
        ),
        ("familise", "`familise` does not exist", "did you mean `families`?"),
        (
            "families/mine.yaml",
            "is a file, and families are read from a directory",
            "name `families`, in which it lies",
        ),
        ("families/empty", "has no `.yaml` file in it", "> families/empty/my_model.yaml`"),
    ] {
        let (is_fine, _, said) = run(&["models", "--models", named], desk.path());
        assert!(!is_fine && said.contains(wrong) && said.contains(help), "{named}: {said}");
    }
    // A recipe's is said at its place, by every command that reads the recipe.
    for arguments in [&["validate", "recipe.yaml"][..], &["test", "recipe.yaml"], &["plan", "recipe.yaml", "-m", "."]] {
        let (is_fine, _, said) = run(arguments, desk.path());
        assert!(!is_fine && said.contains("`nowhere` does not exist\n --> recipe.yaml:1:9\n"), "{arguments:?}: {said}");
    }
    fs::write(desk.path().join("recipe.yaml"), "models: families\nscheme: FP8_DYNAMIC\ntargets: Linear\n").unwrap();
    assert!(run(&["validate", "recipe.yaml"], desk.path()).0);
    fs::write(desk.path().join("families/mine.yaml"), "nmae: x\n").unwrap();
    let (is_fine, _, said) = run(&["validate", "recipe.yaml"], desk.path());
    assert!(!is_fine && said.contains("families/mine.yaml:1:1"), "{said}");
}

#[test]
fn a_file_that_is_called_like_one_that_is_built_in_adds_to_it() {
    let families = tempfile::tempdir().unwrap();
    fs::create_dir(families.path().join("models")).unwrap();
    for (class, shown) in [("LlamaForCausalLM", "otherwise like llama"), ("QwenForCausalLM", "no family of models")] {
        let text = "name: Mine\narchitectures: [MineForCausalLM, LlamaForCausalLM]\nlike: llama\n";
        fs::write(families.path().join("models/llama.yaml"), text).unwrap();
        let (_, out, said) = run(&["models", class, "--models", "models"], families.path());
        assert!(format!("{out}{said}").contains(shown), "{class}: {out}{said}");
    }
    // What it has is what is built in, and no circle: the directory may be called `models` too.
    let model = crate::support::shapes::small_text();
    let model = model.with_config("architectures", serde_json::json!(["LlamaForCausalLM"])).write_single();
    let model = model.path().to_str().unwrap();
    let (_, shown, _) = run(&["models", model, "--models", "models"], families.path());
    assert!(
        shown.contains("(from models/llama.yaml)") && shown.matches("SGLang 0.5.23 cannot load").count() == 1,
        "{shown}"
    );
    // One with other classes hides nothing of it.
    fs::write(families.path().join("models/llama.yaml"), "name: Mine\narchitectures: [MineForCausalLM]\n").unwrap();
    let (_, shown, _) = run(&["models", model, "--models", "models"], families.path());
    assert!(shown.starts_with("Llama (from models/llama.yaml)"), "{shown}");
}

#[test]
fn a_file_in_place_of_one_that_is_built_in_is_shown_as_that() {
    let desk = folder(&[("mine.yaml", "name: Mine\narchitectures: [LlamaForCausalLM]\nlike: llama\n")]);
    let (_, shown, _) = run(&["models", "LlamaForCausalLM", "--models", "."], desk.path());
    assert!(shown.contains("in place of models/llama.yaml, which is built in"), "{shown}");
    let (_, json, _) = run(&["models", "LlamaForCausalLM", "--models", ".", "--json"], desk.path());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["families"][0]["in_place_of"], serde_json::json!(["models/llama.yaml"]));
    let (_, shown, _) = run(&["models", "Qwen3ForCausalLM", "--models", "."], desk.path());
    assert!(!shown.contains(", which is built in"), "{shown}");
}
