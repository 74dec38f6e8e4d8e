//! What is refused: other bases, damaged deltas, places that are taken. Nothing is then written.

use std::fs;
use std::path::{Path, PathBuf};

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::delta::{DeltaError, OpenDelta};
use qwen_fp8::run::{RunError, make_delta};

use super::{files, make, nudge, put_on, small, weight};

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// Two checkpoints of which every tensor but one changed, and their delta.
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        let mut new = small();
        small().write(&scene.at("old"));
        for name in ["model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight"] {
            nudge(new.tensor(name), 5);
        }
        new.add("model.added.weight", weight(4, 4, 77));
        new.write(&scene.at("new"));
        make(&scene.at("old"), &scene.at("new"), &scene.at("delta"));
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn refusal(&self, delta: &Path, base: &Path) -> DeltaError {
        let output = self.at("out");
        match put_on(delta, base, &output, &()) {
            Ok(_) => panic!("it was put on"),
            Err(RunError::Delta(error)) => {
                let left: Vec<_> =
                    fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
                assert!(left.iter().all(|name| !name.to_string_lossy().contains("out")), "{left:?}");
                error
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_base_that_differs_in_a_byte_anywhere_is_refused() {
    let scene = Scene::new();
    for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        let path = scene.at("old").join(shard);
        let good = fs::read(&path).unwrap();
        let data = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let places = (data..good.len()).step_by(97).chain([data, good.len() - 1]);
        for at in places {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, bad).unwrap();
            let error = scene.refusal(&scene.at("delta"), &scene.at("old"));
            assert!(matches!(error, DeltaError::OtherBase { .. }), "{at}: {error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
        fs::write(&path, good).unwrap();
    }
    put_on(&scene.at("delta"), &scene.at("old"), &scene.at("out"), &()).unwrap();
}

#[test]
fn another_base_is_named_with_what_it_lacks() {
    let scene = Scene::new();
    let mut other = small();
    other.remove("model.norm.weight");
    other.write(&scene.at("lacking"));
    let error = scene.refusal(&scene.at("delta"), &scene.at("lacking"));
    assert!(error.to_string().ends_with("it lacks 1 tensor: `model.norm.weight`"), "{error}");
    let mut other = small();
    other.tensor("model.layers.0.mlp.down_proj.weight").dtype = "F16".to_owned();
    other.write(&scene.at("retyped"));
    let error = scene.refusal(&scene.at("delta"), &scene.at("retyped"));
    assert!(
        error.to_string().contains("has 1.54 kB (1,536 bytes) of F16 there, and 1.54 kB (1,536 bytes) of BF16"),
        "{error}"
    );
    // The first tensor that differs, in the order of the files.
    let mut other = small();
    nudge(other.tensor("model.layers.1.self_attn.o_proj.weight"), 100);
    other.write(&scene.at("nudged"));
    let error = scene.refusal(&scene.at("delta"), &scene.at("nudged")).to_string();
    assert!(error.contains("`model.layers.1.self_attn.o_proj.weight` differs between byte 0 and 1152"), "{error}");
    let mut other = small();
    other.others.insert("README.md".to_owned(), b"# another\n".to_vec());
    other.write(&scene.at("retold"));
    assert!(scene.refusal(&scene.at("delta"), &scene.at("retold")).to_string().contains("`README.md` differs"));
}

#[test]
fn a_byte_of_the_delta_that_is_wrong_is_noticed_wherever_it_is() {
    let scene = Scene::new();
    let good = fs::read(scene.at("delta")).unwrap();
    let places = (0..good.len()).step_by(good.len() / 150 + 1).chain(0..40).chain(good.len() - 25..good.len());
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(scene.at("bad"), bad).unwrap();
        let error = scene.refusal(&scene.at("bad"), &scene.at("old"));
        let is_told = matches!(
            error,
            DeltaError::NotDelta { .. }
                | DeltaError::Version { .. }
                | DeltaError::Damaged { .. }
                | DeltaError::Truncated { .. }
        );
        assert!(is_told, "{at}: {error}");
        assert_eq!(error.path(), Some(scene.at("bad").as_path()), "{error}");
    }
    for len in (0..good.len()).step_by(good.len() / 60 + 1).chain([good.len() - 1]) {
        fs::write(scene.at("bad"), &good[..len]).unwrap();
        let error = scene.refusal(&scene.at("bad"), &scene.at("old"));
        assert!(matches!(error, DeltaError::NotDelta { .. } | DeltaError::Truncated { .. }), "{len}: {error}");
    }
    fs::write(scene.at("bad"), [&good[..], b"x"].concat()).unwrap();
    let error = scene.refusal(&scene.at("bad"), &scene.at("old")).to_string();
    assert!(error.ends_with("the delta goes on after its last file"), "{error}");
}

#[test]
fn lengths_that_no_delta_has_take_no_memory() {
    let scene = Scene::new();
    let good = fs::read(scene.at("delta")).unwrap();
    // The lengths of the table of contents, stored and unpacked.
    for at in [12, 20] {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        fs::write(scene.at("bad"), bad).unwrap();
        let error = OpenDelta::open(&scene.at("bad")).unwrap_err().to_string();
        assert!(error.ends_with("its table of contents would be larger than any"), "{error}");
    }
}

#[test]
fn nothing_of_anybody_is_replaced() {
    let scene = Scene::new();
    let (old, new) = (Checkpoint::open(&scene.at("old")).unwrap(), Checkpoint::open(&scene.at("new")).unwrap());
    let refused = |output: &Path| make_delta(&old, &new, output, &()).unwrap_err();
    assert!(matches!(refused(&scene.at("delta")), RunError::OutputExists { .. }));
    assert!(matches!(refused(&scene.at("new").join("delta")), RunError::OutputInSource { .. }));
    fs::create_dir(scene.at("folder")).unwrap();
    assert!(matches!(refused(&scene.at("folder")), RunError::OutputExists { .. }));
    assert!(matches!(refused(&scene.at("nowhere/delta")), RunError::Parent { .. }));
    // What a killed run left is removed, and nothing else of that name.
    fs::write(scene.at(".two.partial"), "mine").unwrap();
    assert!(matches!(refused(&scene.at("two")), RunError::NotOurs { .. }));
    assert_eq!(fs::read(scene.at(".two.partial")).unwrap(), b"mine");
    fs::write(scene.at(".two.partial"), &fs::read(scene.at("delta")).unwrap()[..50]).unwrap();
    make_delta(&old, &new, &scene.at("two"), &()).unwrap();
    assert_eq!(fs::read(scene.at("two")).unwrap(), fs::read(scene.at("delta")).unwrap());

    fs::create_dir(scene.at("taken")).unwrap();
    fs::write(scene.at("taken/file"), "mine").unwrap();
    for (output, is_inside) in [("taken", false), ("old/inside", true)] {
        let error = put_on(&scene.at("delta"), &scene.at("old"), &scene.at(output), &()).unwrap_err();
        match error {
            RunError::OutputExists { .. } => assert!(!is_inside),
            RunError::OutputInSource { .. } => assert!(is_inside),
            error => panic!("{error}"),
        }
    }
    assert_eq!(files(&scene.at("taken")).len(), 1);
}
