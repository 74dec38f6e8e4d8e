//! A run that was stopped goes on where it was, trusts nothing that it finds, and ends with the same bytes.

mod rereading;

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use qwen_fp8::checkpoint::checksum::Crc64;
use qwen_fp8::run::{LeftBehind, Observer, RunError, RunOptions, RunReport, run};
use qwen_fp8::schemes::Registration;

use crate::support::fixture::{Action, Case, Fixture, REGISTRATION, case, files, side_file};

/// Five shards, some of whose weights have their scales in the next one.
fn cases() -> Vec<Case> {
    vec![
        case(&[40, 64], 0, Action::Band),
        case(&[7], 0, Action::Copy),
        case(&[600, 64], 1, Action::Tensor),
        case(&[100, 64], 2, Action::Copy),
        case(&[40, 64], 2, Action::Band),
        case(&[3000, 64], 3, Action::Copy),
        case(&[5, 5], 4, Action::Copy),
    ]
}

/// Cancels a run when so many shards are finished, and writes down what it is told.
struct Stop {
    after: usize,
    cancel: AtomicBool,
    finished: AtomicUsize,
    resumed: Mutex<Option<(usize, usize)>>,
    left: Mutex<Option<LeftBehind>>,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self {
            after,
            cancel: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
            resumed: Mutex::default(),
            left: Mutex::default(),
        }
    }

    fn run(&self, fixture: &Fixture, threads: usize) -> Result<RunReport, RunError> {
        let options =
            RunOptions { threads: NonZeroUsize::new(threads), max_memory: 400_000, ..RunOptions::new(&self.cancel) };
        run(&fixture.plan, &fixture.output(), &options, self)
    }
}

impl Observer for Stop {
    fn resumed(&self, kept: usize, shards: usize) {
        *self.resumed.lock().unwrap() = Some((kept, shards));
    }

    fn shard_finished(&self, _: &str) {
        if self.finished.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn left_behind(&self, left: &LeftBehind) {
        *self.left.lock().unwrap() = Some(left.clone());
    }
}

/// A fixture whose run was stopped after so many shards.
fn stopped(after: usize) -> Fixture {
    let fixture = Fixture::new(&cases());
    let error = Stop::after(after).run(&fixture, 1).unwrap_err();
    assert!(matches!(error, RunError::Cancelled), "{error}");
    fixture
}

fn staging(fixture: &Fixture) -> PathBuf {
    fixture.root.path().join(".output.partial")
}

fn journal(fixture: &Fixture) -> PathBuf {
    staging(fixture).join("qwen-fp8-journal")
}

fn staged(fixture: &Fixture) -> PathBuf {
    staging(fixture).join("checkpoint")
}

/// By name, what tells one file from another that took its place.
fn identities(dir: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap()))
        .map(|(name, metadata)| (name, metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
        .collect();
    found.sort();
    found
}

fn finish(fixture: &Fixture) -> Stop {
    let stop = Stop::after(usize::MAX);
    stop.run(fixture, 2).unwrap();
    assert_complete(fixture);
    stop
}

fn assert_complete(fixture: &Fixture) {
    assert!(files(&fixture.output()) == fixture.expected, "the output differs from that of an undisturbed run");
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

#[test]
fn a_run_goes_on_wherever_it_was_stopped() {
    let whole = Fixture::new(&cases());
    finish(&whole);
    for threads in [1, 4] {
        for after in 1..=5 {
            let fixture = Fixture::new(&cases());
            let stop = Stop::after(after);
            let error = stop.run(&fixture, threads).unwrap_err();
            assert!(matches!(error, RunError::Cancelled), "{error}");
            let finished = identities(&staged(&fixture));
            assert_eq!(finished.len(), after);
            assert!(finished.iter().all(|(name, ..)| name.ends_with(".safetensors")), "{finished:?}");
            assert_eq!(*stop.left.lock().unwrap(), Some(LeftBehind { staging: staging(&fixture), shards: after }));
            assert_eq!(fixture.left_over(), [".output.partial"]);
            assert!(!fixture.output().exists());

            let again = finish(&fixture);
            assert_eq!(*again.resumed.lock().unwrap(), Some((after, 5)));
            assert_eq!(again.finished.load(Ordering::Relaxed), 5 - after);
            // Neither written again nor touched.
            let published = identities(&fixture.output());
            assert!(finished.iter().all(|shard| published.contains(shard)), "{finished:?} {published:?}");
        }
    }
}

#[test]
fn a_run_may_be_stopped_after_every_shard() {
    let fixture = Fixture::new(&cases());
    for kept in 0..5 {
        let stop = Stop::after(1);
        stop.run(&fixture, 2).unwrap_err();
        assert_eq!(stop.resumed.into_inner().unwrap(), (kept > 0).then_some((kept, 5)));
    }
    finish(&fixture);
}

#[test]
fn what_a_kill_leaves_in_the_staging_is_not_taken_over() {
    let fixture = stopped(2);
    let dir = staged(&fixture);
    fs::write(dir.join("config.json"), b"{").unwrap();
    fs::write(dir.join("model.safetensors.index.json"), b"").unwrap();
    fs::write(dir.join("tokenizer.json"), b"half").unwrap();
    fs::create_dir_all(dir.join("2_Dense/inner")).unwrap();
    fs::write(dir.join("2_Dense/inner/model.safetensors"), b"half").unwrap();
    // Complete and right, but the journal does not say so.
    let (name, bytes) = fixture.expected.iter().find(|(name, _)| name == "model-3.safetensors").unwrap();
    fs::write(dir.join(name), bytes).unwrap();
    fs::write(staging(&fixture).join("qwen-fp8-journal.new"), b"half").unwrap();
    fs::write(journal(&fixture).with_extension("new"), b"half").unwrap();
    let again = finish(&fixture);
    assert_eq!(again.resumed.into_inner().unwrap(), Some((2, 5)));
}

#[test]
fn an_unfinished_shard_has_no_header() {
    struct Look<'a>(&'a Fixture, AtomicUsize);
    impl Observer for Look<'_> {
        fn shard_finished(&self, _: &str) {
            let finished = self.1.fetch_add(1, Ordering::Relaxed) + 1;
            let shards = files(&staged(self.0));
            assert_eq!(shards.len(), 5, "no other file is there yet");
            // Of the last shards, the next one may get its header at any moment.
            let with_header = shards.iter().filter(|(_, bytes)| bytes.starts_with(b"HHHHHHHH")).count();
            assert!(with_header >= finished);
            if finished == 1 {
                assert!(with_header < 5);
            }
        }
    }
    let fixture = Fixture::new(&cases());
    let cancel = AtomicBool::new(false);
    let look = Look(&fixture, AtomicUsize::new(0));
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&cancel), &look).unwrap();
}

