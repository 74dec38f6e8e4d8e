//! A source that changes under a run: the run ends with an error that names the file and what became of it, or it has
//! read the state that was planned for and nothing else. Weights are never mapped, so that nothing here is a SIGBUS.

use std::fs::{self, File};
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use qwen_fp8::run::{Observer, Phase, RunError, RunOptions, RunReport, Sha256Of, TensorTime, run};

use crate::support::fixture::{Action, Case, Fixture, case, files, side_file};

static NEVER: AtomicBool = AtomicBool::new(false);

/// What is done to a file, and what a message then says of it: to one that is opened afterwards, and to one that is open.
struct Change {
    act: fn(&Path),
    opened: &'static str,
    /// `None` where the open file is still what it was, whatever its name now means.
    open: Option<&'static [&'static str]>,
}

const CHANGES: [Change; 10] = [
    Change { act: |path| cut(path, 2), opened: "its size is another one", open: Some(SHORTER) },
    Change { act: |path| cut(path, u64::MAX), opened: "its size is another one", open: Some(SHORTER) },
    Change { act: extend, opened: "its size is another one", open: Some(&["its size is another one"]) },
    Change { act: overwrite, opened: "it was written to", open: Some(&["it was written to"]) },
    Change { act: touch, opened: "it was written to", open: Some(&["it was written to"]) },
    Change { act: replace, opened: "it was replaced by another file", open: None },
    Change { act: away, opened: "is missing", open: None },
    Change { act: |path| in_its_place(path, |path| fs::create_dir(path).unwrap()), opened: "a directory", open: None },
    Change { act: |path| in_its_place(path, fifo), opened: "a named pipe (FIFO)", open: None },
    Change {
        act: |path| in_its_place(path, |path| symlink(path.file_name().unwrap(), path).unwrap()),
        opened: "is a symlink loop",
        open: None,
    },
];

/// Which of the two is seen depends on whether the next read, or the look after the last one, comes first.
const SHORTER: &[&str] = &["it became shorter", "its size is another one"];

fn cut(path: &Path, parts: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / parts).unwrap();
}

fn extend(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"+").unwrap();
}

fn overwrite(path: &Path) {
    let len = fs::metadata(path).unwrap().len() as usize;
    File::options().write(true).open(path).unwrap().write_all(&vec![0x3c; len]).unwrap();
}

fn touch(path: &Path) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

/// Another file with the same bytes and the same time.
fn replace(path: &Path) {
    let (bytes, modified) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    fs::rename(new, path).unwrap();
}

fn away(path: &Path) {
    fs::rename(path, aside(path)).unwrap();
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("away")
}

fn in_its_place(path: &Path, other: impl Fn(&Path)) {
    away(path);
    other(path);
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
}

/// Changes a file at one moment of a run.
struct At<'a> {
    moment: Moment,
    act: &'a (dyn Fn() + Sync),
    tensors: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Nothing of the data has been read.
    Start,
    /// So many tensors are done.
    Tensors(usize),
    /// All shards are written; side files are about to be copied.
    Publishing,
}

impl Observer for At<'_> {
    fn started(&self, _: u64) {
        if self.moment == Moment::Start {
            (self.act)();
        }
    }

    fn tensor_finished(&self, _: &TensorTime) {
        if self.moment == Moment::Tensors(self.tensors.fetch_add(1, Ordering::Relaxed) + 1) {
            (self.act)();
        }
    }

    fn phase(&self, phase: Phase) {
        if (self.moment, phase) == (Moment::Publishing, Phase::Publishing) {
            (self.act)();
        }
    }
}

/// A fixture whose files were last written long ago, so that every write shows in their times.
fn aged(cases: &[Case]) -> Fixture {
    let mut fixture = Fixture::new(cases);
    let source = fixture.plan.checkpoint.dir.clone();
    for entry in fs::read_dir(&source).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30)).unwrap();
    }
    fixture.restamp();
    fixture.plan.checkpoint.side_files = vec![side_file(&source.join("tokenizer.json"))];
    fixture
}

/// Three shards; the second has several pieces of work.
fn three() -> Vec<Case> {
    vec![
        case(&[8, 64], 0, Action::Band),
        case(&[600, 64], 1, Action::Band),
        case(&[600, 64], 1, Action::Tensor),
        case(&[1000], 1, Action::Copy),
        case(&[8, 64], 2, Action::Copy),
    ]
}

fn changed(
    fixture: &Fixture,
    path: &Path,
    change: &Change,
    moment: Moment,
    direct: bool,
) -> Result<RunReport, RunError> {
    let options = RunOptions { threads: NonZeroUsize::new(1), direct, ..RunOptions::new(&NEVER) };
    let at = At { moment, act: &|| (change.act)(path), tensors: AtomicUsize::new(0) };
    run(&fixture.plan, &fixture.output(), &options, &at)
}

/// The error names the file and what became of it, and there is no output.
fn assert_named(error: &RunError, fixture: &Fixture, path: &Path, says: &[&str]) {
    let message = error.to_string();
    assert!(message.contains(&format!("`{}`", path.display())), "{message}");
    assert!(says.iter().any(|says| message.contains(says)), "{message}, not {says:?}");
    assert!(!fixture.output().exists());
}

