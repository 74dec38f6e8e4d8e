//! The arguments of commands that read a recipe.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use super::FormatArgs;
use super::locks::{LockedArgs, PlanLockArgs};
use super::parts::PartsArgs;
use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    /// The recipe: a .yaml, .yml or .toml file, or `-` for standard input
    #[arg(value_name = "RECIPE", add = ArgValueCompleter::new(completers::recipes()))]
    pub(in crate::cli) recipe: PathBuf,

    /// The checkpoint, instead of the recipe's `model`: a directory, a model id of the Hugging Face hub (`org/name`,
    /// `org/name@revision`), or an address in an object store (`s3://…`, `gs://…`, `az://…`)
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) model: Option<String>,

    /// Take only the first layers, for a small model to try out; config.json is adjusted [default: 2]
    #[arg(long, value_name = "LAYERS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    pub(in crate::cli) smoke: Option<u64>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// The directory to write, instead of the recipe's `output`, or an address in an object store (`s3://…`); it must not
    /// exist yet, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// Put a model of the hub into the Hugging Face cache first, and read it from there; without this it streams, and never
    /// lies on this machine
    #[arg(long)]
    pub(in crate::cli) download: bool,

    /// Put the result on the hub as the model ORG/NAME, which is made unless it is there, with one commit. Without an output it
    /// is uploaded while it is computed, and no copy stays on this machine
    #[arg(long, value_name = "ORG/NAME")]
    pub(in crate::cli) push: Option<String>,

    /// A model that `--push` makes is visible to its owners alone
    #[arg(long, requires = "push")]
    pub(in crate::cli) private: bool,

    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(in crate::cli) threads: Option<u16>,

    /// Memory for buffers over all threads, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::checkpoint::text::parse)]
    pub(in crate::cli) max_memory: Option<u64>,

    /// The instruction set: portable, avx2, avx512, neon [default: the best this machine has]
    #[arg(long, value_name = "SET", env = "QWEN_FP8_SIMD")]
    #[arg(add = ArgValueCandidates::new(completers::instruction_sets))]
    pub(in crate::cli) simd: Option<String>,

    /// Resume an interrupted run of the same job, if there is one; this is the default
    #[arg(long, conflicts_with = "restart")]
    pub(in crate::cli) resume: bool,

    /// Discard the finished shards of an interrupted run and start from the beginning
    #[arg(long)]
    pub(in crate::cli) restart: bool,

    #[command(flatten)]
    pub(in crate::cli) manifest: ManifestArgs,

    #[command(flatten)]
    pub(in crate::cli) locked: LockedArgs,

    /// Compare the output with the source, as `verify` does, before it gets its name: what is at fault is not published.
    /// The model card gets a table of the quality
    #[arg(long, conflicts_with = "no_manifest")]
    pub(in crate::cli) verify: bool,

    /// Also write a page of HTML with what was done and how good it is; the output is compared with the source for it, as
    /// with `--verify`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "no_manifest")]
    pub(in crate::cli) report: Option<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) parts: PartsArgs,

    /// Show the times of the run and its slowest tensors
    #[arg(long)]
    pub(in crate::cli) timings: bool,

    /// Print the run's report as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ManifestArgs {
    /// Do not write qwen-fp8-manifest.json
    #[arg(long)]
    pub(in crate::cli) no_manifest: bool,

    /// Put SHA-256 sums of the output's files, the source's, or both into the manifest; `apply` reads the files again
    /// for it [default: output]
    #[arg(
        long,
        value_enum,
        value_name = "FILES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "output",
        conflicts_with = "no_manifest"
    )]
    pub(in crate::cli) sha256: Option<Sha256Files>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Sha256Files {
    Output,
    Source,
    All,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArgs {
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    #[command(flatten)]
    pub(in crate::cli) manifest: ManifestArgs,

    #[command(flatten)]
    pub(in crate::cli) lock: PlanLockArgs,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    #[command(flatten)]
    pub(in crate::cli) source: SourceArgs,

    /// The tensor or module, by its full name
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ValidateArgs {
    /// The recipes to check; `-` is standard input
    #[arg(value_name = "RECIPE", required = true, add = ArgValueCompleter::new(completers::recipes()))]
    pub(in crate::cli) recipes: Vec<PathBuf>,

    #[command(flatten)]
    pub(in crate::cli) format: FormatArgs,
}
