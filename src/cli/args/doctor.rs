//! The arguments of `doctor`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    /// The recipe whose source and output are looked at too [default: the machine alone]
    #[arg(value_name = "RECIPE", add = ArgValueCompleter::new(completers::recipes()))]
    pub(in crate::cli) recipe: Option<PathBuf>,

    /// The checkpoint, instead of the recipe's `model`: a directory, or a model id of the Hugging Face hub
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) model: Option<String>,

    /// The directory to write, instead of the recipe's `output`
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
