//! The arguments of `delta` and `apply-delta`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::{ArgValueCompleter, PathCompleter};

use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct DeltaArgs {
    /// The old checkpoint, which the delta is put on: a directory, or a model id of the Hugging Face hub that was downloaded
    #[arg(value_name = "OLD", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) old: String,

    /// The new checkpoint, likewise
    #[arg(value_name = "NEW", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) new: String,

    /// The file to write, such as changes.qdelta; it must not exist
    #[arg(short, long, value_name = "FILE", add = ArgValueCompleter::new(PathCompleter::any()))]
    pub(in crate::cli) output: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyDeltaArgs {
    /// The delta, as `delta` wrote it
    #[arg(value_name = "DELTA", add = ArgValueCompleter::new(PathCompleter::file()))]
    pub(in crate::cli) delta: PathBuf,

    /// The checkpoint that the delta was made from: a directory, or a model id of the Hugging Face hub that was downloaded
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) base: String,

    /// The directory to write; it must not exist, or be empty
    #[arg(short, long, value_name = "DIR", add = ArgValueCompleter::new(PathCompleter::dir()))]
    pub(in crate::cli) output: PathBuf,

    /// Discard what an interrupted run of the same output left, and start from the beginning
    #[arg(long)]
    pub(in crate::cli) restart: bool,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
