//! What a run refuses, and what it leaves behind when it fails: nothing.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use qwen_fp8::checkpoint::source::SourceError;
use qwen_fp8::run::{Observer, RunError, RunOptions, run};
use qwen_fp8::schemes::AmaxScope;

use crate::support::fixture::{Action, Fixture, NAN, Stamp, case, files};

static NEVER: AtomicBool = AtomicBool::new(false);

fn fail(fixture: &Fixture, output: &Path) -> RunError {
    run(&fixture.plan, output, &RunOptions::new(&NEVER), &()).unwrap_err()
}

fn small() -> Fixture {
    Fixture::new(&[case(&[8, 8], 0, Action::Band), case(&[8], 0, Action::Copy)])
}

fn assert_nothing_left(fixture: &Fixture) {
    assert!(!fixture.output().exists());
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

fn assert_occupied(error: RunError, by: &str) {
    assert!(matches!(error, RunError::OutputExists { found, .. } if found == by), "{error}");
}

#[test]
fn an_output_that_exists_is_left_alone() {
    let fixture = small();
    fs::create_dir(fixture.output()).unwrap();
    fs::write(fixture.output().join("precious"), b"!").unwrap();
    let error = fail(&fixture, &fixture.output());
    assert_occupied(error, "a directory that is not empty");
    assert_eq!(files(&fixture.output()), [("precious".to_owned(), b"!".to_vec())]);
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

#[test]
fn an_output_that_is_a_file_or_a_link_is_left_alone() {
    let fixture = small();
    fs::write(fixture.output(), b"!").unwrap();
    assert_occupied(fail(&fixture, &fixture.output()), "a file");
    fs::remove_file(fixture.output()).unwrap();
    std::os::unix::fs::symlink("nowhere", fixture.output()).unwrap();
    assert_occupied(fail(&fixture, &fixture.output()), "a symbolic link that leads nowhere");
    assert_eq!(fs::read_link(fixture.output()).unwrap(), PathBuf::from("nowhere"));
    fs::create_dir(fixture.root.path().join("nowhere")).unwrap();
    assert_occupied(fail(&fixture, &fixture.output()), "a symbolic link");
}

#[test]
fn an_output_inside_the_source_is_refused_under_any_name() {
    let fixture = small();
    let source = fixture.plan.checkpoint.dir.clone();
    let before = files(&source);
    let link = fixture.root.path().join("link");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    let roundabout = fixture.root.path().join("source/../source/out");
    for output in [source.clone(), source.join("out"), link.join("out"), roundabout] {
        let error = fail(&fixture, &output);
        assert!(matches!(error, RunError::OutputInSource { .. }), "{}: {error}", output.display());
    }
    assert_eq!(files(&source), before);
}

#[test]
fn an_output_without_a_parent_is_refused() {
    let fixture = small();
    let error = fail(&fixture, &fixture.root.path().join("missing/output"));
    assert!(matches!(error, RunError::Parent { .. }), "{error}");
    assert_nothing_left(&fixture);
    fs::create_dir_all(fixture.root.path().join("a/b")).unwrap();
    assert!(matches!(fail(&fixture, &fixture.root.path().join("a/b/..")), RunError::OutputUnnamed { .. }));
    for around in [fixture.root.path(), &fixture.root.path().join("a/.."), Path::new("/")] {
        assert!(matches!(fail(&fixture, around), RunError::SourceInOutput { .. }));
    }
}

#[test]
fn a_second_run_on_the_same_output_is_refused() {
    let fixture = small();
    let path = fixture.root.path().join(".output.lock");
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    let error = fail(&fixture, &fixture.output());
    assert!(matches!(&error, RunError::Locked { lock, .. } if lock.file_name() == path.file_name()), "{error}");
    lock.unlock().unwrap();
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &()).unwrap();
}

#[test]
fn a_foreign_directory_in_the_place_of_the_staging_is_refused_and_left_alone() {
    let fixture = small();
    let partial = fixture.root.path().join(".output.partial");
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("precious"), b"!").unwrap();
    let error = fail(&fixture, &fixture.output());
    assert!(matches!(error, RunError::NotOurs { .. }), "{error}");
    assert_eq!(files(&partial), [("precious".to_owned(), b"!".to_vec())]);
    assert!(!fixture.output().exists());
}

