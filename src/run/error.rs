//! The errors of a run, with what a person can do about each.

use std::io;
use std::path::{Path, PathBuf};

use qwen_fp8_schemes::{NonFinite, Strategy};

use crate::checkpoint::remote::RemoteError;
use crate::checkpoint::source::SourceError;
use crate::checkpoint::text::{apart, human, os_hints, shown, shown_path};
use crate::delta::DeltaError;
use crate::run::parts::number::PartNumber;
use crate::run::proof::Unpublished;

/// Reason why a run ended without a checkpoint. Nothing is then left under the output's name.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("interrupted: nothing was written under the output's name")]
    Cancelled,

    #[error("output {} exists already: it is {found}", shown_path(path))]
    OutputExists { path: PathBuf, found: &'static str },

    #[error("output {} has no name: give the path of the directory to make", shown_path(path))]
    OutputUnnamed { path: PathBuf },

    #[error("output {} is a mount point, which the finished output cannot replace", shown_path(path))]
    MountPoint { path: PathBuf },

    #[error("cannot make {} in {}", shown_path(path), shown_path(parent))]
    Parent { path: PathBuf, parent: PathBuf, source: io::Error },

    #[error("output {} lies inside the source {}", shown_path(output), shown_path(source_dir))]
    OutputInSource { output: PathBuf, source_dir: PathBuf },

    #[error("the source {} lies inside the output {}", shown_path(source_dir), shown_path(output))]
    SourceInOutput { output: PathBuf, source_dir: PathBuf },

    #[error("another run is writing {} (it holds {})", shown_path(output), shown_path(lock))]
    Locked { output: PathBuf, lock: PathBuf },

    #[error(
        "{} holds the work of an interrupted run of another job. This run differs in: {}",
        shown_path(staging),
        differences.join("; ")
    )]
    Different { staging: PathBuf, differences: Vec<String> },

    /// A join that cannot be made yet.
    #[error("{} cannot be joined: {}", shown_path(output), found.join("; "))]
    Unjoinable { output: PathBuf, found: Vec<String> },

    /// The record of a part that another version has written, or that was spoilt.
    #[error("the record {} cannot be read", shown_path(path))]
    Record { path: PathBuf },

    /// One plan, one part, two results: the arithmetic of a machine is wrong, or its memory.
    #[error("two machines made {} of part {part} with different bytes", shown(tensor))]
    MadeTwice { part: PartNumber, tensor: String, path: PathBuf },

    #[error("{} is in the way and was not made by this program: move it away first", shown_path(path))]
    NotOurs { path: PathBuf },

    #[error("{} was made by another user (number {owner})", shown_path(path))]
    OtherUsers { path: PathBuf, owner: u32 },

    #[error("{} needs {} and {} are free on its disk", shown_path(output), apart(*needed, *available)[0], apart(*needed, *available)[1])]
    NoSpace { output: PathBuf, needed: u64, available: u64 },

    #[error(
        "{} will hold {} and no file may be larger than {} here (`ulimit -f`)",
        shown_path(path),
        apart(*size, *limit)[0],
        apart(*size, *limit)[1]
    )]
    FileTooLarge { path: PathBuf, size: u64, limit: u64 },

    #[error("a band of {} needs buffers of {} and {} are allowed", shown(tensor), apart(*needed, *max)[0], apart(*needed, *max)[1])]
    Memory { tensor: String, needed: u64, max: u64 },

    /// A matrix that is stored columns first, all of which is read for every few rows of it.
    #[error(
        "{} is stored so that all of it is read for every few rows, which takes {} of memory to do over a network, and {} are there",
        shown(tensor),
        apart(*needed, *max)[0],
        apart(*needed, *max)[1]
    )]
    Unstreamable { tensor: String, needed: u64, max: u64 },

    #[error("not enough memory for the buffers of {workers} workers ({} each)", human(*each as u64))]
    NoMemory { workers: usize, each: usize },

    #[error("cannot start a thread for each of {workers} workers")]
    NoThread { workers: usize, source: io::Error },

    /// The plan contradicts itself: a mistake of the planner or of a scheme, never of the input.
    #[error("the plan of {} is inconsistent: {reason}", shown(tensor))]
    Inconsistent { tensor: String, reason: &'static str },

    /// `merged` is the adapter that was merged into it last.
    #[error(
        "{} holds {at}{}: {}",
        shown(tensor),
        merged.as_ref().map_or_else(String::new, |name| format!(" once the adapter {} is merged into it", shown(name))),
        shown_path(path)
    )]
    NonFinite { tensor: String, path: PathBuf, at: NonFinite, merged: Option<String> },

    /// The reference would store an infinite scale, under which every weight is zero or NaN.
    #[error(
        "the values in row {row} of {} span more than a scale of their dtype can hold: {}",
        shown(tensor),
        shown_path(path)
    )]
    InfiniteScale { tensor: String, path: PathBuf, row: usize },

    /// A granule that was to be held exactly spans more than E4M3 does.
    #[error(
        "{} cannot be held exactly: the {} at row {row}, column {column} has bits from 2^{} to 2^{}, and {}{}: {}",
        shown(tensor),
        granules.one(),
        exponents[0],
        exponents[1],
        granules.held(),
        and_others(*others),
        shown_path(path)
    )]
    Lossy {
        tensor: String,
        path: PathBuf,
        granules: ExactGranules,
        row: usize,
        column: usize,
        exponents: [i32; 2],
        /// Other such granules in the rows that were quantized together with this one.
        others: u64,
    },

    /// The groups of columns are told by a tensor of the source.
    #[error(
        "{} puts column {column} into group {group}, and there are {groups}, from 0 on: {}",
        shown(tensor),
        shown_path(path)
    )]
    NoSuchGroup { tensor: String, path: PathBuf, column: usize, group: i32, groups: usize },

    /// A file of the source is gone, was replaced or cannot be opened.
    #[error(transparent)]
    Source(#[from] SourceError),

    #[error("cannot read {} from {}", shown(tensor), shown_path(path))]
    Read { path: PathBuf, tensor: String, source: io::Error },

    #[error("cannot write {} to {}", shown(tensor), shown_path(path))]
    Write { path: PathBuf, tensor: String, source: io::Error },

    /// A delta cannot be made, or is not put on.
    #[error(transparent)]
    Delta(#[from] DeltaError),

    /// A shard on disk differs from the plan.
    #[error("{} was not written as planned: {what}", shown_path(path))]
    SelfCheck { path: PathBuf, what: String },

    #[error("{} is not published: {why}", shown_path(output))]
    Refused { output: PathBuf, why: String },

    #[error("{} is not published, since it could not be proven: {why}", shown_path(output))]
    Unjudged { output: PathBuf, why: String },

    /// A store did not do what it was asked for.
    #[error("{error}")]
    Store { error: RemoteError },

    #[error("output {} exists already: {} lies there", shown(address), shown(found))]
    StoreOccupied { address: String, found: String },

    /// Another run has written to the same prefix since this one began.
    #[error("another run writes to {}, and this one has stopped for it", shown(address))]
    StoreTaken { address: String },

    #[error("{} lets one run write over what another has written", shown(address))]
    StoreUnconditional { address: String },

    #[error("the output {} and the source {} lie in each other", shown(address), shown(source_address))]
    StoreInSource { address: String, source_address: String },

    #[error("cannot {action} {}", shown_path(path))]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

/// The granules that a scheme was to hold exactly, by what they are and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExactGranules {
    /// Rows of E4M3.
    Rows,
    /// Blocks of E4M3.
    Blocks,
    /// Groups of E2M1 whose scales are E4M3.
    Groups,
}

impl ExactGranules {
    /// Returns the granules of a scheme whose weights have scales by this strategy.
    pub(super) fn of(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Block(_) => Self::Blocks,
            Strategy::Group(_) | Strategy::TensorGroup(_) => Self::Groups,
            Strategy::Tensor | Strategy::Token | Strategy::Channel => Self::Rows,
        }
    }

    fn one(self) -> &'static str {
        match self {
            Self::Rows => "row",
            Self::Blocks => "block",
            Self::Groups => "group",
        }
    }

    fn held(self) -> &'static str {
        match self {
            Self::Rows | Self::Blocks => "under one power of two E4M3 holds 18 of them in a row, four for each weight",
            // The least scale is 17 places below the largest; a code has the bits from 2^-1 to 2^2.
            Self::Groups => {
                "under one power of two E2M1 holds 4 of them in a row, two for each weight, among the 21 up to \
                 the highest of the layer"
            }
        }
    }

    fn help(self) -> &'static [&'static str] {
        match self {
            Self::Rows | Self::Blocks => &[
                "`on_lossy: round` rounds such weights as other schemes do, and counts them",
                "scales for fewer weights span less: a smaller `block_size`, or `MXFP8`",
            ],
            Self::Groups => &[
                "`on_lossy: round` rounds such weights as other schemes do, and counts them",
                "`MXFP4A16` has scales of a wider span, and `PASSTHROUGH` leaves weights that are MXFP4 already",
            ],
        }
    }
}

