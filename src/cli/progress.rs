//! The progress of a run or a check: a bar on a terminal, otherwise a line every few seconds, and in a run a line per
//! tensor with `-v`.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::{Screen, say_anyway};
use super::wrap::width_of_stderr;
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::text::{agree, count, human};
use crate::run::{LeftBehind, Observer, Phase, TensorTime};

/// The time between two plain lines. Work that takes less than this has none.
const PACE: Duration = Duration::from_secs(5);
/// The columns that the whole bar takes.
const WIDE: usize = 80;

/// Shows the progress of a run or a check on stderr.
pub(super) struct ProgressReporter {
    bar: Option<ProgressBar>,
    quiet: bool,
    verbose: bool,
    /// Set where each tensor has a line of its own, which makes the plain lines idle.
    by_tensor: bool,
    total: AtomicU64,
    done: AtomicU64,
    told: Mutex<Told>,
    left_behind: Mutex<Option<LeftBehind>>,
}

/// What plain lines have told of the work under way.
struct Told {
    /// The time of the last line, or of the beginning.
    at: Instant,
    /// The line that says what the work is, until it is told.
    what: Option<String>,
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
        let bar = (!screen.quiet && io::stderr().is_terminal()).then(bar);
        if let Some(bar) = &bar {
            screen.clear_at_the_end(bar);
        }
        Self {
            bar,
            quiet: screen.quiet,
            verbose: screen.verbose,
            by_tensor,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            told: Mutex::new(Told { at: Instant::now(), what: None }),
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

    /// Begins anew with so many bytes of work, of which `what` says what it is.
    fn begin(&self, what: Option<&str>, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        let what = what.map(|what| format!("{what}: {}", human(bytes)));
        let at_once = self.bar.is_some() || self.verbose;
        let (now, later) = if at_once { (what, None) } else { (None, what) };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Told { at: Instant::now(), what: later };
        if let Some(bar) = &self.bar {
            // A finished bar is not drawn, whatever its figures.
            bar.finish_and_clear();
            bar.set_length(bytes);
        }
        if let Some(what) = now {
            self.line(&what);
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| bytes > 0) {
            bar.reset();
        }
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None if self.by_tensor || self.quiet => {}
            None => self.tell(),
        }
    }

    /// Prints how far all workers are, if that is due.
    fn tell(&self) {
        // Of several workers one tells: the lines never go back.
        let Ok(mut told) = self.told.try_lock() else { return };
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed).max(1));
        if told.at.elapsed() < PACE || done >= total {
            return;
        }
        if let Some(what) = told.what.take() {
            self.line(&what);
        }
        let percent = u128::from(done) * 100 / u128::from(total);
        self.line(&format!("{percent:>3} %  {} of {}", human(done), human(total)));
        told.at = Instant::now();
    }
}

/// A bar that is not shown before it is reset.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let template = if width_of_stderr().is_none_or(|width| width >= WIDE) {
        "{bar:30} {percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left"
    } else {
        "{wide_bar} {percent:>3} %  {eta} left"
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.finish_and_clear();
    bar
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
        self.begin(Some(what), bytes);
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
        self.begin(Some(what), bytes);
    }

    fn started(&self, bytes: u64) {
        self.begin(None, bytes);
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