#[test]
fn a_planted_link_in_the_place_of_the_staging_is_not_followed() {
    let fixture = small();
    let victim = fixture.root.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("qwen-fp8-journal"), b"").unwrap();
    std::os::unix::fs::symlink(&victim, fixture.root.path().join(".output.partial")).unwrap();
    assert!(matches!(fail(&fixture, &fixture.output()), RunError::NotOurs { .. }));
    assert_eq!(files(&victim).len(), 1);
}

#[test]
fn the_earliest_nan_is_named_whatever_worker_meets_one_first() {
    let cases =
        [case(&[64, 32], 0, Action::Copy), case(&[400, 32], 0, Action::Band), case(&[400, 32], 1, Action::Band)];
    let fixture = Fixture::edited(&cases, |tensor, data| {
        if tensor == 1 {
            data[(123 * 32 + 5) * 2..][..2].copy_from_slice(&NAN);
            data[(399 * 32 + 31) * 2..][..2].copy_from_slice(&NAN);
        }
        if tensor == 2 {
            data[..2].copy_from_slice(&NAN);
        }
    });
    for threads in [1, 2, 8] {
        // So little memory that a band has few rows and many workers are in the tensor at a time.
        let options =
            RunOptions { threads: NonZeroUsize::new(threads), max_memory: 400_000, ..RunOptions::new(&NEVER) };
        let error = run(&fixture.plan, &fixture.output(), &options, &()).unwrap_err();
        let RunError::NonFinite { tensor, path, at, .. } = &error else { panic!("{error}") };
        assert_eq!((tensor.as_str(), at.row, at.column), ("layers.1.weight", 123, 5));
        assert_eq!(path, &fixture.plan.checkpoint.shards[0].path);
        assert!(error.to_string().contains("row 123, column 5"), "{error}");
        assert_nothing_left(&fixture);
    }
}

#[test]
fn a_nan_met_by_the_first_pass_is_named() {
    let cases = [case(&[400, 32], 0, Action::Tensor), case(&[400, 32], 0, Action::Tensor)];
    let fixture = Fixture::edited(&cases, |tensor, data| {
        if tensor == 1 {
            data[(77 * 32 + 3) * 2..][..2].copy_from_slice(&NAN);
        }
    });
    let error = fail(&fixture, &fixture.output());
    let RunError::NonFinite { tensor, at, .. } = &error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), at.row, at.column), ("layers.1.weight", 77, 3));
    assert_nothing_left(&fixture);
}

#[test]
fn a_cancelled_run_leaves_nothing() {
    static CANCEL: AtomicBool = AtomicBool::new(false);
    let fixture = Fixture::new(&[case(&[4000, 64], 0, Action::Band)]);
    let stamp = Stamp { trip: Some((400, &CANCEL)), ..Stamp::new(AmaxScope::Band) };
    let fixture = fixture.with(stamp);
    for threads in [1, 4] {
        CANCEL.store(false, Ordering::Relaxed);
        let threads = NonZeroUsize::new(threads);
        let options = RunOptions { threads, max_memory: 400_000, ..RunOptions::new(&CANCEL) };
        struct Count(AtomicBool);
        impl Observer for Count {
            fn tensor_finished(&self, _: &qwen_fp8::run::TensorTime) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let finished = Count(AtomicBool::new(false));
        let error = run(&fixture.plan, &fixture.output(), &options, &finished).unwrap_err();
        assert!(matches!(error, RunError::Cancelled), "{error}");
        assert!(!finished.0.load(Ordering::Relaxed), "the run went on after it was cancelled");
        assert_nothing_left(&fixture);
    }
}

#[test]
fn a_panic_of_a_scheme_ends_the_run_and_leaves_nothing() {
    let mut fixture = Fixture::new(&[case(&[40, 64], 0, Action::Band), case(&[4000, 64], 0, Action::Tensor)]);
    let qwen_fp8::plan::Job::Quantize { rule, .. } = &mut fixture.plan.jobs[0] else { panic!() };
    *rule = 2;
    fixture.plan.recipe.rules.push(qwen_fp8::recipe::Rule {
        scheme: Some(Box::new(Panics)),
        label: String::new(),
        registration: fixture.plan.recipe.rules[0].registration,
        options: serde_json::Map::new(),
        targets: Vec::new(),
        ignore: Vec::new(),
        linear_is_every_part: false,
        optional: false,
        requantize: false,
        on_misfit: qwen_fp8::recipe::MisfitPolicy::default(),
        span: 0..0,
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &())
    }));
    assert!(caught.is_err());
    assert_nothing_left(&fixture);
}

