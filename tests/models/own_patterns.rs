//! Patterns of the user's own file that take nothing in a checkpoint: `plan` says which, where it stands and what is near.

use std::fs;
use std::path::Path;
use std::process::Command;

use qwen_fp8::checkpoint::models::catalogue::FILES;
use serde_json::json;

use crate::support::program::program;
use crate::support::shapes::{self, Shapes};

const ROWS: &str = "format: compressed-tensors\nexperts: split_or_keep\nscheme: FP8_DYNAMIC\ntargets: Linear\n";
const HEAD: &str = "name: Mine\narchitectures: [MineForCausalLM]\n";

/// A small language model of a class that nobody knows, with an audio encoder.
fn mine() -> Shapes {
    shapes::small_text()
        .with_config("architectures", json!(["MineForCausalLM"]))
        .with_config("model_type", "mine".into())
        .with("model.audio_encoder.layers.0.fc1.weight", &[128, 256])
}

/// A warning: its message, and its help in one text.
type Warning = (String, String);

/// The warnings of a plan of these shapes about what takes nothing, by way of the command line and of the recipe alike.
fn warnings_of(shapes: &Shapes, files: &[(&str, &str)]) -> Vec<Warning> {
    let desk = tempfile::tempdir().unwrap();
    fs::create_dir_all(desk.path().join("models")).unwrap();
    for (name, text) in files {
        fs::write(desk.path().join("models").join(name), text).unwrap();
    }
    fs::create_dir(desk.path().join("source")).unwrap();
    shapes.write_into(&desk.path().join("source"), u64::MAX);
    fs::write(desk.path().join("recipe.yaml"), ROWS).unwrap();
    let by_command = planned(desk.path(), &["--models", "models"]);
    fs::write(desk.path().join("recipe.yaml"), format!("models: models\n{ROWS}")).unwrap();
    assert_eq!(planned(desk.path(), &[]), by_command);
    by_command
}

/// The same for one file of the user's.
fn warnings(shapes: &Shapes, text: &str) -> Vec<Warning> {
    warnings_of(shapes, &[("mine.yaml", text)])
}

fn planned(desk: &Path, more: &[&str]) -> Vec<Warning> {
    let run = Command::new(program())
        .args(["plan", "recipe.yaml", "--model", "source", "--color", "never"])
        .args(more)
        .current_dir(desk)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    let warnings = said.split("warning: ").skip(1).map(|one| {
        let (message, rest) = one.split_once('\n').unwrap();
        let help = rest.split("help: ").skip(1).map(|help| help.lines().next().unwrap().trim());
        (message.to_owned(), help.collect::<Vec<_>>().join("; "))
    });
    let ends = ["nothing in the checkpoint", "the file says nothing of it"];
    warnings.filter(|(message, _)| ends.iter().any(|end| message.ends_with(end))).collect()
}

#[test]
fn a_pattern_that_takes_nothing_is_said_at_its_line_with_what_was_meant() {
    for (line, said, help) in [
        // A word that no name has, a name without its end, and one without its beginning.
        (
            "parts: {audio: ['**.audio_encodr.**']}",
            "`**.audio_encodr.**` (`parts: audio`, models/mine.yaml:3) takes",
            "did you mean `**.audio_encoder.**`?",
        ),
        ("parts: {audio: ['**.audio_encoder']}", "`**.audio_encoder` (", "did you mean `**.audio_encoder.**`?"),
        ("parts: {audio: ['audio_encoder.**']}", "`audio_encoder.**` (", "did you mean `**.audio_encoder.**`?"),
        ("layers: {router: ['**.mlp.gate']}", "(`layers: router`, ", "the nearest names end in `mlp.gate_proj`"),
        ("layers:\n  router:\n  - '**.ml.up_proj'", "models/mine.yaml:5) takes", "did you mean `**.mlp.up_proj`?"),
        // Each key that has patterns.
        ("asked: [{on_disk: ['**.attn.q_proj'], asked: '**.x'}]", "(`asked: on_disk`, ", "`self_attn.q_proj`"),
        ("next_tokens: {asked: [{on_disk: ['**.zz_top'], asked: x}]}", "(`next_tokens: asked: on_disk`, ", "inspect"),
        ("cut_rows: ['**.kv_a_proj']", "(`cut_rows`, ", "did you mean"),
        ("always_quantized: ['**.o_prj']", "(`always_quantized`, ", "did you mean `**.o_proj`?"),
        ("replicated: ['**.self_attn.o']", "(`replicated`, ", ""),
        ("config_keys: [{key: a, value: b, layers: ['**.o_prj']}]", "(`config_keys: layers`, ", "`**.o_proj`?"),
        (
            "not_loaded: [{server: vLLM 0.33, because: x, layers: ['**.o_prj']}]",
            "(`not_loaded: layers`, ",
            "`**.o_proj`?",
        ),
        ("fused: [{layer: x, parts: [q_proj], within: ['**.self_atn']}]", "(`fused: within`, ", "`**.self_attn`?"),
        (
            "fused: [{layer: qkv, parts: [q_prj, k_prj], within: ['**.self_attn']}]",
            "`qkv: [q_prj, k_prj]` (`fused: parts`, models/mine.yaml:3) fuses",
            "did you mean `q_proj` for `q_prj`?",
        ),
        ("served: [{on_disk: 'modle.', served: 'm.'}]", "`modle.` (`served: on_disk`, ", "begins"),
        (
            "stacks: [{on_disk: '**.w', holds: [w1], stored: rows, split_into: '**.{expert}.{projection}', bias: '**.b'}]",
            "`**.w` (`stacks: on_disk`, models/mine.yaml:3) takes",
            "",
        ),
    ] {
        let seen = warnings(&mine(), &format!("{HEAD}{line}\n"));
        let of_line = seen.iter().find(|(message, _)| message.contains(said));
        let (message, advice) = of_line.unwrap_or_else(|| panic!("{line}: {seen:#?}"));
        assert!(advice.contains("`optional: true` in that file"), "{line}: {advice}");
        assert!(advice.contains(help) || message.contains(help), "{line}: {message} {advice}");
        // The stack's biases are a pattern of their own.
        assert_eq!(seen.len(), 1 + usize::from(line.contains("bias")), "{line}: {seen:#?}");
    }
}