#[test]
fn a_journal_that_does_not_prove_itself_does_not_count() {
    let fixture = stopped(3);
    let keep = fixture.root.path().join("source/keep");
    copy_dir(&staging(&fixture), &keep);
    let text = fs::read(journal(&fixture)).unwrap();
    let mut journals: Vec<Vec<u8>> = (0..text.len()).step_by(97).map(|len| text[..len].to_vec()).collect();
    // Torn within the last line, and between its end and its line feed.
    journals.extend([text[..text.len() - 1].to_vec(), text[..text.len() - 20].to_vec()]);
    for at in (0..text.len()).step_by(61) {
        let mut edited = text.clone();
        edited[at] ^= 1;
        journals.push(edited);
    }
    journals.push(vec![0; text.len()]);
    journals.push((0..10_000_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect());
    journals.push([text.as_slice(), b"garbage\n"].concat());
    for edited in journals {
        fs::write(journal(&fixture), &edited).unwrap();
        let again = Stop::after(usize::MAX);
        again.run(&fixture, 2).unwrap();
        assert!(files(&fixture.output()) == fixture.expected);
        let kept = again.resumed.into_inner().unwrap().map_or(0, |(kept, _)| kept);
        let lines = edited.iter().zip(&text).take_while(|(a, b)| a == b).filter(|(a, _)| **a == b'\n').count();
        assert_eq!(kept, lines.saturating_sub(1));
        fs::remove_dir_all(fixture.output()).unwrap();
        copy_dir(&keep, &staging(&fixture));
    }
}

#[test]
fn the_work_of_a_version_with_another_journal_is_refused_and_stays() {
    // A field less, as before schemes had versions, and one more, as a later version may have.
    let less = |json: &str| {
        let (before, rest) = json.split_once("\"schemes\":").unwrap();
        format!("{before}{}", rest.split_once("},").unwrap().1)
    };
    let more = |json: &str| json.replacen('{', "{\"later\":1,", 1);
    for edit in [&less as &dyn Fn(&str) -> String, &more] {
        let fixture = stopped(3);
        edit_journal(&fixture, edit);
        let before = identities(&staged(&fixture));
        let error = Stop::after(usize::MAX).run(&fixture, 2).unwrap_err();
        assert!(matches!(&error, RunError::Different { .. }), "{error}");
        assert!(error.to_string().contains("the version of this program"), "{error}");
        assert_eq!(identities(&staged(&fixture)), before);
    }
}

#[test]
fn a_staged_shard_that_changed_is_written_again() {
    type Spoil = fn(&Path);
    let flip: Spoil = |path| {
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let header: Spoil = |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[3] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let cut: Spoil = |path| {
        let len = fs::metadata(path).unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(len - 1).unwrap();
    };
    let longer: Spoil = |path| {
        let len = fs::metadata(path).unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(len + 1).unwrap();
    };
    let gone: Spoil = |path| fs::remove_file(path).unwrap();
    let linked: Spoil = |path| fs::hard_link(path, path.with_extension("other")).unwrap();
    let planted: Spoil = |path| {
        let elsewhere = path.parent().unwrap().join("../elsewhere");
        fs::rename(path, &elsewhere).unwrap();
        symlink(elsewhere, path).unwrap();
    };
    for spoil in [flip, header, cut, longer, gone, linked, planted] {
        let fixture = stopped(3);
        let before = identities(&staged(&fixture));
        spoil(&staged(&fixture).join("model-1.safetensors"));
        let again = finish(&fixture);
        assert_eq!(*again.resumed.lock().unwrap(), Some((2, 5)));
        let after = identities(&fixture.output());
        let kept: Vec<&str> =
            before.iter().filter(|shard| after.contains(shard)).map(|(name, ..)| name.as_str()).collect();
        assert_eq!(kept, ["model-0.safetensors", "model-2.safetensors"]);
        assert!(!fs::symlink_metadata(fixture.output().join("model-1.safetensors")).unwrap().is_symlink());
    }
}

/// The scheme of the fixture with a change that its author declares to write other bytes.
static OTHER_ARITHMETIC: Registration = Registration { version: 2, ..REGISTRATION };

#[test]
fn a_differing_identity_is_refused_with_what_differs() {
    type Change = fn(&mut Fixture);
    let changes: [(Change, &str); 9] = [
        (|fixture| fixture.plan.recipe.text.text.push_str("# more\n"), "the recipe"),
        (
            |fixture| fixture.plan.recipe.rules.iter_mut().for_each(|rule| rule.registration = &OTHER_ARITHMETIC),
            "version 1 of the scheme `STAMP`, now 2",
        ),
        (|fixture| fixture.plan.documents[1].1.push(b'\n'), "the plan: options of the command, or config.json"),
        (
            |fixture| {
                let path = fixture.plan.checkpoint.shards[1].path.clone();
                File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
                fixture.restamp();
            },
            "the input `model-1.safetensors` was written to since",
        ),
        (
            |fixture| {
                let path = fixture.plan.checkpoint.shards[1].path.clone();
                let bytes = fs::read(&path).unwrap();
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                // The old file keeps its inode as long as it has a name.
                fs::rename(&path, path.with_extension("old")).unwrap();
                fs::write(&path, bytes).unwrap();
                File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
                fixture.restamp();
            },
            "the input `model-1.safetensors` was replaced by another file",
        ),
        (
            |fixture| {
                let path = fixture.plan.checkpoint.shards[0].path.clone();
                let mut bytes = fs::read(&path).unwrap();
                bytes[9] ^= 1;
                fs::write(&path, bytes).unwrap();
                fixture.restamp();
            },
            "the input `model-0.safetensors` has another header",
        ),
        (
            |fixture| {
                let path = fixture.plan.checkpoint.side_files[0].path.clone();
                fs::write(&path, b"{ }").unwrap();
                fixture.plan.checkpoint.side_files = vec![side_file(&path)];
            },
            "the input `tokenizer.json` had 2 bytes, now 3 bytes",
        ),
        (|fixture| fixture.plan.checkpoint.side_files.clear(), "the input `tokenizer.json` is gone"),
        (
            |fixture| edit_journal(fixture, |json| json.replacen(r#""tool":""#, r#""tool":"9"#, 1)),
            "version `90.1.0` of this program, now `0.1.0`",
        ),
    ];
    for (change, expected) in changes {
        let mut fixture = stopped(2);
        change(&mut fixture);
        let before = (identities(&staging(&fixture)), identities(&staged(&fixture)));
        let stop = Stop::after(usize::MAX);
        let error = stop.run(&fixture, 1).unwrap_err();
        let RunError::Different { differences, .. } = &error else { panic!("{expected}: {error}") };
        assert_eq!(differences, &[expected]);
        assert!(error.to_string().contains(expected) && error.help().join(" ").contains("`--restart`"));
        assert_eq!((identities(&staging(&fixture)), identities(&staged(&fixture))), before);
        assert!(!fixture.output().exists());

        let cancel = AtomicBool::new(false);
        let options = RunOptions { restart: true, ..RunOptions::new(&cancel) };
        let report = run(&fixture.plan, &fixture.output(), &options, &()).unwrap();
        assert!(report.bytes_read > 0);
        assert_eq!(fixture.left_over(), Vec::<String>::new());
        let name = "model-2.safetensors";
        assert!(
            files(&fixture.output()).iter().find(|file| file.0 == name)
                == fixture.expected.iter().find(|file| file.0 == name)
        );
    }
}

#[test]
fn threads_memory_and_instruction_set_are_not_part_of_the_identity() {
    let fixture = stopped(2);
    let cancel = AtomicBool::new(false);
    let simd = qwen_fp8::schemes::Simd::available()[0];
    let options = RunOptions {
        threads: NonZeroUsize::new(3),
        max_memory: 800_000,
        simd,
        direct: false,
        ..RunOptions::new(&cancel)
    };
    run(&fixture.plan, &fixture.output(), &options, &()).unwrap();
    assert_complete(&fixture);
}

#[test]
fn a_restart_begins_afresh() {
    let fixture = stopped(3);
    let before = identities(&staged(&fixture));
    let cancel = AtomicBool::new(false);
    run(&fixture.plan, &fixture.output(), &RunOptions { restart: true, ..RunOptions::new(&cancel) }, &()).unwrap();
    assert_complete(&fixture);
    let after = identities(&fixture.output());
    assert!(!before.iter().any(|shard| after.contains(shard)));
}

#[test]
fn the_staging_of_another_user_is_left_alone() {
    let fixture = stopped(2);
    // Only root can give a directory away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(staging(&fixture), Some(65_534), None).unwrap();
    let before = identities(&staged(&fixture));
    for restart in [false, true] {
        let cancel = AtomicBool::new(false);
        let options = RunOptions { restart, ..RunOptions::new(&cancel) };
        let error = run(&fixture.plan, &fixture.output(), &options, &()).unwrap_err();
        assert!(matches!(error, RunError::OtherUsers { owner: 65_534, .. }), "{error}");
    }
    assert_eq!(identities(&staged(&fixture)), before);
}

#[test]
fn the_next_run_removes_what_a_published_run_left() {
    let fixture = stopped(2);
    let keep = fs::read(journal(&fixture)).unwrap();
    finish(&fixture);
    fs::create_dir(staging(&fixture)).unwrap();
    fs::write(journal(&fixture), keep).unwrap();
    let refused = || {
        let error = Stop::after(usize::MAX).run(&fixture, 1).unwrap_err();
        assert!(matches!(error, RunError::OutputExists { .. }), "{error}");
    };
    refused();
    assert_complete(&fixture);
    fs::create_dir(staging(&fixture)).unwrap();
    refused();
    assert_complete(&fixture);
    // Nobody knows whose this is.
    fs::create_dir(staging(&fixture)).unwrap();
    fs::write(staging(&fixture).join("precious"), b"!").unwrap();
    refused();
    assert_eq!(fixture.left_over(), [".output.partial"]);
}

#[test]
fn a_fault_of_the_input_leaves_no_staging() {
    let fixture = Fixture::edited(&cases(), |tensor, data| {
        if tensor == 4 {
            data[..2].copy_from_slice(&crate::support::fixture::NAN);
        }
    });
    let stop = Stop::after(usize::MAX);
    let error = stop.run(&fixture, 1).unwrap_err();
    assert!(matches!(error, RunError::NonFinite { .. }), "{error}");
    assert_eq!(*stop.left.lock().unwrap(), None);
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

/// Changes the JSON of a journal's first line and makes it prove itself again.
fn edit_journal(fixture: &Fixture, edit: impl Fn(&str) -> String) {
    let text = fs::read_to_string(journal(fixture)).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let json = edit(first.split_once(' ').unwrap().1);
    fs::write(journal(fixture), format!("{} {json}\n{rest}", Crc64::of(json.as_bytes()))).unwrap();
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
