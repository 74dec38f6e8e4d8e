//! The progress of a run or a check: a bar on a terminal, otherwise a line every few seconds, in a run a line per tensor
//! with `-v`, and events for programs.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::events::{Event, EventLog, PhaseName};
use super::pace::{Pace, layer_of, time};
use super::screen::{Screen, say_anyway};
use super::wrap::width_of_stderr;
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::text::{agree, count, human};
use crate::run::{LeftBehind, Observer, Phase, TensorTime};

/// The time between two plain lines. Work that takes less than this has none.
const PACE: Duration = Duration::from_secs(5);

/// What the bar shows, by the least number of columns that it takes.
const TEMPLATES: [(usize, &str); 4] = [
    (80, "{bar:10} {percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {left}  {wide_msg}"),
    (60, "{percent:>3} %  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {left}  {wide_msg}"),
    (40, "{wide_bar} {percent:>3} %  {decimal_bytes_per_sec}  {left}"),
    (0, "{wide_bar} {percent:>3} %  {left}"),
];

/// Shows the progress of a run or a check on stderr.
pub(super) struct ProgressReporter {
    bar: Option<ProgressBar>,
    /// Set where people are told nothing.
    silent: bool,
    verbose: bool,
    /// Set where each tensor has a line of its own, which makes the plain lines idle.
    by_tensor: bool,
    events: Option<Arc<EventLog>>,
    total: AtomicU64,
    done: AtomicU64,
    told: Mutex<Told>,
    /// The tensor or file that the work came to last; empty where it does not say.
    at: Mutex<String>,
    left_behind: Mutex<Option<LeftBehind>>,
}

/// What plain lines have told of the work under way.
struct Told {
    /// The time of the last line, or of the beginning.
    at: Instant,
    /// The beginning of the work.
    began: Instant,
    /// The line that says what the work is, until it is told.
    what: Option<String>,
}

impl Told {
    fn nothing_of(what: Option<String>) -> Self {
        let now = Instant::now();
        Self { at: now, began: now, what }
    }
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
        let events = screen.events();
        // Lines for people between those for a program would be in the way of both.
        let silent = screen.quiet || events.as_ref().is_some_and(|events| events.is_on_stderr());
        let bar = (!silent && io::stderr().is_terminal()).then(bar);
        if let Some(bar) = &bar {
            screen.clear_at_the_end(bar);
        }
        Self {
            bar,
            silent,
            verbose: screen.verbose,
            by_tensor,
            events,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            told: Mutex::new(Told::nothing_of(None)),
            at: Mutex::default(),
            left_behind: Mutex::default(),
        }
    }

    /// The finished shards that the next run can resume with.
    pub(super) fn left_behind(&self) -> Option<LeftBehind> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn line(&self, line: &str) {
        match &self.bar {
            _ if self.silent => {}
            Some(bar) => bar.suspend(|| say_anyway(line)),
            None => say_anyway(line),
        }
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(events) = &self.events {
            events.write(event);
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self) -> MutexGuard<'_, String> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew with so many bytes of work; people are told `what` it is where they do not know.
    fn begin(&self, what: &str, is_known: bool, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.at().clear();
        self.event(&Event::Work { what, total_bytes: bytes });
        let what = (!is_known).then(|| format!("{what}: {}", human(bytes)));
        let at_once = self.bar.is_some() || self.verbose;
        let (now, later) = if at_once { (what, None) } else { (None, what) };
        *self.told() = Told::nothing_of(later);
        if let Some(bar) = &self.bar {
            // A finished bar is not drawn, whatever its figures.
            bar.finish_and_clear();
            // The terminal may be another size by now.
            bar.set_style(style());
            bar.set_message("");
            bar.set_length(bytes);
        }
        if let Some(what) = now {
            self.line(&what);
        }
        if let Some(bar) = self.bar.as_ref().filter(|_| bytes > 0) {
            bar.reset();
        }
    }

    /// Remembers the tensor or file that the work comes to.
    fn come_to(&self, name: &str) {
        if self.bar.is_none() && self.silent && self.events.is_none() {
            return;
        }
        name.clone_into(&mut self.at());
        if let Some(bar) = &self.bar {
            bar.set_message(layer_of(name));
        }
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(events) = &self.events {
            self.tell_program(events);
        }
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None if self.by_tensor || self.silent => {}
            None => self.tell(),
        }
    }

    fn pace(&self, began: Instant) -> Pace {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        Pace { done, total, elapsed: began.elapsed() }
    }

    /// Writes the event that says how far all workers are, if that is due.
    fn tell_program(&self, events: &EventLog) {
        let began = self.told().began;
        events.progress(|| self.pace(began), self.total.load(Ordering::Relaxed), &self.at);
    }

    /// Prints how far all workers are, if that is due.
    fn tell(&self) {
        // Of several workers one tells: the lines never go back.
        let Ok(mut told) = self.told.try_lock() else { return };
        let pace = self.pace(told.began);
        if told.at.elapsed() < PACE || pace.done >= pace.total {
            return;
        }
        if let Some(what) = told.what.take() {
            self.line(&what);
        }
        let at = layer_of(&self.at());
        self.line(&pace.line(&at));
        told.at = Instant::now();
    }
}

/// A bar that is not shown before it is reset.
fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style());
    bar.finish_and_clear();
    bar
}

/// The form of the bar for the width of the terminal.
fn style() -> ProgressStyle {
    let width = width_of_stderr().unwrap_or(usize::MAX);
    let template = TEMPLATES.iter().find(|(least, _)| width >= *least).map_or("{percent} %", |(_, template)| template);
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("left", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // Before the first bytes are done nobody knows, and a guess of nothing would be taken for one.
        let _ = match state.pos() {
            0 => out.write_str("… left"),
            _ => write!(out, "{} left", time(state.eta())),
        };
    })
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
        self.begin(what, false, bytes);
    }

    fn at(&self, name: &str) {
        self.come_to(name);
    }

    fn advanced(&self, bytes: u64) {
        self.add(bytes);
    }
}

impl Observer for ProgressReporter {
    fn resumed(&self, resumed: usize, shards: usize) {
        self.event(&Event::Resumed { resumed: resumed as u64, shards: shards as u64 });
        let (shards, are) = (count(shards, "shard"), agree(resumed, "is", "are"));
        self.line(&format!("resuming an interrupted run: {resumed} of {shards} {are} finished"));
    }

    fn left_behind(&self, left: &LeftBehind) {
        *self.left_behind.lock().unwrap_or_else(PoisonError::into_inner) = Some(left.clone());
    }

    fn phase(&self, phase: Phase) {
        self.event(&Event::Phase {
            phase: match phase {
                Phase::Preparing => PhaseName::Preparing,
                Phase::Converting => PhaseName::Converting,
                Phase::Publishing => PhaseName::Publishing,
            },
        });
        if phase == Phase::Publishing
            && let Some(bar) = &self.bar
        {
            bar.finish_and_clear();
        }
    }

    fn reading(&self, what: &'static str, bytes: u64) {
        self.begin(what, false, bytes);
    }

    fn started(&self, bytes: u64) {
        self.begin("converting", true, bytes);
    }

    fn advanced(&self, bytes: u64) {
        self.add(bytes);
    }

    fn tensor_begun(&self, name: &str) {
        self.come_to(name);
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

    fn shard_finished(&self, file_name: &str) {
        self.event(&Event::Shard { file: file_name });
    }
}
