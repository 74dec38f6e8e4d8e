//! Other programs, asked for what they know: bounded in time and in what they may say.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes that are read of what a program says.
const MOST: u64 = 64 << 10;

/// The answer of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramAnswer {
    /// It ended well, and said this.
    Said(String),
    /// It ended with a failure, and said this.
    Failed(String),
    /// It could not be started.
    NotStarted(String),
    /// It had not ended when the time was up, and was stopped.
    TooLate,
}

/// Runs a program that reads nothing, for no longer than `limit`.
pub fn ask(program: &Path, arguments: &[&str], limit: Duration) -> ProgramAnswer {
    let deadline = Instant::now() + limit;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return ProgramAnswer::NotStarted(error.to_string()),
    };
    let (send, said) = mpsc::channel();
    let reader = child.stdout.take().map(|stdout| {
        // Not joined: a grandchild may hold the pipe open for as long as it likes.
        thread::Builder::new().name("answer".to_owned()).spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.take(MOST).read_to_end(&mut bytes);
            let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
        })
    });
    let left = || deadline.saturating_duration_since(Instant::now());
    let text = match reader {
        Some(Ok(_)) => said.recv_timeout(left()).ok(),
        _ => None,
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if text.is_some() && !left().is_zero() => thread::sleep(Duration::from_millis(5)),
            _ => break None,
        }
    };
    match (status, text) {
        (Some(status), Some(text)) if status.success() => ProgramAnswer::Said(text),
        (Some(_), Some(text)) => ProgramAnswer::Failed(text),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            ProgramAnswer::TooLate
        }
    }
}

/// Returns the first executable file of this name in the folders.
//
// A relative folder of `PATH` is wherever the command happens to be given, such as in a checkpoint of a stranger's.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|program| {
        program.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}
