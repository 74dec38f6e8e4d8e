//! What is shown while a run goes: a bar on a terminal, a line now and then otherwise, a line per tensor with `-v`.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::screen::{Screen, say_anyway};
use crate::checkpoint::text::human;
use crate::run::{LeftBehind, Observer, Phase, TensorTime};

/// A plain line is printed after each of so many equal parts of a run.
const PARTS: u64 = 10;

/// Shows a run on stderr.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    verbose: bool,
    total: AtomicU64,
    done: AtomicU64,
    left_behind: Mutex<Option<LeftBehind>>,
}

impl Progress {
    pub(super) fn new(screen: &Screen) -> Self {
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
            verbose: screen.verbose,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            left_behind: Mutex::default(),
        }
    }

    /// What the next run can go on from.
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
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Progress {
    fn resumed(&self, resumed: usize, shards: usize) {
        self.line(&format!("resuming an interrupted run: {resumed} of {shards} shards are finished"));
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

    fn started(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(bytes);
        }
    }

    fn advanced(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
            return;
        }
        let total = self.total.load(Ordering::Relaxed).max(1);
        let part = |done: u64| (u128::from(done) * u128::from(PARTS) / u128::from(total)) as u64;
        let (was, is) = (part(before), part(before + bytes));
        if is > was && !self.verbose {
            self.line(&format!("{:>3} %  {} of {}", is * 100 / PARTS, human(before + bytes), human(total)));
        }
    }

    fn tensor_finished(&self, tensor: &TensorTime) {
        if self.verbose {
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