#[test]
fn patterns_that_take_something_are_no_warning() {
    let all = "parts: {audio: ['**.audio_encoder.**']}\nlayers: {norm: ['**.input_layernorm']}\n\
               asked: [{on_disk: ['**.self_attn.o_proj'], asked: '**.attn.o_proj'}]\nmay_lack: ['**.nowhere']\n\
               fused: [{layer: qkv_proj, parts: [q_proj, k_proj, v_proj, g_proj], within: ['**.self_attn']}]\n\
               served: [{on_disk: 'model.', served: 'm.'}]\nreplicated: ['model.layers.1.**']\n";
    assert_eq!(warnings(&mine(), &format!("{HEAD}{all}")), []);
    // The file is for checkpoints of several forms, and says so.
    let missing = format!("{HEAD}parts: {{vision: ['**.eyes.**']}}\n");
    assert_eq!(warnings(&mine(), &missing).len(), 1);
    assert_eq!(warnings(&mine(), &format!("{missing}optional: true\n")), []);
    // Stacks that are split, and the matrices that they are split into.
    let stacks = mine()
        .with("model.layers.0.mlp.experts.gate_up_proj", &[2, 512, 256])
        .with("model.layers.0.mlp.experts.down_proj", &[2, 256, 256]);
    let both = "layers: {experts: ['**.experts.gate_up_proj']}\nreplicated: ['**.experts.*.down_proj']\n";
    assert_eq!(warnings(&stacks, &format!("{HEAD}like: qwen3_moe\n{both}")), []);
}

#[test]
fn a_file_whose_class_is_misspelt_is_said() {
    let near = |class: &str| warnings(&mine(), &format!("name: Mine\narchitectures: [{class}]\n"));
    for class in ["MineForCausalML", "MinForCausalLM", "mineForCausalLM"] {
        let seen = near(class);
        let [(message, help)] = &seen[..] else { panic!("{class}: {seen:?}") };
        assert!(message.starts_with(&format!("`{class}` (`architectures`, models/mine.yaml:2) is not")), "{message}");
        assert_eq!(help, "did you mean `MineForCausalLM`?");
    }
    // Other models: of another version, and of a class that is known.
    for class in ["Mine2ForCausalLM", "YoursForCausalLM", "MiMoForCausalLM"] {
        assert_eq!(near(class), [], "{class}");
    }
}

/// A built-in file is for many checkpoints, and a copy of one, corrected in one place, is no other.
#[test]
fn what_is_built_in_is_no_warning() {
    let llama = shapes::small_text().with_config("architectures", json!(["LlamaForCausalLM"]));
    let text_of = |wanted: &str| FILES.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert!(text_of("llama").contains("[\"layers.**\"]"), "the copy has a pattern that takes nothing here");
    assert_eq!(warnings_of(&llama, &[("llama.yaml", text_of("llama"))]), []);
    assert_eq!(warnings_of(&llama, &[("other_name.yaml", text_of("llama"))]), []);
    let corrected = format!("{}parts: {{audio: ['**.ears.**']}}\n", text_of("llama"));
    let seen = warnings_of(&llama, &[("llama.yaml", &corrected)]);
    assert!(matches!(&seen[..], [(message, _)] if message.contains("`**.ears.**`")), "{seen:#?}");
    // Neither is one that the user's is like, built in or not, and one of another model.
    let like = format!("{HEAD}like: qwen3_omni_moe\n");
    assert_eq!(warnings(&mine(), &like), []);
    let other = "name: Other\narchitectures: [OtherForCausalLM]\nparts: {vision: ['**.eyes.**']}\n";
    assert_eq!(warnings_of(&mine(), &[("mine.yaml", &format!("{HEAD}like: other\n")), ("other.yaml", other)]), []);
}
