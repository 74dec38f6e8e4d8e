//! The arguments of commands that judge checkpoints.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::check::Threshold;
use crate::cli::completers;

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The output to verify: a directory, a model id of the Hugging Face cache or the hub, or an address in an object store
    #[arg(value_name = "OUTPUT", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) output: String,

    /// The source of OUTPUT, of the same kinds, with which every tensor is compared [default: the one that the manifest
    /// names, in the Hugging Face cache, beside OUTPUT or in the working directory, if its headers are the same]
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) source: Option<String>,

    /// An adapter that was merged into the source, a directory or an id in the Hugging Face cache; once for each, in the order
    /// of the recipe
    #[arg(long, value_name = "DIR|ID", conflicts_with = "no_source", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) adapter: Vec<String>,

    /// Do not look for the source: structure and values are enough, and the exit code is 0 where they are sound
    #[arg(long, conflicts_with = "source")]
    pub(in crate::cli) no_source: bool,

    /// Fail with exit code 1 unless every quantized tensor was proven against the source
    #[arg(long, conflicts_with = "no_source")]
    pub(in crate::cli) require_source: bool,

    /// Fail if a tensor is beyond a bound, such as sqnr<30dB, cosine<0.999, saturated>0.1%;
    /// also relative_error, max_error, flushed. May be repeated
    #[arg(long, value_name = "EXPR", conflicts_with = "no_source")]
    pub(in crate::cli) fail_if: Vec<Threshold>,

    /// Also compare every file and tensor with the checksums in the manifest
    #[arg(long)]
    pub(in crate::cli) manifest: bool,

    /// Also write a page of HTML with the verdict, a map of the errors and what was done; it needs nothing else to be read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) report: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LintArgs {
    /// The checkpoint: a directory, a model id of the Hugging Face cache or the hub, or an address in an object store
    #[arg(value_name = "DIR|ID", required_unless_present = "rules")]
    #[arg(add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) model: Option<String>,

    #[command(flatten)]
    pub(in crate::cli) format: FormatArgs,

    /// List the rules instead; in a file or a pipe the table is in Markdown
    #[arg(long, conflicts_with_all = ["model", "format", "json"])]
    pub(in crate::cli) rules: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FormatArgs {
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,

    /// Print JSON, as `--format json` does
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ReportFormat {
    Text,
    Json,
    Sarif,
}

impl FormatArgs {
    pub(in crate::cli) fn format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.format }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The first checkpoint: a directory, a model id of the Hugging Face cache or the hub, or an address in an object store
    #[arg(value_name = "A", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) a: String,

    /// The second checkpoint
    #[arg(value_name = "B", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) b: String,

    /// The number of tensors to show, the most changed first
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(in crate::cli) top: usize,

    /// Exit with 1 if they differ
    #[arg(long)]
    pub(in crate::cli) exit_code: bool,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
