//! Why a run ended without a checkpoint.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use qwen_fp8_schemes::NonFinite;

/// Why a run ended without a checkpoint; nothing is then left under the output's name.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("interrupted: nothing was written under the output's name")]
    Cancelled,

    #[error("output {} exists already", Shown(path))]
    OutputExists { path: PathBuf },

    #[error("output {} has no name of its own: give the directory that is to be made", Shown(path))]
    OutputUnnamed { path: PathBuf },

    #[error("cannot make {} in {}", Shown(path), Shown(parent))]
    Parent { path: PathBuf, parent: PathBuf, source: io::Error },

    #[error("output {} lies inside the source {}", Shown(output), Shown(source_dir))]
    OutputInSource { output: PathBuf, source_dir: PathBuf },

    #[error("another run is writing {} (it holds {})", Shown(output), Shown(lock))]
    Locked { output: PathBuf, lock: PathBuf },

    #[error("{} is in the way and was not made by this program: move it away first", Shown(path))]
    Stranger { path: PathBuf },

    #[error("{} needs {needed} bytes and {available} bytes are free on its disk", Shown(output))]
    NoSpace { output: PathBuf, needed: u64, available: u64 },

    #[error("{} will hold {size} bytes and no file may be larger than {limit} bytes here (`ulimit -f`)", Shown(path))]
    FileTooLarge { path: PathBuf, size: u64, limit: u64 },

    #[error("a band of {} needs {needed} bytes of buffers and {max} bytes are allowed", Name(tensor))]
    Memory { tensor: String, needed: u64, max: u64 },

    /// The plan contradicts itself; a mistake of the planner or of a scheme, never of the input.
    #[error("the plan of {} does not add up: {reason}", Name(tensor))]
    Inconsistent { tensor: String, reason: &'static str },

    #[error("{} holds {at}: {}", Name(tensor), Shown(path))]
    NonFinite { tensor: String, path: PathBuf, at: NonFinite },

    #[error("{} changed while it was read", Shown(path))]
    SourceChanged { path: PathBuf },

    #[error("cannot open {}", Shown(path))]
    Open { path: PathBuf, source: io::Error },

    #[error("cannot read {} from {}", Name(tensor), Shown(path))]
    Read { path: PathBuf, tensor: String, source: io::Error },

    #[error("cannot write {} to {}", Name(tensor), Shown(path))]
    Write { path: PathBuf, tensor: String, source: io::Error },

    #[error("cannot {action} {}", Shown(path))]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

impl RunError {
    /// For `map_err`: what could not be done to the file or directory at `path`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}

/// A path for a message, escaped and cut.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Name(&self.0.to_string_lossy()))
    }
}

/// A name of the input for a message, escaped and cut.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 200;
        let escaped = self.0.chars().take(LONGEST).flat_map(char::escape_debug).collect::<String>();
        let cut = if self.0.chars().nth(LONGEST).is_some() { "…" } else { "" };
        write!(f, "`{escaped}{cut}`")
    }
}
