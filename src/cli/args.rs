//! The arguments of every command: clap's types and nothing else.

mod budget;
mod checks;
mod deltas;
mod doctor;
mod fit;
mod locks;
mod parts;
mod recipes;
mod test_recipes;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter};

use super::completers;

pub(super) use budget::{BudgetArgs, GpuName, ServerName};
pub(super) use checks::{DiffArgs, FormatArgs, LintArgs, ReportFormat, VerifyArgs};
pub(super) use deltas::{ApplyDeltaArgs, DeltaArgs};
pub(super) use doctor::DoctorArgs;
pub(super) use fit::{CacheDtypeName, FitArgs};
pub(super) use recipes::{ApplyArgs, ExplainArgs, ManifestArgs, PlanArgs, Sha256Files, SourceArgs, ValidateArgs};
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

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the recipe or the checkpoint is at fault, or `doctor` found a problem, 2 the run failed or the command \
                          line is wrong, 3 `verify` found no fault and did not prove everything, 4 `verify` had nothing \
                          to prove, 5 it does not fit (`fit`, `init --fit`), 6 `apply --join` \
                          found a part missing or spoilt, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).";

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

    /// Write the progress as events, a line of JSON each, into this file, or to standard error with `-`; `schema --output
    /// events` describes them
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) events: Option<PathBuf>,

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
    /// Look over the machine, and with a recipe its source and the output's place, before a run
    Doctor(DoctorArgs),
    /// Write a first recipe for a checkpoint, with comments on its layers
    Init(InitArgs),
    /// Quantize a checkpoint by a recipe
    Apply(ApplyArgs),
    /// Show the plan of a recipe for a checkpoint; only headers are read
    Plan(PlanArgs),
    /// Say whether a model fits GPUs of a size, and the line that serves it there
    Fit(FitArgs),
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
    /// Write what changed between two checkpoints into a file, from which the new one follows given the old one
    Delta(DeltaArgs),
    /// Put a delta on the checkpoint that it was made from; the result is the new one, byte for byte
    ApplyDelta(ApplyDeltaArgs),
    /// Print the script that completes commands, recipes, schemes and models in a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The checkpoint: a directory, or a model id of the Hugging Face hub
    #[arg(value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: String,

    /// The recipe to write, a .yaml file that does not exist yet [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,

    /// The granularity of the scales [default: block, unless most layers fit no block]
    #[arg(long, value_enum, value_name = "SCHEME")]
    pub(super) scheme: Option<InitScheme>,

    #[command(flatten)]
    pub(super) budget: BudgetArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum InitScheme {
    /// FP8 in 128 x 128 blocks, in the layout of the official Qwen checkpoints
    Block,
    /// FP8 with one scale per row, in llm-compressor's layout
    Channel,
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

    /// Write the schema of recipes beside this recipe instead, and print the first line that it needs for it
    #[arg(long = "for", value_name = "RECIPE", conflicts_with_all = ["output", "install"])]
    #[arg(add = ArgValueCompleter::new(completers::recipes()))]
    pub(super) recipe: Option<PathBuf>,

    #[command(flatten)]
    pub(super) for_recipe: SchemaForArgs,
}

#[derive(Debug, Args)]
pub(super) struct SchemaForArgs {
    /// The file to write the schema into [default: recipe.schema.json beside the recipe]
    #[arg(long, value_name = "FILE", requires = "recipe")]
    pub(super) to: Option<PathBuf>,

    /// Put the line into the recipe, unless it names a schema
    #[arg(long, requires = "recipe")]
    pub(super) add: bool,
}

/// The outputs that have a schema: a command's, or that of every failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputName {
    Apply,
    ApplyDelta,
    Delta,
    Diff,
    Doctor,
    Error,
    Events,
    Explain,
    Fit,
    Headers,
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
    /// Face hub
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
    /// The checkpoint: a directory, or a model id of the Hugging Face hub
    #[arg(value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(super) model: String,

    /// Print its headers and config as a .json file that `--model` takes in its place, to plan and test recipes without
    /// the weights
    #[arg(long, conflicts_with = "json")]
    pub(super) headers: bool,

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
