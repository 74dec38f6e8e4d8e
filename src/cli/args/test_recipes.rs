//! The arguments of `test`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::super::completers;

#[derive(Debug, Args)]
pub(in super::super) struct TestArgs {
    /// The recipes, or directories of recipes
    #[arg(value_name = "PATH", required = true, add = ArgValueCompleter::new(completers::recipes()))]
    pub(in super::super) paths: Vec<PathBuf>,

    /// The checkpoint, instead of each recipe's `model`: a directory, or a model id of the Hugging Face cache
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in super::super) model: Option<String>,

    /// Write the results as JUnit XML too, for CI services
    #[arg(long, value_name = "FILE")]
    pub(in super::super) junit: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}
