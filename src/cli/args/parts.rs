//! The arguments about a run in parts, on several machines.

use clap::Args;

use crate::cli::part_number::PartArgument;
use crate::run::PartNumber;

#[derive(Debug, Args)]
pub(in crate::cli) struct PartsArgs {
    /// Make the K-th of N equal parts of the output, counted from 1, for `--join`; `auto` takes K, and N unless it is
    /// given, from an array of Slurm, an Indexed Job of Kubernetes, or RANK and WORLD_SIZE
    #[arg(long, value_name = "K/N|auto|auto/N", conflicts_with = "join")]
    pub(in crate::cli) part: Option<PartArgument>,

    /// Check the parts, which lie beside the output, put them together and publish the output
    #[arg(long)]
    pub(in crate::cli) join: bool,

    /// Submit N parts and their join to Slurm, from whose nodes recipe, source and output are seen, and wait until the
    /// output is published
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=PartNumber::MOST as i64))]
    #[arg(conflicts_with_all = ["part", "join", "resume", "restart"])]
    pub(in crate::cli) slurm: Option<u16>,
}