/// Counts the granules that are like the one named.
fn and_others(others: u64) -> String {
    match others {
        0 => String::new(),
        others => format!("; {others} more like it in the same rows"),
    }
}

impl RunError {
    /// Returns the error of a plan that contradicts itself at this tensor.
    pub(super) fn inconsistent(tensor: &str, reason: &'static str) -> Self {
        Self::Inconsistent { tensor: tensor.to_owned(), reason }
    }

    /// Returns whether the same command may succeed later, so that finished shards are worth keeping.
    //
    // A full disk or a lost right can be mended. A NaN in the source cannot, and a source that changed makes another
    // job.
    pub(super) fn leaves_use(&self) -> bool {
        if let Self::Source(SourceError::Remote { error, .. }) = self {
            return !error.is_change();
        }
        if let Self::Delta(error) = self {
            return error.leaves_use();
        }
        !matches!(
            self,
            Self::NonFinite { .. }
                | Self::InfiniteScale { .. }
                | Self::Lossy { .. }
                | Self::NoSuchGroup { .. }
                | Self::Inconsistent { .. }
                | Self::SelfCheck { .. }
                | Self::Refused { .. }
                | Self::Source(SourceError::Changed { .. } | SourceError::TooLarge { .. })
        )
    }

    /// Returns the file or directory that the error is about; `None` where it is about none.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::OutputExists { path, .. }
            | Self::OutputUnnamed { path }
            | Self::MountPoint { path }
            | Self::Parent { path, .. }
            | Self::OutputInSource { output: path, .. }
            | Self::SourceInOutput { output: path, .. }
            | Self::Locked { output: path, .. }
            | Self::Refused { output: path, .. }
            | Self::Unjudged { output: path, .. }
            | Self::Different { staging: path, .. }
            | Self::Unjoinable { output: path, .. }
            | Self::Record { path }
            | Self::MadeTwice { path, .. }
            | Self::NotOurs { path }
            | Self::OtherUsers { path, .. }
            | Self::NoSpace { output: path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::NonFinite { path, .. }
            | Self::InfiniteScale { path, .. }
            | Self::Lossy { path, .. }
            | Self::NoSuchGroup { path, .. }
            | Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::SelfCheck { path, .. }
            | Self::File { path, .. } => Some(path),
            Self::Source(error) => Some(error.path()),
            Self::Delta(error) => error.path(),
            Self::Cancelled
            | Self::Memory { .. }
            | Self::Unstreamable { .. }
            | Self::NoMemory { .. }
            | Self::NoThread { .. }
            | Self::Store { .. }
            | Self::StoreOccupied { .. }
            | Self::StoreTaken { .. }
            | Self::StoreUnconditional { .. }
            | Self::StoreInSource { .. }
            | Self::Inconsistent { .. } => None,
        }
    }

    /// Returns what a person can do about the error, a line each.
    pub fn help(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::OutputExists { .. } => &["give another `--output`, or move it away first"],
            Self::StoreOccupied { .. } => &["give another `--output`, or remove it first"],
            Self::StoreTaken { .. } => &[
                "let one run write there at a time; once the other has ended, the same command goes on with what is finished",
            ],
            Self::StoreUnconditional { .. } => {
                &["the store ignores `If-None-Match`: write to a directory, and copy that"]
            }
            Self::StoreInSource { .. } => {
                &["give an `--output` beside the source: a run never writes to what it reads"]
            }
            Self::Store { error } => return error.help(),
            Self::MountPoint { .. } => {
                &["give the path of a new directory inside it, which is then on that file system"]
            }
            Self::OutputInSource { .. } | Self::SourceInOutput { .. } => {
                &["give an `--output` beside the source, or anywhere else: a run never writes to what it reads"]
            }
            Self::Parent { source, .. } if source.kind() == io::ErrorKind::NotFound => &["make that directory first"],
            Self::Locked { .. } => &["wait until it has ended, or give another `--output`"],
            Self::Different { .. } => &[
                "give the same recipe, checkpoint and options again to resume it",
                "`--restart` discards it and starts from the beginning",
            ],
            Self::Unjoinable { .. } => &[
                "make what is missing or spoilt with `--part K/N`, with the same recipe, checkpoint and options; then join again",
            ],
            Self::Record { .. } => &["`--restart` makes the part anew"],
            Self::MadeTwice { .. } => {
                &["make the part with `--restart` on a machine that you trust, and test the others"]
            }
            Self::OtherUsers { .. } => &["give another `--output`, or let its owner remove it"],
            Self::NoSpace { .. } => &["make room, or give an `--output` on another file system"],
            Self::FileTooLarge { .. } => &["raise the limit, or give a smaller `max_shard_size` in the recipe"],
            Self::Unstreamable { .. } => &["download the model first (`hf download`): from a disk that costs nothing"],
            Self::Memory { .. } => &["give a larger `--max-memory`"],
            Self::NoMemory { .. } | Self::NoThread { .. } => &["give fewer `--threads`, or less `--max-memory`"],
            Self::InfiniteScale { .. } => &["use a symmetric scheme, or check whether the file is damaged"],
            Self::Lossy { granules, .. } => granules.help(),
            Self::NoSuchGroup { .. } => {
                &["such a file is damaged: check whether it is the one that its publisher offers"]
            }
            Self::NonFinite { .. } => &[
                "such a weight is damaged: check whether the file is the one that its publisher offers",
                "`on_nonfinite: keep` in a recipe of FP8 schemes lets it into the output",
            ],
            Self::Source(error) => return error.help(),
            Self::Delta(error) => return error.help(),
            Self::Read { source, .. } | Self::File { action: "read", source, .. } => {
                return os_hints::for_reading(source).map(str::to_owned).into_iter().collect();
            }
            Self::Parent { source, .. } | Self::Write { source, .. } | Self::File { source, .. } => {
                return os_hints::for_writing(source).map(str::to_owned).into_iter().collect();
            }
            _ => &[],
        };
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    /// Returns the error of a proof that does not let the output be published.
    pub(super) fn refused(refusal: Unpublished, output: &Path) -> Self {
        let output = output.to_path_buf();
        match refusal {
            Unpublished::AtFault(why) => Self::Refused { output, why },
            Unpublished::Unjudged(why) => Self::Unjudged { output, why },
            Unpublished::Cancelled => Self::Cancelled,
        }
    }

    /// Returns the error of a store at this address.
    pub(super) fn store(error: RemoteError, address: &str) -> Self {
        if error.is_conflict() { Self::StoreTaken { address: address.to_owned() } } else { Self::Store { error } }
    }

    /// Returns a function for `map_err` that makes [`RunError::File`]: `action` failed on the file or directory at
    /// `path`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}
