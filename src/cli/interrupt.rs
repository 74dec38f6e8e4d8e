//! Signals during a run: the first one ends it soon and in order, a second one at once.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// The signals of Ctrl-C, of a job scheduler and of a terminal that closes.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The signal, if any, that has asked the run to end.
pub(super) struct Interrupt {
    /// Becomes true with the first signal.
    pub(super) cancel: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system takes no handler.
    pub(super) fn listen() -> io::Result<Self> {
        let interrupt = Self { cancel: Arc::default(), signal: Arc::default() };
        let ignored = ignored_signals();
        for signal in ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
            // Asked before the flag is set: the first signal passes, the next one ends the process.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupt.cancel))?;
            flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
            flag::register(signal, Arc::clone(&interrupt.cancel))?;
        }
        // With a handler, a write past `ulimit -f` is an error that names the file instead of the end of the process.
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(interrupt)
    }

    /// The exit code that a shell reports of a process that the signal has ended.
    pub(super) fn exit_code(&self) -> u8 {
        match self.signal.load(Ordering::Relaxed) {
            0 => 130,
            signal => 128 + signal as u8,
        }
    }
}

/// A bit for each signal that the parent process wants ignored, as `nohup` does; no bits where the system does not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
