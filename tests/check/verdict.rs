//! What `verify` claims: never more than it proved, in words, as JSON and by its exit code.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use half::bf16;
use qwen_fp8::check::{CheckError, Verdict, verify};
use qwen_fp8::checkpoint::manifest::MANIFEST_FILE;
use serde_json::{Value, json};

use crate::support::fixture::files;
use crate::support::folder::{Base, Folder, Tensor, apply, source};
use crate::support::program::program;

/// The program in a directory of its own, where it finds no source by itself.
fn run(output: &Path, more: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.arg("verify").arg(output).args(more).current_dir(nowhere.path()).env("HF_HUB_CACHE", nowhere.path());
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Exit code, verdict and what was not proven; `-q` changes none of them, and says what
/// fails.
fn verdict(output: &Path, more: &[&str]) -> (i32, String, Vec<String>) {
    let text = run(output, more);
    let quiet = run(output, &[more, &["-q"]].concat());
    assert_eq!(quiet.status.code(), text.status.code(), "{more:?}");
    let is_fine = quiet.status.success();
    assert_eq!(stdout(&quiet).is_empty() && quiet.stderr.is_empty(), is_fine, "{more:?}: {}", stdout(&quiet));
    let json = run(output, &[more, &["--json", "-q"]].concat());
    assert_eq!(json.status.code(), text.status.code(), "{more:?}");
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    let unproven: Vec<String> = serde_json::from_value(report["unproven"].clone()).unwrap();
    for why in &unproven {
        assert!(stdout(&text).contains(&format!("\nnot proven: {why}\n")), "{}", stdout(&text));
    }
    let verdict = report["verdict"].as_str().unwrap().to_owned();
    assert!(stdout(&text).contains(&format!("\n{}", verdict.replace('_', " "))), "{}", stdout(&text));
    (text.status.code().unwrap(), verdict, unproven)
}

/// A copy of a result or of the source, without a manifest.
fn copy(dir: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(dir);
    folder.others.remove(MANIFEST_FILE);
    folder.write(copied.path());
    copied
}

fn source_text() -> String {
    source().to_str().unwrap().to_owned()
}

#[test]
fn a_result_is_proven_against_its_source_alone() {
    let (result, source) = (copy(Base::Block.dir()), source_text());
    let proven = (0, "proven".to_owned(), vec![]);
    assert_eq!(verdict(result.path(), &["--source", &source]), proven);
    assert_eq!(verdict(result.path(), &["--source", &source, "--require-source"]), proven);
    let line = format!("\nproven against `{source}`: 56 copied, 14 quantized, 1.61 MB; nothing found\n");
    let text = run(result.path(), &["--source", &source]);
    assert!(stdout(&text).ends_with(&line), "{}", stdout(&text));

    let why = |why: &str| vec![format!("no tensor was compared with a source: {why}")];
    let structure = |code, reason| (code, "structure_only".to_owned(), why(reason));
    assert_eq!(verdict(result.path(), &[]), structure(3, "no manifest names the source"));
    // Who wants no more gets no more, and a code of success.
    assert_eq!(verdict(result.path(), &["--no-source"]), structure(0, "`--no-source` was given"));
    assert!(!stdout(&run(result.path(), &["--no-source"])).contains("help:"));
    let required = run(result.path(), &["--require-source"]);
    assert_eq!(required.status.code(), Some(2));
    let said = String::from_utf8(required.stderr).unwrap();
    assert!(said.contains("`--require-source` has nothing to compare with: no manifest names the source"), "{said}");
    assert!(said.contains("= help: say where it is with `--source`"), "{said}");
    assert_eq!(run(result.path(), &["--require-source", "--no-source"]).status.code(), Some(2));
}

/// A copy of a result with its manifest, after `change`.
fn changed(change: impl FnOnce(&mut Folder)) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(Base::Block.dir());
    change(&mut folder);
    folder.write(copied.path());
    copied
}