#[derive(Debug)]
struct Panics;

impl qwen_fp8::schemes::Scheme for Panics {
    fn weights(&self) -> qwen_fp8::schemes::QuantizationArgs {
        Stamp::new(AmaxScope::Band).weights()
    }

    fn input_activations(&self) -> Option<qwen_fp8::schemes::QuantizationArgs> {
        None
    }

    fn storage_format(&self) -> &'static str {
        "none"
    }

    fn outputs(
        &self,
        source: qwen_fp8::schemes::Matrix,
    ) -> Result<Vec<qwen_fp8::schemes::TensorSpec>, qwen_fp8::schemes::ShapeError> {
        Stamp::new(AmaxScope::Band).outputs(source)
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    fn quantize(
        &self,
        _: &qwen_fp8::schemes::Band<'_>,
        _: &mut [&mut [u8]],
    ) -> Result<(), qwen_fp8::schemes::NonFinite> {
        panic!("a mistake of the scheme");
    }
}

#[test]
fn a_source_that_shrank_is_named() {
    let fixture = small();
    let path = fixture.plan.checkpoint.shards[0].path.clone();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = fail(&fixture, &fixture.output());
    assert!(
        matches!(&error, RunError::Source(SourceError::Changed { path: changed, .. }) if *changed == path),
        "{error}"
    );
    assert_nothing_left(&fixture);
}

#[test]
fn a_source_that_is_written_to_while_it_is_read_is_named() {
    struct Touch<'a>(&'a Path);
    impl Observer for Touch<'_> {
        fn tensor_finished(&self, _: &qwen_fp8::run::TensorTime) {
            let file = File::options().write(true).open(self.0).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }
    }
    let fixture = small();
    let path = &fixture.plan.checkpoint.shards[0].path;
    let error = run(&fixture.plan, &fixture.output(), &RunOptions::new(&NEVER), &Touch(path)).unwrap_err();
    assert!(
        matches!(&error, RunError::Source(SourceError::Changed { path: changed, .. }) if changed == path),
        "{error}"
    );
    assert_nothing_left(&fixture);
}

#[test]
fn a_shard_that_is_gone_is_named() {
    let fixture = small();
    let path = &fixture.plan.checkpoint.shards[0].path;
    fs::remove_file(path).unwrap();
    let error = fail(&fixture, &fixture.output());
    assert!(matches!(&error, RunError::Source(SourceError::Missing { path: missing }) if missing == path), "{error}");
    assert_nothing_left(&fixture);
}

#[test]
fn a_band_that_does_not_fit_is_named() {
    let fixture = Fixture::new(&[case(&[8, 8], 0, Action::Band), case(&[8, 100_000], 0, Action::Band)]);
    let options = RunOptions { max_memory: 100_000, ..RunOptions::new(&NEVER) };
    let error = run(&fixture.plan, &fixture.output(), &options, &()).unwrap_err();
    assert!(matches!(&error, RunError::Memory { tensor, .. } if tensor == "layers.1.weight"), "{error}");
    assert_nothing_left(&fixture);
}

