//! The arguments of every command: clap's types and nothing else.

mod locks;
mod test_recipes;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter};

use super::completers;
use crate::check::Threshold;

pub(super) use locks::{LockedArgs, PlanLockArgs};
pub(super) use test_recipes::TestArgs;

/// Turns a BF16 Hugging Face checkpoint into an FP8 one that vLLM serves.
#[derive(Debug, Parser)]
#[command(name = "qwen-fp8", version, long_version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,

    #[command(flatten)]
    pub(super) global: GlobalArgs,
}

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("QWEN_FP8_COMMIT"),
    "\ntarget: ",
    env!("QWEN_FP8_TARGET"),
    "\nfeatures: ",
    env!("QWEN_FP8_FEATURES")
);

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the recipe or the checkpoint is at fault, 2 the run failed or the command \
                          line is wrong, 3 `verify` found no fault and did not prove everything, 4 `verify` had nothing \
                          to prove, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).";

#[derive(Debug, Args)]
pub(super) struct GlobalArgs {
    /// Print errors only; what you asked for as a file or as JSON is printed all the same
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Say more: `apply` and `inspect` of every tensor, `verify` and `lint` all that they summarize
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,

    /// Read what is known of models from this directory first: a .yaml file for each family, as docs/models.md says
    #[arg(long, global = true, value_name = "DIR", add = ArgValueCompleter::new(PathCompleter::dir()))]
    pub(super) models: Option<PathBuf>,

    /// Use colour in messages; `auto` does on a terminal
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(super) color: ColorWhen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a first recipe for a checkpoint, with comments on its layers
    Init(InitArgs),
    /// Quantize a checkpoint by a recipe
    Apply(ApplyArgs),
    /// Show the plan of a recipe for a checkpoint; only headers are read
    Plan(PlanArgs),
    /// Show which rule decided a tensor, and why the others did not
    Explain(ExplainArgs),
    /// Check recipes; no checkpoint is needed
    Validate(ValidateArgs),
    /// Test recipes: what each expects of its plan, and the lock beside it
    Test(TestArgs),
    /// Print the JSON Schema of recipes, for editors, or of a command's JSON, for programs
    Schema(SchemaArgs),
    /// List the schemes, or show one of them
    Schemes(SchemesArgs),
    /// List the families of models that are known, or show what is known of one
    Models(ModelsArgs),
    /// Show the content of a checkpoint, by layer kind and dtype
    Inspect(InspectArgs),
    /// Prove that an output is sound and follows from its source
    Verify(VerifyArgs),
    /// Check the structure of any quantized checkpoint, whichever tool made it
    Lint(LintArgs),
    /// Show the differences of two checkpoints, tensor by tensor
    Diff(DiffArgs),
    /// Print the script that completes commands, recipes, schemes and models in a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The checkpoint: a directory, or a model id of the Hugging Face cache
    #[arg(value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: String,

    /// The recipe to write, a .yaml file that does not exist yet [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// The granularity of the scales [default: block, unless most layers fit no block]
    #[arg(long, value_enum, value_name = "SCHEME")]
    pub(super) scheme: Option<InitScheme>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum InitScheme {
    /// FP8 in 128 x 128 blocks, in the layout of the official Qwen checkpoints
    Block,
    /// FP8 with one scale per row, in llm-compressor's layout
    Channel,
}

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The recipe: a .yaml, .yml or .toml file, or `-` for standard input
    #[arg(value_name = "RECIPE", add = ArgValueCompleter::new(completers::recipes()))]
    pub(super) recipe: PathBuf,

    /// The checkpoint, instead of the recipe's `model`: a directory, or a model id of the Hugging Face cache
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: Option<String>,

    /// Take only the first layers, for a small model to try out; config.json is adjusted [default: 2]
    #[arg(long, value_name = "LAYERS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    pub(super) smoke: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    /// The directory to write, instead of the recipe's `output`; it must not exist yet, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,

    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,

    /// Memory for buffers over all threads, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::checkpoint::text::parse)]
    pub(super) max_memory: Option<u64>,

    /// The instruction set: portable, avx2, avx512, neon [default: the best this machine has]
    #[arg(long, value_name = "SET", env = "QWEN_FP8_SIMD")]
    #[arg(add = ArgValueCandidates::new(completers::instruction_sets))]
    pub(super) simd: Option<String>,

    /// Resume an interrupted run of the same job, if there is one; this is the default
    #[arg(long, conflicts_with = "restart")]
    pub(super) resume: bool,

    /// Discard the finished shards of an interrupted run and start from the beginning
    #[arg(long)]
    pub(super) restart: bool,

    #[command(flatten)]
    pub(super) manifest: ManifestArgs,

    #[command(flatten)]
    pub(super) locked: LockedArgs,

    /// Show the times of the run and its slowest tensors
    #[arg(long)]
    pub(super) timings: bool,

    /// Print the run's report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// Do not write qwen-fp8-manifest.json
    #[arg(long)]
    pub(super) no_manifest: bool,

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
    pub(super) sha256: Option<Sha256Files>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sha256Files {
    Output,
    Source,
    All,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    #[command(flatten)]
    pub(super) manifest: ManifestArgs,

    #[command(flatten)]
    pub(super) lock: PlanLockArgs,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) source: SourceArgs,

