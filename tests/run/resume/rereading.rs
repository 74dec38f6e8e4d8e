//! Bytes that are read once more: finished shards of an earlier run, and files for SHA-256. They are reported, and each
//! piece asks whether to go on.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use qwen_fp8::run::{LeftBehind, Observer, RunError, RunOptions, Sha256Of, run};

use super::{assert_complete, cases, finish, identities, staged, staging, stopped};
use crate::support::fixture::{Fixture, files};

/// Writes down what is read again, and cancels the run at the first report of it where it is to.
#[derive(Default)]
struct Reread {
    cancel: AtomicBool,
    stops: bool,
    announced: Mutex<Vec<(&'static str, u64)>>,
    advanced: Mutex<Vec<u64>>,
    left: Mutex<Option<LeftBehind>>,
}

impl Observer for Reread {
    fn reading(&self, what: &'static str, bytes: u64) {
        self.announced.lock().unwrap().push((what, bytes));
    }

    fn started(&self, _: u64) {
        // What follows is the conversion's.
        self.announced.lock().unwrap().push(("converting", self.advanced.lock().unwrap().iter().sum()));
    }

    fn advanced(&self, bytes: u64) {
        self.advanced.lock().unwrap().push(bytes);
        if self.stops {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn left_behind(&self, left: &LeftBehind) {
        *self.left.lock().unwrap() = Some(left.clone());
    }
}

#[test]
fn a_resumed_run_says_what_it_reads_again_and_reports_its_own_figures() {
    let fixture = stopped(3);
    let finished: u64 = files(&staged(&fixture)).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let reread = Reread::default();
    let report = run(&fixture.plan, &fixture.output(), &RunOptions::new(&reread.cancel), &reread).unwrap();
    // All of it had been reported when the conversion began.
    let announced = [("checking the finished shards", finished), ("converting", finished)];
    assert_eq!(*reread.announced.lock().unwrap(), announced);
    let output: u64 =
        fs::read_dir(fixture.output()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!((report.output_bytes, report.bytes_written), (output, output - finished));
    assert_eq!((report.shards_resumed, report.shards), (3, 5));
    let inputs: u64 = fixture.plan.inputs.iter().map(|input| input.len).sum();
    assert!(report.bytes_read < inputs);
    assert_complete(&fixture);

    let whole = Fixture::new(&cases());
    let report = run(&whole.plan, &whole.output(), &RunOptions::new(&reread.cancel), &()).unwrap();
    assert_eq!((report.output_bytes, report.bytes_written, report.shards_resumed), (output, output, 0));
}

#[test]
fn a_run_that_is_cancelled_while_it_reads_again_stops_at_once_and_loses_nothing() {
    let fixture = stopped(3);
    let before = identities(&staged(&fixture));
    let reread = Reread { stops: true, ..Reread::default() };
    let options = RunOptions { threads: NonZeroUsize::new(1), ..RunOptions::new(&reread.cancel) };
    let error = run(&fixture.plan, &fixture.output(), &options, &reread).unwrap_err();
    assert!(matches!(error, RunError::Cancelled), "{error}");
    // One piece of the first shard, and none of the next.
    assert_eq!(reread.advanced.lock().unwrap().len(), 1);
    assert_eq!(*reread.left.lock().unwrap(), Some(LeftBehind { staging: staging(&fixture), shards: 3 }));
    assert_eq!(identities(&staged(&fixture)), before);
    let again = finish(&fixture);
    assert_eq!(again.resumed.into_inner().unwrap(), Some((3, 5)));
}

#[test]
fn sha256_is_reported_and_stops_at_once() {
    let fixture = Fixture::new(&cases());
    let sha256 = Sha256Of { output: true, source: true };
    let reread = Reread::default();
    let options = RunOptions { sha256, ..RunOptions::new(&reread.cancel) };
    run(&fixture.plan, &fixture.output(), &options, &reread).unwrap();
    let announced = reread.announced.lock().unwrap().clone();
    let (what, bytes) = announced[1];
    let converted: u64 = fixture.plan.inputs.iter().map(|input| input.len).sum();
    let reported: u64 = reread.advanced.lock().unwrap().iter().sum();
    assert_eq!(what, "computing SHA-256");
    assert!(bytes > 0 && reported >= converted + bytes, "{reported} of {converted} and {bytes}");

    // Cancelled at the first piece, no other one is read.
    struct AtDigest<'a>(&'a Reread, AtomicUsize);
    impl Observer for AtDigest<'_> {
        fn reading(&self, _: &'static str, _: u64) {
            self.1.store(1, Ordering::Relaxed);
        }
        fn advanced(&self, _: u64) {
            if self.1.load(Ordering::Relaxed) > 0 {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.cancel.store(true, Ordering::Relaxed);
            }
        }
    }
    let fixture = Fixture::new(&cases());
    let reread = Reread::default();
    let at = AtDigest(&reread, AtomicUsize::new(0));
    let options = RunOptions { sha256, threads: NonZeroUsize::new(1), ..RunOptions::new(&reread.cancel) };
    let error = run(&fixture.plan, &fixture.output(), &options, &at).unwrap_err();
    assert!(matches!(error, RunError::Cancelled), "{error}");
    assert_eq!(at.1.into_inner(), 2);
}
