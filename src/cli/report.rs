//! `--report`: gathers what a page tells, and writes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::error::CommandError;
use super::machine;
use super::next_steps;
use super::screen::Screen;
use crate::check::{self, Verification};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::hub::model_of;
use crate::checkpoint::manifest::{Manifest, Mismatch};
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::text::{human, shown_path};
use crate::plan::not_serving;
use crate::plan::summary::Summary;
use crate::report::{DRAWN, MARKER, MARKER_WITHIN, Report};
use crate::run::RunReport;
use crate::schemes::{Registration, find};

/// A place where a page can be written.
#[derive(Debug)]
pub(super) struct ReportFile {
    path: PathBuf,
}

/// The outcome that a page is about.
pub(super) struct Proven<'a> {
    pub(super) verification: &'a Verification,
    /// The name that the result has, or was to get.
    pub(super) output: &'a Path,
    pub(super) seconds: f64,
    pub(super) checksums: Option<&'a [Mismatch]>,
    /// The plan and the numbers of the run, where the result was made just now.
    pub(super) run: Option<(&'a Summary, &'a RunReport)>,
    /// Servers that are known not to load the result, each with the reason.
    pub(super) unserved: &'a BTreeMap<String, String>,
}

impl ReportFile {
    /// Looks whether a page can be written there: before the work, which may take an hour.
    ///
    /// # Errors
    /// It is in one of the checkpoints, in no directory, or would replace something that is not such a page.
    pub(super) fn new(path: &Path, checkpoints: &[&Path]) -> Result<Self, CommandError> {
        let shown = shown_path(path);
        let usage = |message: String, help: &str| Err(CommandError::Usage(message).with_help(&[help.to_owned()]));
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let Some(name) = path.file_name() else {
            return usage(format!("{shown} names no file for the report"), "name a file, such as report.html");
        };
        let Ok(folder) = folder.canonicalize() else {
            return usage(
                format!("the directory of the report {shown} does not exist"),
                "make the directory first, or name a file in another one",
            );
        };
        if checkpoints.iter().any(|dir| dir.canonicalize().is_ok_and(|dir| folder.starts_with(dir))) {
            return usage(
                format!("the report {shown} would be a file of the checkpoint, which its source does not have"),
                "name a file beside the checkpoint",
            );
        }
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(metadata) if metadata.is_file() && is_report(&path) => {}
            _ => {
                return usage(
                    format!("{shown} is there already and is no report, so that none is written over it"),
                    "name another file, or remove this one",
                );
            }
        }
        Ok(Self { path })
    }

    /// Writes the page in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, proven: &Proven<'_>, progress: &dyn ProgressSink) -> Result<u64, CommandError> {
        let verification = proven.verification;
        let distributions = check::distributions(verification, DRAWN, progress)?;
        let output = Checkpoint::open_at(&verification.output).ok();
        let source = verification.source.as_ref().and_then(|source| Checkpoint::open_at(source).ok());
        let source = match verification.source_layers {
            Some(layers) => source.and_then(|source| source.first_layers(layers).ok()),
            None => source,
        };
        let manifest = Manifest::read_at(&verification.output).ok();
        let machine = machine::this();
        let (serve, not_served) = servers(manifest.as_ref(), proven.unserved, proven.output);
        let commit = env!("QWEN_FP8_COMMIT");
        let commit = if commit == "unknown" { String::new() } else { format!(" ({commit})") };
        let report = Report {
            name: model_of(proven.output).name,
            program: format!("{}{commit}", env!("CARGO_PKG_VERSION")),
            written: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            verification,
            proof_seconds: proven.seconds,
            distributions: &distributions,
            checksums: proven.checksums,
            output: output.as_ref(),
            source: source.as_ref(),
            manifest: manifest.as_ref(),
            plan: proven.run.map(|(plan, _)| plan),
            run: proven.run.map(|(_, run)| run),
            machine: &machine,
            serve: &serve,
            not_served: &not_served,
        };
        let html = report.html();
        self.replace(html.as_bytes())?;
        Ok(html.len() as u64)
    }

    /// Says where the page is.
    pub(super) fn say(&self, bytes: u64, screen: &Screen) {
        screen.say(&format!("wrote the report {}, {}", shown_path(&self.path), human(bytes)));
    }

    fn replace(&self, page: &[u8]) -> Result<(), CommandError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let partial = self.path.with_file_name(name);
        // Left by a process of the same number that was killed, which containers have again and again.
        let _ = fs::remove_file(&partial);
        let written = File::create_new(&partial)
            .and_then(|mut file| file.write_all(page))
            .and_then(|()| fs::rename(&partial, &self.path));
        written.map_err(|error| {
            // A part of a page is of no use, and the message says what went wrong.
            let _ = fs::remove_file(&partial);
            CommandError::Run(format!("the report {} cannot be written: {error}", shown_path(&self.path)))
        })
    }
}

/// Reports whether a file is a page of ours.
fn is_report(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MARKER_WITHIN as u64).read_to_end(&mut head));
    read.is_ok() && String::from_utf8_lossy(&head).contains(MARKER)
}

/// Servers, each with a line for people.
type Servers = Vec<(&'static str, String)>;

/// The commands that serve the output, and the reasons for which other servers do not.
fn servers(manifest: Option<&Manifest>, unserved: &BTreeMap<String, String>, output: &Path) -> (Servers, Servers) {
    let schemes = manifest.map(|manifest| manifest.schemes.keys().map(|name| find(name)));
    match schemes.and_then(|schemes| schemes.collect::<Option<Vec<&Registration>>>()) {
        Some(schemes) => (next_steps::serve_lines(&schemes, unserved, output), not_serving(&schemes, unserved)),
        // Made by another tool: vLLM has kernels for all that is known here.
        None => {
            let lines = next_steps::serve_lines(&[], unserved, output);
            (lines.into_iter().take(1).collect(), not_serving(&[], unserved))
        }
    }
}
