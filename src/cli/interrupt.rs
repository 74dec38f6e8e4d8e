//! Signals. A run ends soon and in order with the first one, and at once with a second one. A check ends at once, and
//! leaves the terminal or the program that reads it in order.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

use super::error::CommandError;
use super::events::Event;
use super::failure::FailureOutput;
use super::screen::Screen;

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
        for signal in heard_signals() {
            interrupt.register(signal)?;
        }
        // With a handler, a write past `ulimit -f` is an error that names the file instead of the end of the process.
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(interrupt)
    }

    fn register(&self, signal: i32) -> io::Result<()> {
        flag::register_usize(signal, Arc::clone(&self.signal), signal as usize)?;
        // Asked before the flag is set: the first signal passes, the next one ends the process.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.cancel))?;
        flag::register(signal, Arc::clone(&self.cancel))?;
        // From the first of these on, the system leaves the signal to us: one that came since then counts.
        if self.signal.load(Ordering::Relaxed) != 0 {
            self.cancel.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The exit code that a shell reports of a process that the signal has ended.
    pub(super) fn exit_code(&self) -> u8 {
        match self.signal.load(Ordering::Relaxed) {
            0 => 130,
            signal => 128 + signal as u8,
        }
    }
}

/// Lets the first signal end a command that writes no files: a program that reads its JSON gets the failure, one that
/// reads its events the last of them, and a bar
/// goes from the terminal. Where there is neither, the system ends the command, as it does with a second signal.
///
/// # Errors
/// The system takes no handler, or has no thread to spare.
pub(super) fn end_in_order(screen: &Arc<Screen>) -> io::Result<()> {
    if !screen.answers_in_json() && !io::stderr().is_terminal() && screen.events().is_none() {
        return Ok(());
    }
    let interrupt = Interrupt { cancel: Arc::default(), signal: Arc::default() };
    let (mut heard, sent) = UnixStream::pair()?;
    for signal in heard_signals() {
        interrupt.register(signal)?;
        // After the number of the signal, which is read when a byte arrives.
        low_level::pipe::register(signal, sent.try_clone()?)?;
    }
    let screen = Arc::clone(screen);
    // A handler may not lock anything; a thread may.
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        // A signal that came before there was a pipe has left no byte.
        if interrupt.cancel.load(Ordering::Relaxed) || heard.read_exact(&mut [0]).is_ok() {
            end(&screen, &interrupt);
        }
    })?;
    Ok(())
}

fn end(screen: &Screen, interrupt: &Interrupt) {
    let code = interrupt.exit_code();
    let failure = CommandError::Interrupted("a signal ended the command before it had a result".to_owned(), code);
    let output = FailureOutput::new(&failure, screen.take_diagnostics());
    screen.last_answer_as_json(&output);
    screen.event(&Event::Ended { exit_code: code, error: output.message(&failure) });
    screen.clear();
    if screen.answers_in_json() {
        // The code that the answer names.
        process::exit(code.into());
    }
    // A shell wants to see which signal it was.
    let _ = low_level::emulate_default_handler(i32::from(code) - 128);
}

/// The signals that end a command, but for those that the parent process wants ignored.
fn heard_signals() -> impl Iterator<Item = i32> {
    let ignored = ignored_signals();
    ENDING.into_iter().filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}

/// A bit for each signal that the parent process wants ignored, as `nohup` does; no bits where the system does not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