#[test]
fn a_shard_changed_before_it_is_opened_is_named() {
    for change in &CHANGES {
        for (shard, moment) in [(0, Moment::Start), (2, Moment::Start), (2, Moment::Tensors(1))] {
            for direct in [true, false] {
                let fixture = aged(&three());
                let path = fixture.plan.checkpoint.shards[shard].path.clone();
                let error = changed(&fixture, &path, change, moment, direct).unwrap_err();
                assert_named(&error, &fixture, &path, &[change.opened]);
            }
        }
    }
}

#[test]
fn a_shard_changed_while_it_is_read_is_named_or_read_as_planned() {
    for change in &CHANGES {
        for direct in [true, false] {
            let fixture = aged(&three());
            // Past the page cache, where that can be.
            fixture.evict();
            let path = fixture.plan.checkpoint.shards[1].path.clone();
            // The first tensor of the second shard is done.
            let done = changed(&fixture, &path, change, Moment::Tensors(2), direct);
            match (change.open, done) {
                (Some(says), Err(error)) => {
                    assert_named(&error, &fixture, &path, says);
                    assert_eq!(fixture.left_over(), Vec::<String>::new());
                }
                (None, Ok(_)) => assert!(files(&fixture.output()) == fixture.expected),
                (_, done) => panic!("{:?}: {done:?}", change.opened),
            }
        }
    }
}

#[test]
fn a_shard_changed_after_its_last_read_does_no_harm() {
    for change in &CHANGES {
        let fixture = aged(&three());
        let path = fixture.plan.checkpoint.shards[0].path.clone();
        changed(&fixture, &path, change, Moment::Tensors(3), true).unwrap();
        assert!(files(&fixture.output()) == fixture.expected);
    }
}

#[test]
fn a_shard_changed_before_it_is_reopened_is_named() {
    // So many shards are open that the first one is closed before its second tensor is wanted.
    let mut cases: Vec<Case> = (0..20).map(|shard| case(&[8, 64], shard, Action::Band)).collect();
    cases.extend((0..20).map(|shard| Case { to_shard: 19, ..case(&[8, 64], shard, Action::Band) }));
    for change in &CHANGES {
        let fixture = aged(&cases);
        let path = fixture.plan.checkpoint.shards[0].path.clone();
        let error = changed(&fixture, &path, change, Moment::Tensors(18), true).unwrap_err();
        assert_named(&error, &fixture, &path, &[change.opened]);
    }
}

#[test]
fn a_side_file_changed_before_it_is_copied_is_named() {
    for change in &CHANGES {
        let fixture = aged(&three());
        let path = fixture.plan.checkpoint.side_files[0].path.clone();
        let error = changed(&fixture, &path, change, Moment::Publishing, true).unwrap_err();
        assert_named(&error, &fixture, &path, &[change.opened]);
    }
}

#[test]
fn a_shard_changed_before_its_sha256_is_taken_is_named() {
    let sha256 = Sha256Of { output: false, source: true };
    for change in &CHANGES {
        let fixture = aged(&three());
        let path = fixture.plan.checkpoint.shards[1].path.clone();
        let options = RunOptions { sha256, ..RunOptions::new(&NEVER) };
        let at = At { moment: Moment::Publishing, act: &|| (change.act)(&path), tensors: AtomicUsize::new(0) };
        let error = run(&fixture.plan, &fixture.output(), &options, &at).unwrap_err();
        assert_named(&error, &fixture, &path, &[change.opened]);
    }
}

#[test]
fn a_shard_that_was_away_for_a_while() {
    /// Moves the file away once the first shard is finished, and before the third tensor of the second one is.
    struct Away<'a> {
        path: &'a Path,
        shards: AtomicUsize,
        tensors: AtomicUsize,
    }
    impl Observer for Away<'_> {
        fn shard_finished(&self, _: &str) {
            self.shards.fetch_add(1, Ordering::Relaxed);
        }

        fn tensor_finished(&self, _: &TensorTime) {
            if self.tensors.fetch_add(1, Ordering::Relaxed) == 2 {
                let began = Instant::now();
                while self.shards.load(Ordering::Relaxed) == 0 {
                    // Far more than a busy machine needs: a shard that never ends fails the test instead of hanging it.
                    assert!(began.elapsed() < Duration::from_secs(300), "no shard was finished");
                    std::thread::yield_now();
                }
                away(self.path);
            }
        }
    }
    struct Resumed(AtomicUsize);
    impl Observer for Resumed {
        fn resumed(&self, kept: usize, _: usize) {
            self.0.store(kept, Ordering::Relaxed);
        }
    }
    let fixture = aged(&three());
    let path = fixture.plan.checkpoint.shards[2].path.clone();
    let observer = Away { path: &path, shards: AtomicUsize::new(0), tensors: AtomicUsize::new(0) };
    let one = RunOptions { threads: NonZeroUsize::new(1), ..RunOptions::new(&NEVER) };
    let error = run(&fixture.plan, &fixture.output(), &one, &observer).unwrap_err();
    assert_named(&error, &fixture, &path, &["is missing"]);
    // What the others gave is kept, since the same command may succeed.
    assert_eq!(fixture.left_over(), [".output.partial"]);
    fs::rename(aside(&path), &path).unwrap();
    let again = Resumed(AtomicUsize::new(0));
    run(&fixture.plan, &fixture.output(), &one, &again).unwrap();
    // The second one was finished too, if its sync was the faster.
    assert!(matches!(again.0.into_inner(), 1 | 2));
    assert!(files(&fixture.output()) == fixture.expected);
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}
