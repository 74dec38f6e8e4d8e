//! The failure of a command: a message for people, advice, the files it is about, and an exit code.

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::check::CheckError;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::ManifestError;
use crate::checkpoint::source::SourceError;
use crate::run::{PartNumber, RunError};

/// The exit code of `apply --join` where parts are missing or spoilt.
const UNJOINABLE: u8 = 6;

/// The reason why a command did not do what was asked, which decides the exit code.
#[derive(Debug)]
pub(super) enum CommandError {
    /// The recipe or the checkpoint is at fault.
    Input(String),
    /// The recipe or the checkpoint is at fault, and everything has been reported already.
    Reported,
    /// The verdict, which has been reported already, is none of success; the exit code tells it.
    Verdict(u8),
    /// A word of the command line means nothing.
    Usage(String),
    /// The run failed: files, memory, the machine.
    Run(String),
    /// Parts of a run are missing or spoilt, so that they cannot be joined.
    Parts(String),
    /// A signal such as Ctrl-C ended the run; the exit code names the signal.
    Interrupted(String, u8),
    /// One of these, with what is known beside its message.
    Detailed(Box<CommandError>, FailureDetails),
}

/// What is known of a failure beside its message.
#[derive(Debug, Default)]
pub(super) struct FailureDetails {
    /// Advice, one line each.
    pub(super) help: Vec<String>,
    /// The file or directory that it is about.
    pub(super) file: Option<PathBuf>,
}

impl CommandError {
    /// Puts the blame on the recipe or the checkpoint.
    pub(super) fn input(error: &(dyn Error + 'static)) -> Self {
        Self::Input(with_sources(error)).about(file_of(error))
    }

    /// Puts the blame on the run.
    pub(super) fn run(error: &(dyn Error + 'static)) -> Self {
        Self::Run(with_sources(error)).about(file_of(error))
    }

    /// Puts the blame on the run: a check whose checkpoint cannot be had has found nothing wrong with it.
    pub(super) fn of_run(self) -> Self {
        match self {
            Self::Input(text) => Self::Run(text),
            Self::Detailed(bare, details) => Self::Detailed(Box::new(bare.of_run()), details),
            other => other,
        }
    }

    /// Adds hints below the message, one line each.
    pub(super) fn with_help(self, help: &[String]) -> Self {
        if help.is_empty() { self } else { self.detailed(|details| details.help.extend_from_slice(help)) }
    }

    /// Puts the blame on parts that cannot be joined.
    pub(super) fn parts_of_run(error: &(dyn Error + 'static)) -> Self {
        Self::Parts(with_sources(error)).about(file_of(error))
    }

    /// Says in the message which part of a run failed.
    pub(super) fn in_part(self, part: PartNumber) -> Self {
        let named = |text: String| format!("part {part}: {text}");
        match self {
            Self::Input(text) => Self::Input(named(text)),
            Self::Run(text) => Self::Run(named(text)),
            Self::Interrupted(text, code) => Self::Interrupted(named(text), code),
            Self::Detailed(bare, details) => Self::Detailed(Box::new(bare.in_part(part)), details),
            other => other,
        }
    }

    fn about(self, file: Option<&Path>) -> Self {
        match file {
            Some(file) => self.detailed(|details| details.file = Some(file.to_owned())),
            None => self,
        }
    }

    fn detailed(self, add: impl FnOnce(&mut FailureDetails)) -> Self {
        let (bare, mut details) = match self {
            Self::Detailed(bare, details) => (bare, details),
            bare => (Box::new(bare), FailureDetails::default()),
        };
        add(&mut details);
        Self::Detailed(bare, details)
    }

    /// The failure without its details, and the details where there are any.
    pub(super) fn parts(&self) -> (&Self, Option<&FailureDetails>) {
        match self {
            Self::Detailed(bare, details) => (bare, Some(details)),
            bare => (bare, None),
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Reported => 1,
            Self::Run(_) | Self::Usage(_) => 2,
            Self::Parts(_) => UNJOINABLE,
            Self::Interrupted(_, code) | Self::Verdict(code) => *code,
            Self::Detailed(bare, _) => bare.exit_code(),
        }
    }
}

/// An error and its causes, one after the other on one line.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The file or directory that an error is about, where it is of a kind that names one.
fn file_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Path> {
    if let Some(error) = error.downcast_ref::<RunError>() {
        error.path()
    } else if let Some(error) = error.downcast_ref::<SourceError>() {
        Some(error.path())
    } else if let Some(error) = error.downcast_ref::<CheckpointError>() {
        error.path()
    } else {
        match (error.downcast_ref::<CheckError>(), error.downcast_ref::<ManifestError>()) {
            (Some(CheckError::Open(error) | CheckError::Source(error)), _) => error.path(),
            (Some(CheckError::Read(error)), _) | (None, Some(ManifestError::Source(error))) => Some(error.path()),
            _ => None,
        }
    }
}
