//! A run that is interrupted leaves nothing that can be loaded; run again, it ends as one that was not.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::progress::ProgressSink;
use qwen_fp8::delta::{DeltaError, OpenDelta};
use qwen_fp8::run::{LeftBehind, Observer, RunError, apply_delta, make_delta};

use super::{assert_same, files, make, nudge, put_on, small};

/// Asks for the end when it has been asked so often whether it does.
struct EndsAt {
    asked: AtomicUsize,
    end: usize,
}

impl EndsAt {
    fn new(end: usize) -> Self {
        Self { asked: AtomicUsize::new(0), end }
    }
}

impl ProgressSink for EndsAt {
    fn is_cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.end
    }
}

/// Counts the shards that are resumed or left behind.
#[derive(Default)]
struct Shards {
    resumed: AtomicUsize,
    left: AtomicUsize,
}

impl Observer for Shards {
    fn resumed(&self, resumed: usize, _shards: usize) {
        self.resumed.store(resumed, Ordering::Relaxed);
    }

    fn left_behind(&self, left: &LeftBehind) {
        self.left.store(left.shards, Ordering::Relaxed);
    }
}

#[test]
fn wherever_it_is_interrupted_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut new = small();
    nudge(new.tensor("model.layers.1.self_attn.o_proj.weight"), 3);
    small().write(&at("old"));
    new.write(&at("new"));
    make(&at("old"), &at("new"), &at("delta"));
    let base = Checkpoint::open(&at("old")).unwrap();
    let (mut end, mut most) = (0, 0);
    loop {
        let shards = Shards::default();
        let delta = OpenDelta::open(&at("delta")).unwrap();
        match apply_delta(&delta, &base, &at("out"), false, &shards, &EndsAt::new(end)) {
            Ok(_) => break,
            Err(RunError::Delta(DeltaError::Cancelled)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(!at("out").exists());
        let left = shards.left.load(Ordering::Relaxed);
        let shard = at(".out.partial/checkpoint/model-00001-of-00002.safetensors");
        let inode = fs::metadata(&shard).map(|found| found.ino()).ok();
        assert_eq!(inode.is_some(), left > 0);
        assert!(!at(".out.partial/checkpoint/config.json").exists());
        let shards = Shards::default();
        let done = apply_delta(&delta, &base, &at("out"), false, &shards, &()).unwrap();
        assert_eq!((done.shards_resumed as usize, shards.resumed.load(Ordering::Relaxed)), (left, left));
        assert_same(&at("out"), &at("new"));
        let published = fs::metadata(at("out/model-00001-of-00002.safetensors")).unwrap().ino();
        assert!(inode.is_none_or(|inode| inode == published));
        assert!(!at(".out.partial").exists());
        fs::remove_dir_all(at("out")).unwrap();
        most = most.max(left);
        end += 1;
    }
    // Both shards were finished, and later files were not.
    assert_eq!(most, 2);
    assert_same(&at("out"), &at("new"));
}

#[test]
fn what_an_interrupted_run_left_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    small().write(&at("old"));
    let mut new = small();
    nudge(new.tensor("model.norm.weight"), 3);
    new.write(&at("new"));
    make(&at("old"), &at("new"), &at("delta"));
    // Both shards, and some of the rest.
    assert!(put_on(&at("delta"), &at("old"), &at("out"), &EndsAt::new(3)).is_err());
    let shard = at(".out.partial/checkpoint/model-00001-of-00002.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    // Another delta does not go on with it.
    make(&at("new"), &at("old"), &at("back"));
    let error = put_on(&at("back"), &at("new"), &at("out"), &()).unwrap_err();
    assert!(matches!(&error, RunError::Different { .. }), "{error}");
    let done = put_on(&at("delta"), &at("old"), &at("out"), &()).unwrap();
    assert_eq!(done.shards_resumed, 1);
    assert_same(&at("out"), &at("new"));
}

#[test]
fn an_interrupted_delta_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    small().write(&at("old"));
    let mut new = small();
    nudge(new.tensor("model.embed_tokens.weight"), 3);
    new.write(&at("new"));
    let (old, new) = (Checkpoint::open(&at("old")).unwrap(), Checkpoint::open(&at("new")).unwrap());
    let mut end = 0;
    while let Err(error) = make_delta(&old, &new, &at("delta"), &EndsAt::new(end)) {
        assert!(matches!(error, RunError::Delta(DeltaError::Cancelled)), "{error}");
        assert!(files(dir.path()).keys().all(|name| name.starts_with("old/") || name.starts_with("new/")));
        end += 1;
    }
    assert!(end > 5);
    put_on(&at("delta"), &at("old"), &at("out"), &()).unwrap();
    assert_same(&at("out"), &at("new"));
}
