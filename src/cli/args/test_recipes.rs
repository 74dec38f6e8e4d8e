//! The arguments of `test`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct TestArgs {
    /// The recipes, or directories of recipes
    #[arg(value_name = "PATH", required = true, add = ArgValueCompleter::new(completers::recipes()))]
    pub(in crate::cli) paths: Vec<PathBuf>,

    /// The checkpoint, instead of each recipe's `model`: a directory, a model id of the Hugging Face hub, or a .json file
    /// of headers that `inspect --headers` wrote
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) model: Option<String>,

    /// Write the results as JUnit XML too, for CI services
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) junit: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
