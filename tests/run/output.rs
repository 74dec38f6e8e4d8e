//! The bytes of a run's output.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use qwen_fp8::run::{Observer, Phase, RunOptions, TensorTime, run};

use crate::support::fixture::{Action, Case, Fixture, case, files, side_file};

fn options<'a>(threads: usize, max_memory: u64, direct: bool, cancel: &'a AtomicBool) -> RunOptions<'a> {
    RunOptions { threads: NonZeroUsize::new(threads), max_memory, direct, ..RunOptions::new(cancel) }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Copy), Just(Action::Band), Just(Action::Tensor)]
}

fn any_case() -> impl Strategy<Value = Case> {
    let shape = prop_oneof![
        4 => (0_usize..40, 0_usize..300).prop_map(|(rows, columns)| vec![rows, columns]),
        1 => (0_usize..4, 1_usize..9, 1_usize..100).prop_map(|(stack, rows, columns)| vec![stack, rows, columns]),
        1 => (0_usize..9000).prop_map(|columns| vec![columns]),
        1 => Just(vec![]),
    ];
    (shape, 0_usize..3, 0_usize..3, action()).prop_map(|(shape, from_shard, to_shard, action)| {
        let action = if shape.len() < 2 { Action::Copy } else { action };
        Case { shape, from_shard, to_shard, action }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_is_written_where_the_plan_says(
        cases in proptest::collection::vec(any_case(), 0..12),
        threads in 1_usize..9,
        max_memory in 60_000_u64..300_000,
        direct: bool,
        cold: bool,
    ) {
        let fixture = Fixture::new(&cases);
        if cold {
            fixture.evict();
        }
        let cancel = AtomicBool::new(false);
        run(&fixture.plan, &fixture.output(), &options(threads, max_memory, direct, &cancel), &()).unwrap();
        prop_assert_eq!(files(&fixture.output()), fixture.expected.clone());
        prop_assert_eq!(fixture.left_over(), Vec::<String>::new());
    }
}

/// Large enough for several bands per tensor and for direct writes, at offsets that are not aligned.
fn large() -> Vec<Case> {
    vec![
        case(&[7], 0, Action::Copy),
        case(&[1030, 1024], 0, Action::Band),
        case(&[1000, 1023], 0, Action::Copy),
        case(&[3], 0, Action::Copy),
        case(&[900, 1024], 1, Action::Tensor),
        case(&[1 << 20], 1, Action::Copy),
        case(&[1030, 1024], 1, Action::Band),
        case(&[2, 300, 2048], 2, Action::Tensor),
    ]
}

#[test]
fn workers_and_memory_change_no_byte() {
    let fixture = Fixture::new(&large());
    let cancel = AtomicBool::new(false);
    for threads in [1, 2, 8] {
        for max_memory in [80_000 * threads as u64, 16 << 20] {
            for (direct, cold) in [(false, false), (true, false), (true, true)] {
                if cold {
                    fixture.evict();
                }
                run(&fixture.plan, &fixture.output(), &options(threads, max_memory, direct, &cancel), &()).unwrap();
                let written = files(&fixture.output());
                assert!(
                    written == fixture.expected,
                    "{threads} threads, {max_memory} bytes, direct {direct}, cold {cold}"
                );
                std::fs::remove_dir_all(fixture.output()).unwrap();
            }
        }
    }
}

#[test]
fn weights_without_elements_have_their_outputs_written() {
    for action in [Action::Copy, Action::Band, Action::Tensor] {
        let fixture = Fixture::new(&[case(&[5, 0], 0, action), case(&[0, 5], 1, action), case(&[0, 0], 1, action)]);
        run(&fixture.plan, &fixture.output(), &RunOptions::new(&AtomicBool::new(false)), &()).unwrap();
        assert_eq!(files(&fixture.output()), fixture.expected, "{action:?}");
    }
}

#[test]
fn an_empty_directory_in_the_place_of_the_output_is_replaced() {
    let fixture = Fixture::new(&[case(&[8, 8], 0, Action::Band)]);
    std::fs::create_dir(fixture.output()).unwrap();
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&AtomicBool::new(false)), &()).unwrap();
    assert_eq!(files(&fixture.output()), fixture.expected);
}