#[test]
fn another_source_than_the_manifest_names_is_no_proof() {
    let spoil = |folder: &mut Folder| {
        let is_code = |name: &str| name.ends_with("layers.0.mlp.down_proj.weight");
        let (_, code) = folder.shards.values_mut().flatten().find(|(name, _)| is_code(name)).unwrap();
        code.bytes[0] ^= 1;
    };
    let (damaged, its_copy) = (changed(spoil), changed(spoil));
    assert_eq!(verdict(damaged.path(), &["--source", &source_text()]).0, 1);
    let against = its_copy.path().to_str().unwrap();
    let (code, name, unproven) = verdict(damaged.path(), &["--source", against]);
    assert_eq!((code, name.as_str()), (3, "partly_proven"));
    assert!(unproven[0].contains("is not the source `tiny-qwen3-vl` that the manifest names"), "{unproven:?}");
    assert_eq!(verdict(damaged.path(), &["--source", against, "--require-source"]).0, 1);
}

#[test]
fn files_beside_the_weights_are_part_of_the_proof() {
    let source = source_text();
    let tokenizer = changed(|folder| folder.others.get_mut("tokenizer.json").unwrap().push(b'\n'));
    let template = changed(|folder| drop(folder.others.insert("chat_template.jinja".to_owned(), b"{{ x }}".to_vec())));
    for (result, code) in [(&tokenizer, "Q510"), (&template, "Q512")] {
        let why = format!("the files beside the weights: not all of them are the source's ({code})");
        let expected = (3, "partly_proven".to_owned(), vec![why]);
        assert_eq!(verdict(result.path(), &["--source", &source]), expected);
    }
    // A text for people is not: its loss is a warning.
    let (origin, result) = (tempfile::tempdir().unwrap(), changed(|_| ()));
    for entry in fs::read_dir(crate::support::folder::source()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, origin.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(origin.path().join("NOTICE.txt"), "A notice").unwrap();
    let text = run(result.path(), &["--source", origin.path().to_str().unwrap()]);
    assert!(
        stdout(&text).contains("warning[Q509]: `NOTICE.txt` of the source is missing in the output"),
        "{}",
        stdout(&text)
    );
    assert!(stdout(&text).contains("\nproven against "), "{}", stdout(&text));
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_called_none() {
    let broken = changed(|folder| drop(folder.others.insert(MANIFEST_FILE.to_owned(), b"{".to_vec())));
    let (code, _, unproven) = verdict(broken.path(), &[]);
    assert_eq!(code, 3);
    assert!(unproven[0].contains("the manifest that should name the source cannot be used"), "{unproven:?}");
}

#[test]
fn a_checkpoint_without_quantized_tensors_proves_nothing() {
    let (plain, source) = (copy(&source()), source_text());
    let nothing = |code| (code, "nothing_to_prove".to_owned(), vec!["no tensor is quantized".to_owned()]);
    assert_eq!(verdict(plain.path(), &[]), nothing(4));
    assert_eq!(verdict(plain.path(), &["--no-source"]), nothing(4));
    // Copies of the source are no quantization: a recipe that took no layer must not pass.
    assert_eq!(verdict(plain.path(), &["--source", &source]), nothing(4));
    assert_eq!(verdict(plain.path(), &["--source", &source, "--require-source"]), nothing(1));
    assert_eq!(verdict(plain.path(), &["--source", &source, "--fail-if", "sqnr<30dB"]), nothing(4));
    let text = run(plain.path(), &[]);
    assert!(stdout(&text).contains("\nnothing to prove: 0 decoded, 70 not read, "), "{}", stdout(&text));
}

#[test]
fn scales_of_no_rule_are_not_proven() {
    let root = tempfile::tempdir().unwrap();
    let (origin, result) = (root.path().join("origin"), root.path().join("result"));
    let mut folder = Folder::read(&source());
    let is_weight = |name: &str| name.contains("language_model.layers") && name.ends_with("_proj.weight");
    for (_, tensor) in folder.shards.values_mut().flatten().filter(|(name, _)| is_weight(name)) {
        let elements = tensor.bytes.as_chunks_mut::<2>().0;
        let amax = elements.iter().fold(0f32, |amax, element| amax.max(bf16::from_le_bytes(*element).to_f32().abs()));
        // Halved, the code of any other is as exact as it was.
        elements
            .iter_mut()
            .filter(|element| bf16::from_le_bytes(**element).to_f32().abs() < amax / 256.0)
            .for_each(|element| *element = [0, 0]);
    }
    folder.write(&origin);
    apply("format: fp8\nscheme: FP8_BLOCK\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n", &origin, &result);
    let mut folder = Folder::read(&result);
    folder.others.remove(MANIFEST_FILE);
    for (name, tensor) in folder.shards.values_mut().flatten() {
        if is_weight(name) {
            // One less in the exponent of E4M3, but for zeros.
            tensor.bytes.iter_mut().filter(|code| **code & 0x7f != 0).for_each(|code| *code -= 8);
        } else if name.ends_with("_scale_inv") {
            // And twice the scale, so that each weight is what it was.
            for scale in tensor.bytes.as_chunks_mut::<2>().0 {
                *scale = (u16::from_le_bytes(*scale) + 0x80).to_le_bytes();
            }
        }
    }
    let doubled = tempfile::tempdir().unwrap();
    folder.write(doubled.path());
    let source = origin.to_str().unwrap();
    let scales = "the scales: they follow from more than the weights, or from no rule that is checked (Q507)";
    let partly = |code| (code, "partly_proven".to_owned(), vec![scales.to_owned()]);
    assert_eq!(verdict(doubled.path(), &["--source", source]), partly(3));
    assert_eq!(verdict(doubled.path(), &["--source", source, "--require-source"]), partly(1));
    let required = run(doubled.path(), &["--source", source, "--require-source"]);
    let expected = format!("error: `--require-source` wants a proof, and the result is partly proven: {scales}");
    assert!(String::from_utf8(required.stderr).unwrap().contains(&expected));
    // Of scales that were searched for, the manifest says so, and each is proven.
    let searched = verify(Base::Searched.dir(), Some(&self::source()), &[], &()).unwrap();
    assert_eq!((searched.verdict, searched.unproven), (Verdict::Proven, vec![]));
}

#[test]
fn scales_of_static_activations_are_not_proven() {
    let mut folder = Folder::read(Base::Channel.dir());
    let groups = folder.quantization()["config_groups"].as_object_mut().unwrap();
    for group in groups.values_mut() {
        group["input_activations"] =
            json!({ "num_bits": 8, "type": "float", "symmetric": true, "dynamic": false, "strategy": "tensor" });
    }
    let scales: Vec<String> = folder.shards.values().flat_map(|shard| shard.keys().cloned()).collect();
    for name in scales.iter().filter_map(|name| name.strip_suffix(".weight_scale")) {
        let tensor = Tensor { dtype: "F32".to_owned(), shape: vec![1], bytes: 0.5f32.to_le_bytes().to_vec() };
        folder.add(&format!("{name}.input_scale"), tensor);
    }
    let dir = tempfile::tempdir().unwrap();
    folder.write(dir.path());
    let why = "14 activation scales: no weight gives them, only the data of a calibration".to_owned();
    assert_eq!(verdict(dir.path(), &["--source", &source_text()]), (3, "partly_proven".to_owned(), vec![why]));
}

#[test]
fn a_result_does_not_prove_itself() {
    let result = copy(Base::Block.dir());
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("link");
    std::os::unix::fs::symlink(result.path(), &link).unwrap();
    for source in [result.path(), &link] {
        let error = verify(result.path(), Some(source), &[], &()).unwrap_err();
        assert!(matches!(error, CheckError::OwnSource(_)), "{error}");
        let output = run(result.path(), &["--source", source.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains("is its own source, which would prove nothing"));
    }
}

#[test]
fn checksums_are_compared_whatever_the_comparison_found() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("result");
    Folder::read(Base::Block.dir()).write(&output);
    // Written by another program, as its headers show.
    for name in fs::read_dir(Base::Block.dir()).unwrap().map(|entry| entry.unwrap().file_name()) {
        fs::copy(Base::Block.dir().join(&name), output.join(&name)).unwrap();
    }
    let source = source_text();
    let args = ["--source", &source, "--manifest"];
    let good = run(&output, &args);
    assert_eq!(good.status.code(), Some(0));
    assert!(stdout(&good).ends_with("\nchecksums: every file and tensor is what the manifest says\n"));
    // A byte of a copied tensor: the comparison fails, and the checksum shows the same.
    let shard = output.join("model-00002-of-00004.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let bad = run(&output, &args);
    assert_eq!(bad.status.code(), Some(1));
    let words = [
        "error[Q50",
        "\nat fault against ",
        "\nchecksums: the output is not what its manifest says, 1 difference\n",
        ": its bytes have changed\n",
    ];
    for word in words {
        assert!(stdout(&bad).contains(word), "{word}: {}", stdout(&bad));
    }
    let json = run(&output, &[&args[..], &["--json"]].concat());
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), report["manifest"].as_array().unwrap().len()), (Some(1), 1));
    // Where there is no verdict, the command says that there was no look at the checksums either.
    let none = run(&output, &["--source", "/", "--manifest"]);
    let said = String::from_utf8(none.stderr).unwrap();
    assert!(
        none.status.code() == Some(2)
            && said.contains("= help: the checksums of the manifest were not compared either"),
        "{said}"
    );
    // A manifest that cannot be read is met before the work.
    fs::remove_file(output.join(MANIFEST_FILE)).unwrap();
    let missing = run(&output, &args);
    assert_eq!((missing.status.code(), stdout(&missing)), (Some(1), ""));
}

