//! `verify` without `--source`: it finds what the manifest names, and takes nothing else for it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qwen_fp8::checkpoint::manifest::{MANIFEST_FILE, Manifest};
use serde_json::Value;

use crate::support::folder::{Folder, apply};
use crate::support::program::program;

const RECIPE: &str = "format: fp8\nscheme: FP8_BLOCK\ntargets: Linear\nignore: [\"re:.*visual.*\"]\n";

/// A copy of the source under `source`, and what was made of it.
fn made(source: &Path, output: &Path) {
    fs::create_dir_all(source.parent().unwrap()).unwrap();
    Folder::read(&crate::support::folder::source()).write(source);
    apply(RECIPE, source, output);
}

/// The program in `directory`, with a cache.
fn verify(directory: &Path, cache: &Path, args: &[&OsStr]) -> Output {
    let program = program();
    Command::new(program).arg("verify").args(args).current_dir(directory).env("HF_HUB_CACHE", cache).output().unwrap()
}

fn report(output: &Output) -> (Option<PathBuf>, bool) {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let compared = report["tensors"].as_array().unwrap().iter().any(|tensor| tensor["action"] == "quantized");
    assert_eq!(compared, report["source"].is_string());
    (report["source"].as_str().map(PathBuf::from), report["source_recorded"].as_bool().unwrap())
}

fn unproven(output: &Output) -> Vec<String> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(report["unproven"].clone()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_directory_of_the_name_is_found_beside_the_result_and_here() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let (source, output, empty) = (root.join("models/tiny"), root.join("models/tiny-FP8"), root.join("empty"));
    fs::create_dir(&empty).unwrap();
    made(&source, &output);
    let json = OsStr::new("--json");
    let beside = verify(&empty, &empty, &[output.as_os_str(), json]);
    assert_eq!(report(&beside), (Some(source.clone()), true));
    assert!(said(&beside).contains("which the manifest names as its source"), "{}", said(&beside));
    // Through a link, beside what it leads to.
    std::os::unix::fs::symlink(&output, empty.join("link")).unwrap();
    assert_eq!(report(&verify(&empty, &empty, &[OsStr::new("link"), json])), (Some(source), true));
    // Where the program runs.
    let away = root.join("away/tiny-FP8");
    Folder::read(&output).write(&away);
    assert_eq!(report(&verify(&root.join("models"), &empty, &[away.as_os_str(), json])), (Some("tiny".into()), true));
    // Nowhere: that is said, and how to go on; a bound would pass everything.
    let missed = verify(&empty, &empty, &[away.as_os_str(), json]);
    assert_eq!((missed.status.code(), report(&missed)), (Some(3), (None, false)));
    let expected = "no tensor was compared with a source: the source `tiny` is neither in the Hugging Face cache nor a directory here or beside the output";
    assert_eq!(unproven(&missed), [expected]);
    let in_words = verify(&empty, &empty, &[away.as_os_str()]);
    let help = format!("not proven: {expected}\n  = help: say where it is with `--source`\n");
    assert!(String::from_utf8(in_words.stdout).unwrap().ends_with(&help));
    let bound = [away.as_os_str(), OsStr::new("--fail-if"), OsStr::new("sqnr<1dB")];
    assert_eq!(verify(&empty, &empty, &bound).status.code(), Some(2));
    assert_eq!(verify(&root.join("models"), &empty, &bound).status.code(), Some(0));
    // Nobody has to have it found.
    let unasked = verify(&root.join("models"), &empty, &[away.as_os_str(), json, OsStr::new("--no-source")]);
    assert_eq!(report(&unasked), (None, false));
}

#[test]
fn a_snapshot_of_the_cache_is_found_by_its_commit() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let (cache, output) = (root.join("hub"), root.join("tiny-FP8"));
    // A name with the two dashes that stand for the slash.
    let snapshots = cache.join("models--org--tiny--VL/snapshots");
    made(&snapshots.join("0123abc"), &output);
    let manifest = Manifest::read(&output).unwrap();
    assert_eq!(manifest.source.revision.as_deref(), Some("0123abc"));
    let args = [output.as_os_str(), OsStr::new("--json")];
    assert_eq!(report(&verify(&root, &cache, &args)), (Some(snapshots.join("0123abc")), true));
    // Another commit is no source, whatever it holds.
    fs::rename(snapshots.join("0123abc"), snapshots.join("4567def")).unwrap();
    let missed = verify(&root, &cache, &args);
    assert_eq!(report(&missed), (None, false));
    assert!(unproven(&missed)[0].contains("the source `org/tiny/VL@0123abc` is neither"), "{:?}", unproven(&missed));
    // Downloaded to a directory of its name.
    fs::rename(snapshots.join("4567def"), root.join("VL")).unwrap();
    assert_eq!(report(&verify(&root, &cache, &args)), (Some(root.join("VL")), true));
}

#[test]
fn a_directory_that_differs_is_refused_as_source() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let (source, output, empty) = (root.join("tiny"), root.join("tiny-FP8"), root.join("empty"));
    fs::create_dir(&empty).unwrap();
    made(&source, &output);
    let args = [output.as_os_str(), OsStr::new("--json")];
    let missed = |why: &str| {
        let missed = verify(&empty, &empty, &args);
        assert_eq!(report(&missed), (None, false), "{why}");
        assert!(unproven(&missed)[0].contains(why), "{why}: {:?}", unproven(&missed));
    };
    let shard = source.join("model-00002-of-00004.safetensors");
    let bytes = fs::read(&shard).unwrap();
    // Another name of the same length.
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let (mut bytes, name) = (fs::read(&path).unwrap(), b"language_model.norm.weight");
        let found = bytes.windows(name.len()).position(|window| window == name);
        found.into_iter().for_each(|at| bytes[at + name.len() - "orm.weight".len()] = b'u');
        fs::write(&path, bytes).unwrap();
    }
    missed("has another header");
    Folder::read(&crate::support::folder::source()).write(&source);
    fs::write(&shard, [&bytes[..], b"x"].concat()).unwrap();
    missed("`tiny` that the manifest names");
    fs::write(&shard, &bytes).unwrap();
    assert_eq!(report(&verify(&empty, &empty, &args)), (Some(source.clone()), true));
    // Of other weights under the same headers, the comparison tells.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 0x41;
    fs::write(&shard, &other).unwrap();
    assert_eq!(verify(&empty, &empty, &args).status.code(), Some(1));
    fs::write(&shard, &bytes).unwrap();
    // A config of other layers, as `--smoke` makes one.
    let config = fs::read_to_string(source.join("config.json")).unwrap();
    fs::write(source.join("config.json"), config.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3"))
        .unwrap();
    missed("it has 3 layers, and the output 2");
    fs::write(source.join("config.json"), &config).unwrap();
    // A manifest that leads out of the places that are looked at.
    let mut manifest = Manifest::read(&output).unwrap();
    for model in ["../tiny", "/tiny", "tiny/..", ".", ""] {
        manifest.source.model = model.to_owned();
        fs::write(output.join(MANIFEST_FILE), manifest.text()).unwrap();
        let missed = verify(&empty, &empty, &args);
        match model {
            // The last part is a name, and beside the result there is such a directory.
            "../tiny" | "/tiny" => assert_eq!(report(&missed), (Some(source.clone()), true)),
            _ => assert_eq!(report(&missed), (None, false), "{model}"),
        }
    }
    fs::remove_file(output.join(MANIFEST_FILE)).unwrap();
    missed("no manifest names the source");
}