#[test]
fn a_plan_that_does_not_add_up_is_refused() {
    let mut fixture = small();
    fixture.plan.shards[0].tensors[1].len += 1;
    assert!(matches!(fail(&fixture, &fixture.output()), RunError::Inconsistent { .. }));
    let mut fixture = small();
    fixture.plan.shards[0].size += 8;
    assert!(matches!(fail(&fixture, &fixture.output()), RunError::Inconsistent { .. }));
    let mut fixture = small();
    let first = fixture.plan.jobs[1].clone();
    fixture.plan.jobs.push(first);
    assert!(matches!(fail(&fixture, &fixture.output()), RunError::Inconsistent { .. }));
    assert_nothing_left(&fixture);
}

#[test]
fn an_output_larger_than_the_disk_is_refused_with_both_figures() {
    let mut fixture = small();
    let huge = 1 << 50;
    enlarge(&mut fixture, huge);
    let error = fail(&fixture, &fixture.output());
    assert!(matches!(error, RunError::NoSpace { needed, .. } if needed > huge), "{error}");
    assert_nothing_left(&fixture);
}

#[test]
fn a_file_larger_than_this_process_may_write_is_refused() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // So large that no other test of this process meets the limit.
    let limit = 1_u64 << 55;
    setrlimit(Resource::Fsize, Rlimit { current: Some(limit), ..getrlimit(Resource::Fsize) }).unwrap();
    let mut fixture = small();
    enlarge(&mut fixture, 1 << 60);
    let error = fail(&fixture, &fixture.output());
    assert!(matches!(error, RunError::FileTooLarge { limit: found, .. } if found == limit), "{error}");
    assert_nothing_left(&fixture);
}

/// Makes the last tensor of the only shard one that nobody has room for.
fn enlarge(fixture: &mut Fixture, bytes: u64) {
    fixture.plan.inputs[1].len = bytes;
    let shard = &mut fixture.plan.shards[0];
    let placed = shard.tensors.last_mut().unwrap();
    shard.size += bytes - placed.len;
    placed.len = bytes;
}

#[test]
fn a_disk_that_fills_up_names_the_file() {
    let Some(disk) = SmallDisk::mount(512 << 10) else { return };
    let mut fixture = Fixture::new(&[case(&[512, 256], 0, Action::Band), case(&[100], 0, Action::Copy)]);
    let output = disk.0.path().join("output");
    // Filled after the run has asked for the free space.
    struct Fill<'a>(&'a Path);
    impl Observer for Fill<'_> {
        fn started(&self, _: u64) {
            let mut file = File::create(self.0.join("filler")).unwrap();
            let _ = std::io::Write::write_all(&mut file, &vec![1; 1 << 20]);
        }
    }
    // Of the documents' file only: the shards' space was reserved.
    fixture.plan.documents[1].1 = vec![b' '; 64 << 10];
    let error = run(&fixture.plan, &output, &RunOptions::new(&NEVER), &Fill(disk.0.path())).unwrap_err();
    let RunError::File { path, source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(!path.to_string_lossy().ends_with(".safetensors"), "{error}");
    // The shard was finished: once there is room, the same command only adds what is missing.
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(disk.0.path()), [".output.partial", "filler"]);
    assert_eq!(names(&disk.0.path().join(".output.partial/checkpoint")), ["model-0.safetensors"]);
    fs::remove_file(disk.0.path().join("filler")).unwrap();
    let report = run(&fixture.plan, &output, &RunOptions::new(&NEVER), &()).unwrap();
    assert_eq!(report.bytes_read, 0);
    assert_eq!(names(disk.0.path()), ["output"]);
}

#[test]
fn an_output_that_is_a_mount_point_is_refused_at_once() {
    let Some(disk) = SmallDisk::mount(512 << 10) else { return };
    let fixture = small();
    assert!(matches!(fail(&fixture, disk.0.path()), RunError::MountPoint { .. }));
    run(&fixture.plan, &disk.0.path().join("output"), &RunOptions::new(&NEVER), &()).unwrap();
}

/// A file system of its own, where this user may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