#[test]
fn a_smoke_model_is_proven_against_the_layers_that_it_has() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let (whole, smoke) = (root.join("tiny"), root.join("smoke"));
    Folder::read(&source()).write(&whole);
    let recipe = root.join("recipe.yaml");
    fs::write(&recipe, "format: fp8\nscheme: FP8_BLOCK\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n").unwrap();
    let mut cut = Command::new(program());
    cut.args(["apply", "--smoke=1", "-q"]).args([&recipe, Path::new("--model"), &whole, Path::new("-o"), &smoke]);
    assert!(cut.status().unwrap().success());

    // Found through the manifest, and named.
    let proven = (0, "proven".to_owned(), vec![]);
    let named = ["--source", whole.to_str().unwrap(), "--require-source", "--manifest"];
    assert_eq!(verdict(&smoke, &["--require-source"]), proven);
    assert_eq!(verdict(&smoke, &named), proven);
    let line = format!("\nproven against the first layer of `{}`: ", whole.display());
    assert!(stdout(&run(&smoke, &[])).contains(&line), "{}", stdout(&run(&smoke, &[])));
    let report: Value = serde_json::from_slice(&run(&smoke, &["--json"]).stdout).unwrap();
    assert_eq!((&report["source_layers"], &report["source"]), (&json!(1), &json!(whole)));

    // It has to have all of them.
    let files = files(&smoke);
    let name = "model.language_model.layers.0.self_attn.q_norm.weight";
    let mut folder = Folder::read(&smoke);
    folder.remove(name);
    folder.write(&smoke);
    let lost = run(&smoke, &[]);
    assert_eq!(lost.status.code(), Some(1));
    assert!(stdout(&lost).contains(&format!("error[Q503]: `{name}` of the source is missing in the output")));
    for (name, bytes) in files {
        fs::write(smoke.join(name), bytes).unwrap();
    }
    // The manifest proves nothing by itself.
    let manifest = fs::read_to_string(smoke.join(MANIFEST_FILE)).unwrap();
    for (layers, words) in
        [("2", "made from its first 2 layers, and has 1"), ("3", "made from its first 3 layers, and has 1")]
    {
        let text = manifest.replace("\"layers\": 1", &format!("\"layers\": {layers}"));
        fs::write(smoke.join(MANIFEST_FILE), text).unwrap();
        let (code, _, unproven) = verdict(&smoke, &[]);
        assert!(code == 3 && unproven[0].contains(words), "{unproven:?}");
    }
    let too_many = run(&smoke, &["--source", whole.to_str().unwrap()]);
    assert_eq!(too_many.status.code(), Some(2));
    let said = String::from_utf8(too_many.stderr).unwrap();
    assert!(said.contains("the manifest says that the output was made from the first layers of its source"), "{said}");
    fs::write(smoke.join(MANIFEST_FILE), manifest.replace("\"layers\": 1", "\"layers\": 2")).unwrap();
    assert_eq!(run(&smoke, &["--source", whole.to_str().unwrap()]).status.code(), Some(1));
}
