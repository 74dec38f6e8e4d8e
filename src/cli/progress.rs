//! The progress of a run or a check: a bar on a terminal, otherwise a line now and then, and in a run a line per tensor
//! with `-v`.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::{Screen, say_anyway};
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::text::{agree, count, human};
use crate::run::{LeftBehind, Observer, Phase, TensorTime};

/// The number of equal parts of the work after each of which a plain line is printed.
const PARTS: u64 = 10;

/// Shows the progress of a run or a check on stderr.
pub(super) struct ProgressReporter {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// Set where each tensor has a line of its own, which makes the plain lines idle.
    by_tensor: bool,
    total: AtomicU64,
    done: AtomicU64,
    /// The last part that a plain line has told.
    told: Mutex<u64>,
    left_behind: Mutex<Option<LeftBehind>>,
}

impl ProgressReporter {
    /// Shows a run.
    pub(super) fn of_run(screen: &Screen) -> Self {
        Self::new(screen, screen.verbose)
    }

    /// Shows a check, which has no line per tensor.
    pub(super) fn of_check(screen: &Screen) -> Self {
        Self::new(screen, false)
    }

    fn new(screen: &Screen, by_tensor: bool) -> Self {
        let bar = (!screen.quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(
                ProgressStyle::with_template("{bar:30} {percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self {
            bar,
            quiet: screen.quiet,
            by_tensor,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            told: Mutex::new(0),
            left_behind: Mutex::default(),
        }
    }

    /// The finished shards that the next run can resume with.
    pub(super) fn left_behind(&self) -> Option<LeftBehind> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn line(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say_anyway(line)),
            None => say_anyway(line),
        }
    }

    /// Begins anew with so many bytes.
    fn begin(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(bytes);
        }
    }

    /// Says what begins, and begins anew.
    fn begin_to(&self, what: &str, bytes: u64) {
        // In this order: a line draws the bar anew, which would show the end of what was before.
        self.begin(bytes);
        self.line(&format!("{what}: {}", human(bytes)));
    }

    fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            return;
        }
        let total = self.total.load(Ordering::Relaxed).max(1);
        let part = |done: u64| (u128::from(done) * u128::from(PARTS) / u128::from(total)) as u64;
        if part(before + bytes) > part(before) && !self.by_tensor {
            // Of several workers that reach a part at once, one tells how far all of them are: the lines never go back.
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let done = self.done.load(Ordering::Relaxed);
            if part(done) > *told {
                *told = part(done);
                self.line(&format!("{:>3} %  {} of {}", part(done) * 100 / PARTS, human(done), human(total)));
            }
        }
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl ProgressSink for ProgressReporter {
    fn reading(&self, what: &'static str, bytes: u64) {
        self.begin_to(what, bytes);
    }

    fn advanced(&self, bytes: u64) {
        self.add(bytes);
    }
}

impl Observer for ProgressReporter {
    fn resumed(&self, resumed: usize, shards: usize) {
        let (shards, are) = (count(shards, "shard"), agree(resumed, "is", "are"));
        self.line(&format!("resuming an interrupted run: {resumed} of {shards} {are} finished"));
    }

    fn left_behind(&self, left: &LeftBehind) {
        *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner) = Some(left.clone());
    }

    fn phase(&self, phase: Phase) {
        if phase == Phase::Publishing
            && let Some(bar) = &self.bar
        {
            bar.finish_and_clear();
        }
    }

    fn reading(&self, what: &'static str, bytes: u64) {
        self.begin_to(what, bytes);
    }

    fn started(&self, bytes: u64) {
        self.begin(bytes);
    }

    fn advanced(&self, bytes: u64) {
        self.add(bytes);
    }

    fn tensor_finished(&self, tensor: &TensorTime) {
        if self.by_tensor {
            let speed = tensor.bytes_read as f64 / tensor.seconds.max(1e-9) / 1e9;
            let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
            self.line(&format!(
                "[{}] {}  {:.2} ms  {speed:.1} GB/s",
                jiff::Zoned::now().strftime("%H:%M:%S"),
                module.escape_debug(),
                tensor.seconds * 1e3,
            ));
        }
    }
}
