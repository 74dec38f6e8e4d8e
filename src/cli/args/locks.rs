//! The arguments about locks: of `plan` to write and compare them, of `apply` to be held against one.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanLockArgs {
    /// Write what was decided of each tensor into a file that `apply --locked` holds the plan against
    /// [default: the recipe's name with .lock.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, conflicts_with = "diff")]
    pub(in crate::cli) lock: Option<Option<PathBuf>>,

    /// Show the tensors whose action is another by OTHER, a recipe or a lock, for the same checkpoint
    #[arg(long, value_name = "OTHER", add = ArgValueCompleter::new(completers::recipes()))]
    pub(in crate::cli) diff: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LockedArgs {
    /// Refuse to run where the plan is another than the lock that `plan --lock` wrote, and show what is
    /// [default: the recipe's name with .lock.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(in crate::cli) locked: Option<Option<PathBuf>>,
}
