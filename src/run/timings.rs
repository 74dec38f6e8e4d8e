//! Times of a run, for `--timings` and the JSON report.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use schemars::JsonSchema;
use serde::Serialize;

/// Number of slowest tensors that a report names.
const SLOWEST: usize = 10;

/// Shares of the workers' time; together they are 1.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Shares {
    pub read: f64,
    pub compute: f64,
    pub write: f64,
    /// Waiting for another worker that writes to the same file.
    pub queue: f64,
    /// Waiting for another worker, or at the end for the disk to confirm what was written.
    pub wait: f64,
}

/// The stage that bounded a run: the one that a faster machine would have to speed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Reading,
    Computing,
    Writing,
    /// The system let one worker at a time write to a file.
    Queueing,
    /// The disk confirmed (`fsync`) more slowly than the workers wrote.
    Syncing,
}

/// Time of one source tensor, from the first byte read to the last byte written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TensorTime {
    pub name: String,
    pub seconds: f64,
    pub bytes_read: u64,
}

/// Times of one worker, by stage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stages {
    pub(super) read: Duration,
    pub(super) compute: Duration,
    pub(super) write: Duration,
    /// Waiting for another worker to end its write to the same file.
    pub(super) queue: Duration,
    /// Waiting for another worker's part of a first pass.
    pub(super) wait: Duration,
    pub(super) bytes_read: u64,
}

impl Stages {
    pub(super) fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.compute += other.compute;
        self.write += other.write;
        self.queue += other.queue;
        self.wait += other.wait;
        self.bytes_read += other.bytes_read;
    }

    /// Returns the shares of the time of all `workers`, from the first task to the last sync, which took `span`.
    pub(super) fn shares(&self, workers: usize, span: Duration) -> Shares {
        let whole = (span * workers as u32).as_secs_f64().max(f64::MIN_POSITIVE);
        let share = |part: Duration| (part.as_secs_f64() / whole).min(1.0);
        let [read, compute, write, queue] = [self.read, self.compute, self.write, self.queue].map(share);
        Shares { read, compute, write, queue, wait: (1.0 - read - compute - write - queue).max(0.0) }
    }
}

impl Shares {
    /// Returns the stage that took the largest share.
    pub(super) fn bound(&self) -> Bound {
        let parts = [
            (self.read, Bound::Reading),
            (self.compute, Bound::Computing),
            (self.write, Bound::Writing),
            (self.queue, Bound::Queueing),
            (self.wait, Bound::Syncing),
        ];
        parts.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(Bound::Computing, |(_, bound)| bound)
    }
}

/// The slowest tensors so far.
#[derive(Debug, Default)]
pub(super) struct Slowest(Vec<TensorTime>);

impl Slowest {
    /// Adds a tensor if it is among the slowest.
    pub(super) fn add(&mut self, time: TensorTime) {
        let place = self.0.partition_point(|slower| slower.seconds >= time.seconds);
        if place < SLOWEST {
            self.0.insert(place, time);
            self.0.truncate(SLOWEST);
        }
    }

    pub(super) fn into_inner(self) -> Vec<TensorTime> {
        self.0
    }
}

/// Adds the time that `work` takes to `total`.
pub(super) fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *total += start.elapsed();
    result
}

/// Returns the user and system time of the process so far, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the largest resident size of the process so far in bytes, from `VmHWM`.
pub(super) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
