//! A run in parts ends with the bytes of one machine's run, or with none and the part's name.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use qwen_fp8::checkpoint::checksum::Crc64;
use qwen_fp8::run::{Joined, MadePart, Observer, PartNumber, RunError, RunOptions, join, make_part, run};

use crate::support::fixture::{Action, Case, Fixture, case};

static GO_ON: AtomicBool = AtomicBool::new(false);

/// Shards of several sizes, some of whose weights have their scales in the next one, and tensors that are cut.
fn cases() -> Vec<Case> {
    vec![
        case(&[40, 64], 0, Action::Band),
        case(&[9000, 64], 0, Action::Tensor),
        case(&[7], 0, Action::Copy),
        case(&[600, 64], 1, Action::Tensor),
        case(&[5000, 64], 2, Action::Copy),
        case(&[6000, 64], 2, Action::Band),
        case(&[0, 64], 2, Action::Band),
        case(&[3000, 64], 3, Action::Copy),
        case(&[5, 5], 4, Action::Copy),
    ]
}

/// All files of a directory, the manifest included.
fn all(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// A fixture, and the files of an undisturbed run on one machine.
struct Scene {
    fixture: Fixture,
    plain: Vec<(String, Vec<u8>)>,
}

impl Scene {
    fn new() -> Self {
        let fixture = Fixture::new(&cases());
        let output = fixture.root.path().join("plain");
        run(&fixture.plan, &output, &RunOptions::new(&GO_ON), &()).unwrap();
        let plain = all(&output);
        fs::remove_dir_all(output).unwrap();
        Self { fixture, plain }
    }

    fn make_with(&self, number: usize, of: usize, observer: &dyn Observer) -> Result<MadePart, RunError> {
        let part = PartNumber::new(number, of).unwrap();
        make_part(&self.fixture.plan, &self.fixture.output(), part, &RunOptions::new(&GO_ON), observer)
    }

    fn make(&self, number: usize, of: usize) -> Result<MadePart, RunError> {
        self.make_with(number, of, &())
    }

    fn make_all(&self, of: usize) {
        for number in 1..=of {
            assert!(matches!(self.make(number, of).unwrap(), MadePart::Made(_)), "part {number}/{of}");
        }
    }

    fn join(&self) -> Result<Joined, RunError> {
        join(&self.fixture.plan, &self.fixture.output(), &RunOptions::new(&GO_ON), &())
    }

    /// The message of a join that must fail, with nothing published.
    fn refused(&self) -> String {
        let error = self.join().unwrap_err();
        assert!(matches!(error, RunError::Unjoinable { .. }), "{error}");
        assert!(!self.fixture.output().exists());
        error.to_string()
    }

    fn joined(&self) {
        assert!(matches!(self.join().unwrap(), Joined::Joined(_)));
        self.is_complete();
    }

    fn is_complete(&self) {
        assert!(all(&self.fixture.output()) == self.plain, "the output differs from that of an undisturbed run");
        assert_eq!(self.fixture.left_over(), Vec::<String>::new());
    }

    fn place(&self) -> PathBuf {
        self.fixture.root.path().join(".output.parts")
    }

    /// The directories of attempts whose names begin so.
    fn attempts(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.place()).unwrap().map(|entry| entry.unwrap().path());
        let is_attempt =
            |path: &PathBuf| path.is_dir() && path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        entries.filter(is_attempt).collect()
    }

    /// The largest file that a part has made.
    fn file_of(&self, part: &str) -> PathBuf {
        let files = fs::read_dir(&self.attempts(part)[0]).unwrap().map(|entry| entry.unwrap().path());
        files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

#[test]
fn any_number_of_parts_ends_with_the_bytes_of_one_machine() {
    let scene = Scene::new();
    for of in [1, 2, 3, 5, 16, 60] {
        // In the opposite order, too.
        for number in (1..=of).rev() {
            scene.make(number, of).unwrap();
        }
        scene.joined();
        fs::remove_dir_all(scene.fixture.output()).unwrap();
    }
}

#[test]
fn parts_have_no_more_to_read_than_their_share_and_its_maxima() {
    let scene = Scene::new();
    let bytes = |made| match made {
        MadePart::Made(report) => report.bytes_written,
        other => panic!("{other:?}"),
    };
    let made: Vec<u64> = (1..=4).map(|number| bytes(scene.make(number, 4).unwrap())).collect();
    let data: u64 = scene.fixture.plan.shards.iter().map(|shard| shard.data_len()).sum();
    assert_eq!(made.iter().sum::<u64>(), data);
    assert!(made.iter().all(|bytes| bytes * 4 < data + data / 4), "{made:?}");
}

#[test]
fn a_part_that_never_ran_is_named() {
    let scene = Scene::new();
    assert_eq!(scene.refused().split_once("joined: ").unwrap().1, "no part of it was made");
    scene.make(1, 3).unwrap();
    scene.make(3, 3).unwrap();
    assert_eq!(scene.refused().split_once("joined: ").unwrap().1, "part 2/3 was not made");
    scene.make(2, 3).unwrap();
    scene.joined();
}

#[test]
fn a_part_that_was_killed_is_made_again() {
    let scene = Scene::new();
    // What a kill leaves: a directory with unfinished files, and no record.
    scene.make(2, 3).unwrap();
    let left = scene.place().join("part-2-of-3.0123456789abcdef");
    fs::rename(&scene.attempts("part-2-of-3.")[0], &left).unwrap();
    fs::remove_file(scene.place().join("part-2-of-3.json")).unwrap();
    File::options().write(true).open(scene.file_of("part-2-of-3.")).unwrap().write_all_at(b"torn", 100).unwrap();
    scene.make(1, 3).unwrap();
    scene.make(3, 3).unwrap();
    assert!(scene.refused().ends_with("part 2/3 was not made"));
    scene.make(2, 3).unwrap();
    assert!(!left.exists());
    scene.joined();
}

/// Cancels a run at its first tensor.
struct Cancel(AtomicBool);

impl Observer for Cancel {
    fn tensor_begun(&self, _: &str) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_part_that_is_stopped_leaves_nothing_that_counts() {
    let scene = Scene::new();
    let cancel = Cancel(AtomicBool::new(false));
    let part = PartNumber::new(1, 2).unwrap();
    let stopped = make_part(&scene.fixture.plan, &scene.fixture.output(), part, &RunOptions::new(&cancel.0), &cancel);
    assert!(matches!(stopped, Err(RunError::Cancelled)), "{stopped:?}");
    assert_eq!(scene.attempts("part-").len(), 0);
    scene.make_all(2);
    scene.joined();
}

#[test]
fn a_part_may_run_several_times_at_once() {
    let scene = Scene::new();
    thread::scope(|scope| {
        for number in [1, 2, 2, 2, 1, 2] {
            let scene = &scene;
            scope.spawn(move || scene.make(number, 2).unwrap());
        }
    });
    scene.joined();
}

/// Does something at the first tensor of a run.
struct Meanwhile<'a>(Mutex<Option<&'a (dyn Fn() + Sync)>>);

impl Observer for Meanwhile<'_> {
    fn tensor_begun(&self, _: &str) {
        if let Some(act) = self.0.lock().unwrap().take() {
            act();
        }
    }
}

#[test]
fn an_attempt_that_is_overtaken_ends_well() {
    let scene = Scene::new();
    scene.make(1, 2).unwrap();
    let overtake = || {
        scene.make(2, 2).unwrap();
    };
    let made = scene.make_with(2, 2, &Meanwhile(Mutex::new(Some(&overtake)))).unwrap();
    assert!(matches!(made, MadePart::MadeBefore), "{made:?}");
    scene.joined();
}

#[test]
fn an_attempt_that_outlives_the_join_changes_nothing() {
    let scene = Scene::new();
    scene.make(1, 2).unwrap();
    let overtake = || {
        scene.make(2, 2).unwrap();
        scene.joined();
    };
    let made = scene.make_with(2, 2, &Meanwhile(Mutex::new(Some(&overtake)))).unwrap();
    assert!(matches!(made, MadePart::Published), "{made:?}");
    scene.is_complete();
}

/// Puts another text in place of the record's, with the checksum that goes with it.
fn edit_record(path: &Path, edit: impl Fn(&str) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let json = edit(text.trim_end().split_once(' ').unwrap().1);
    fs::write(path, format!("{} {json}\n", Crc64::of(json.as_bytes()))).unwrap();
}

#[test]
fn two_machines_that_disagree_are_an_error_with_the_part() {
    let scene = Scene::new();
    scene.make(2, 2).unwrap();
    let (record, aside) = (scene.place().join("part-2-of-2.json"), scene.fixture.root.path().join("aside"));
    fs::rename(&record, &aside).unwrap();
    let overtake = || {
        fs::rename(&aside, &record).unwrap();
        edit_record(&record, |json| {
            let at = json.find("\"crc64\":\"").unwrap() + 9;
            format!("{}0123456789abcdef{}", &json[..at], &json[at + 16..])
        });
    };
    let error = scene.make_with(2, 2, &Meanwhile(Mutex::new(Some(&overtake)))).unwrap_err();
    assert!(matches!(error, RunError::MadeTwice { .. }), "{error}");
    assert!(error.to_string().contains("part 2/2"), "{error}");
}

#[test]
fn locks_are_not_asked_for() {
    let scene = Scene::new();
    let lock = File::create(scene.fixture.root.path().join(".output.lock")).unwrap();
    lock.lock().unwrap();
    scene.make_all(2);
    assert!(matches!(scene.join().unwrap(), Joined::Joined(_)));
    fs::remove_file(scene.fixture.root.path().join(".output.lock")).unwrap();
    scene.is_complete();
}

#[test]
fn clocks_are_not_asked() {
    let scene = Scene::new();
    scene.make(1, 2).unwrap();
    let set = |time| {
        for attempt in scene.attempts("part-") {
            for file in fs::read_dir(&attempt).unwrap().map(|entry| entry.unwrap().path()).chain([attempt.clone()]) {
                File::open(file).unwrap().set_modified(time).unwrap();
            }
        }
        let record = File::open(scene.place().join("part-1-of-2.json")).unwrap();
        record.set_modified(time).unwrap();
    };
    set(SystemTime::UNIX_EPOCH);
    scene.make(2, 2).unwrap();
    assert!(matches!(scene.make(1, 2).unwrap(), MadePart::MadeBefore));
    set(SystemTime::now() + Duration::from_secs(400_000_000));
    scene.joined();
}

#[test]
fn whatever_is_done_twice_is_done_once() {
    let scene = Scene::new();
    scene.make_all(3);
    assert!(matches!(scene.make(2, 3).unwrap(), MadePart::MadeBefore));
    assert_eq!(scene.attempts("part-2-of-3.").len(), 1);
    scene.joined();
    assert!(matches!(scene.join().unwrap(), Joined::Published));
    assert!(matches!(scene.make(2, 3).unwrap(), MadePart::Published));
    assert!(matches!(scene.make(7, 9).unwrap(), MadePart::Published));
    scene.is_complete();
}

#[test]
fn joins_at_the_same_time_publish_one_result() {
    let scene = Scene::new();
    scene.make_all(3);
    thread::scope(|scope| {
        let joins: Vec<_> = (0..4).map(|_| scope.spawn(|| scene.join())).collect();
        let joined = joins.into_iter().map(|join| join.join().unwrap());
        let ends: Vec<_> = joined.map(|joined| joined.unwrap_or_else(|error| panic!("{error}"))).collect();
        assert_eq!(ends.iter().filter(|end| matches!(end, Joined::Joined(_))).count(), 1);
    });
    scene.is_complete();
}

#[test]
fn what_a_killed_join_leaves_is_in_nobodys_way() {
    let scene = Scene::new();
    scene.make_all(2);
    let left = scene.place().join("join.0123456789abcdef");
    fs::create_dir(&left).unwrap();
    let made = scene.file_of("part-1-of-2.");
    fs::hard_link(&made, left.join(made.file_name().unwrap())).unwrap();
    scene.joined();

    // One that had published, and nothing more.
    fs::create_dir(scene.place()).unwrap();
    fs::write(scene.place().join("qwen-fp8-parts"), "").unwrap();
    fs::write(scene.place().join("part-1-of-2.json"), "").unwrap();
    assert!(matches!(scene.join().unwrap(), Joined::Published));
    scene.is_complete();
}

#[test]
fn spoilt_parts_are_named_and_made_again() {
    let scene = Scene::new();
    let spoil: [fn(&Scene, &str); 5] = [
        |scene, part| {
            let file = scene.file_of(&format!("{part}."));
            let len = fs::metadata(&file).unwrap().len();
            let bytes = fs::read(&file).unwrap();
            // The last byte that is the part's: around a piece there are holes.
            let at = bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64;
            assert!(at < len);
            let flipped = [bytes[at as usize] ^ 1];
            File::options().write(true).open(&file).unwrap().write_all_at(&flipped, at).unwrap();
        },
        |scene, part| {
            let file = scene.file_of(&format!("{part}."));
            let len = fs::metadata(&file).unwrap().len();
            File::options().write(true).open(&file).unwrap().set_len(len - 1).unwrap();
        },
        |scene, part| fs::remove_file(scene.file_of(&format!("{part}."))).unwrap(),
        |scene, part| fs::remove_dir_all(&scene.attempts(&format!("{part}."))[0]).unwrap(),
        |scene, part| fs::write(scene.place().join(format!("{part}.json")), "torn").unwrap(),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        scene.make_all(3);
        spoil(&scene, "part-2-of-3");
        let message = scene.refused();
        let named = message.split_once("joined: ").unwrap().1;
        assert!(named.starts_with("part 2/3 ") && !named.contains("; "), "{number}: {message}");
        let again = scene.make(2, 3);
        let again = match again {
            // A record that says nothing may be anybody's.
            Err(RunError::Record { .. }) => {
                let options = RunOptions { restart: true, ..RunOptions::new(&GO_ON) };
                let part = PartNumber::new(2, 3).unwrap();
                make_part(&scene.fixture.plan, &scene.fixture.output(), part, &options, &()).unwrap()
            }
            again => again.unwrap(),
        };
        assert!(matches!(again, MadePart::Made(_)), "{number}: {again:?}");
        scene.joined();
        fs::remove_dir_all(scene.fixture.output()).unwrap();
    }
}

#[test]
fn parts_of_another_job_are_refused() {
    let mut scene = Scene::new();
    scene.make_all(2);
    // One byte of a document, as another recipe would give it.
    scene.fixture.plan.documents[1].1 = b"{\"config\": 2}".to_vec();
    let message = scene.refused();
    assert!(message.contains("part 1/2 was made by another job, which differs in: the plan"), "{message}");
    let error = scene.make(1, 2).unwrap_err();
    assert!(matches!(error, RunError::Different { .. }), "{error}");
    scene.fixture.plan.documents[1].1 = b"{\"config\": 1}".to_vec();
    scene.joined();
    scene.fixture.plan.documents[1].1 = b"{\"config\": 2}".to_vec();
    assert!(matches!(scene.join().unwrap_err(), RunError::OutputExists { .. }));
    assert!(matches!(scene.make(1, 2).unwrap_err(), RunError::OutputExists { .. }));
}

#[test]
fn a_source_that_was_written_to_between_parts_is_another_job() {
    let mut scene = Scene::new();
    scene.make(1, 2).unwrap();
    let shard = scene.fixture.plan.checkpoint.shards[0].path.clone();
    File::options().write(true).open(&shard).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    scene.fixture.restamp();
    scene.make(2, 2).unwrap();
    let message = scene.refused();
    assert!(
        message.contains("part 1/2 was made by another job") && message.contains("was written to since"),
        "{message}"
    );
}

#[test]
fn what_others_put_at_the_place_of_parts_is_not_touched() {
    let scene = Scene::new();
    fs::create_dir(scene.place()).unwrap();
    fs::write(scene.place().join("thesis.txt"), "mine").unwrap();
    assert!(matches!(scene.make(1, 2).unwrap_err(), RunError::NotOurs { .. }));
    assert!(matches!(scene.join().unwrap_err(), RunError::NotOurs { .. }));
    assert_eq!(fs::read_to_string(scene.place().join("thesis.txt")).unwrap(), "mine");
}