#[test]
fn the_staging_of_a_crashed_run_is_replaced() {
    let fixture = Fixture::new(&[case(&[8, 8], 0, Action::Band)]);
    let partial = fixture.root.path().join(".output.partial");
    std::fs::create_dir_all(partial.join("checkpoint")).unwrap();
    std::fs::write(partial.join("qwen-fp8-journal"), b"").unwrap();
    std::fs::write(partial.join("checkpoint/model-0.safetensors"), b"half").unwrap();
    std::fs::write(fixture.root.path().join(".output.lock"), b"").unwrap();
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&AtomicBool::new(false)), &()).unwrap();
    assert_eq!(files(&fixture.output()), fixture.expected);
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

#[test]
fn a_copy_is_not_wider_than_its_source() {
    let mut fixture = Fixture::new(&[case(&[8, 8], 0, Action::Band)]);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let tokenizer = fixture.plan.checkpoint.side_files[0].path.clone();
    std::fs::set_permissions(&tokenizer, std::fs::Permissions::from_mode(0o740)).unwrap();
    fixture.plan.checkpoint.side_files = vec![side_file(&tokenizer)];
    run(&fixture.plan, &fixture.output(), &RunOptions::new(&AtomicBool::new(false)), &()).unwrap();
    assert_eq!(mode(&fixture.output().join("tokenizer.json")) & !0o640, 0);
    assert_eq!(mode(&fixture.output().join("model-0.safetensors")) & 0o111, 0);
}

#[derive(Default)]
struct Log {
    phases: Mutex<Vec<Phase>>,
    total: AtomicU64,
    advanced: AtomicU64,
    finished: Mutex<Vec<String>>,
}

impl Observer for Log {
    fn phase(&self, phase: Phase) {
        self.phases.lock().unwrap().push(phase);
    }

    fn started(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    fn advanced(&self, bytes: u64) {
        self.advanced.fetch_add(bytes, Ordering::Relaxed);
    }

    fn tensor_finished(&self, tensor: &TensorTime) {
        self.finished.lock().unwrap().push(tensor.name.clone());
    }
}

#[test]
fn the_observer_and_the_report_account_for_everything() {
    let mut cases = large();
    cases.push(case(&[0, 64], 1, Action::Band));
    cases.push(case(&[0], 2, Action::Copy));
    let fixture = Fixture::new(&cases);
    let log = Log::default();
    let report = run(&fixture.plan, &fixture.output(), &RunOptions::new(&AtomicBool::new(false)), &log).unwrap();

    assert_eq!(*log.phases.lock().unwrap(), [Phase::Preparing, Phase::Converting, Phase::Publishing]);
    let tensors = &fixture.plan.inputs;
    let finished = log.finished.into_inner().unwrap();
    assert_eq!(finished.len(), tensors.len());
    let finished: BTreeSet<_> = finished.into_iter().collect();
    assert_eq!(finished, tensors.iter().map(|tensor| tensor.name.clone()).collect());

    let source: u64 = tensors.iter().map(|tensor| tensor.len).sum();
    let twice: u64 = (900 * 1024 + 2 * 300 * 2048) * 2;
    assert_eq!(log.total.load(Ordering::Relaxed), source + twice);
    assert_eq!(log.advanced.load(Ordering::Relaxed), source + twice);
    assert_eq!(report.bytes_read, source + twice);
    let manifest = std::fs::metadata(fixture.output().join("qwen-fp8-manifest.json")).unwrap().len();
    let bytes: u64 = fixture.expected.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(report.bytes_written, bytes + manifest);
    assert_eq!((report.tensors_copied, report.tensors_quantized), (5, 5));
    assert_eq!(report.slowest.len(), 10);
    assert!(report.slowest.is_sorted_by(|a, b| a.seconds >= b.seconds));
    let shares = report.shares;
    assert!((shares.read + shares.compute + shares.write + shares.queue + shares.wait - 1.0).abs() < 1e-9);
}