    /// The tensor or module, by its full name
    #[arg(value_name = "NAME")]
    pub(super) name: String,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The recipes to check; `-` is standard input
    #[arg(value_name = "RECIPE", required = true, add = ArgValueCompleter::new(completers::recipes()))]
    pub(super) recipes: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) format: FormatArgs,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The output whose schema to print; `error` is what any command prints as JSON where it fails [default: recipes]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) output: Option<OutputName>,

    /// Write the schema of recipes into your directory for data instead, as `init` does, and print the first line that a
    /// recipe needs for it
    #[arg(long, conflicts_with = "output")]
    pub(super) install: bool,
}

/// The outputs that have a schema: a command's, or that of every failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputName {
    Apply,
    Diff,
    Error,
    Explain,
    Inspect,
    Lint,
    Models,
    Plan,
    PlanDiff,
    PlanLock,
    Schemes,
    SchemesTest,
    Test,
    Validate,
    Verify,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct SchemesArgs {
    #[command(subcommand)]
    pub(super) command: Option<SchemesCommand>,

    /// Show this scheme's options, layout and servers
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completers::scheme_names))]
    pub(super) name: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum SchemesCommand {
    /// Test schemes: golden vectors, edge values, odd shapes, bands and threads
    Test(SchemesTestArgs),
}

pub(super) type JsonObject = serde_json::Map<String, serde_json::Value>;

#[derive(Debug, Args)]
pub(super) struct SchemesTestArgs {
    /// The schemes to test [default: all]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completers::scheme_names))]
    pub(super) names: Vec<String>,

    /// Test only these options, such as '{"block_size": 64}' [default: every value that the options' schema offers].
    /// May be repeated
    #[arg(long, value_name = "JSON", requires = "names")]
    #[arg(value_parser = |text: &str| serde_json::from_str::<JsonObject>(text))]
    pub(super) options: Vec<JsonObject>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ModelsArgs {
    /// A family, a class of `architectures`, a `model_type`, or a checkpoint: a directory, or a model id of the Hugging
    /// Face cache
    #[arg(value_name = "NAME|DIR|ID", add = ArgValueCompleter::new(completers::families_and_checkpoints))]
    pub(super) name: Option<String>,

    /// Print a first file for the family of a checkpoint that is not known, or that nobody has seen loaded
    #[arg(long, value_name = "DIR|ID", conflicts_with_all = ["name", "json", "schema"])]
    #[arg(add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) draft: Option<String>,

    /// Print the JSON Schema of a family's file, for editors
    #[arg(long, conflicts_with_all = ["name", "json"])]
    pub(super) schema: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The checkpoint: a directory, or a model id of the Hugging Face cache
    #[arg(value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: String,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The output to verify: a directory, or a model id of the Hugging Face cache
    #[arg(value_name = "OUTPUT", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) output: String,

    /// The source of OUTPUT, with which every tensor is compared [default: the one that the manifest names, in the
    /// Hugging Face cache, beside OUTPUT or in the working directory, if its headers are the same]
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) source: Option<String>,

    /// Do not look for the source: structure and values are enough, and the exit code is 0 where they are sound
    #[arg(long, conflicts_with = "source")]
    pub(super) no_source: bool,

    /// Fail with exit code 1 unless every quantized tensor was proven against the source
    #[arg(long, conflicts_with = "no_source")]
    pub(super) require_source: bool,

    /// Fail if a tensor is beyond a bound, such as sqnr<30dB, cosine<0.999, saturated>0.1%;
    /// also relative_error, max_error, flushed. May be repeated
    #[arg(long, value_name = "EXPR", conflicts_with = "no_source")]
    pub(super) fail_if: Vec<Threshold>,

    /// Also compare every file and tensor with the checksums in the manifest
    #[arg(long)]
    pub(super) manifest: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// The checkpoint: a directory, or a model id of the Hugging Face cache
    #[arg(value_name = "DIR|ID", required_unless_present = "rules")]
    #[arg(add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: Option<String>,

    #[command(flatten)]
    pub(super) format: FormatArgs,

    /// List the rules instead; in a file or a pipe the table is in Markdown
    #[arg(long, conflicts_with_all = ["model", "format", "json"])]
    pub(super) rules: bool,
}

#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,

    /// Print JSON, as `--format json` does
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    Text,
    Json,
    Sarif,
}

impl FormatArgs {
    pub(super) fn format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.format }
    }
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The first checkpoint: a directory, or a model id of the Hugging Face cache
    #[arg(value_name = "A", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) a: String,

    /// The second checkpoint
    #[arg(value_name = "B", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) b: String,

    /// The number of tensors to show, the most changed first
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) top: usize,

    /// Exit with 1 if they differ
    #[arg(long)]
    pub(super) exit_code: bool,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: ShellName,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory to write the pages into, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// A shell that the program can complete in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ShellName {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
}
