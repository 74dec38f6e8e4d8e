//! The report pages: what they say, that nothing of a checkpoint becomes markup, how large they are, where they may be written.
//!
//! The pages that these tests make lie in [`pages`] afterwards, where `browser.py` looks at them.

mod file;
mod markup;
mod page;
mod run;
mod size;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program::program;

/// The folder of the pages that a browser looks at.
fn pages() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs `verify` with these arguments after the output, in a directory where it finds no source by itself.
fn verify(output: &Path, more: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.arg("verify").arg(output).args(more).current_dir(nowhere.path()).env("HF_HUB_CACHE", nowhere.path());
    command.env("HF_HUB_OFFLINE", "1");
    command.output().unwrap()
}

/// The page of `verify`, written under this name for the browser, and the exit code.
fn page_of(name: &str, output: &Path, more: &[&str]) -> (String, Option<i32>) {
    let path = pages().join(name);
    let done = verify(output, &[&["--report", path.to_str().unwrap()], more].concat());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("wrote the report"), "{said}");
    (fs::read_to_string(&path).unwrap(), done.status.code())
}
