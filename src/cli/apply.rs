//! `qwen-fp8 apply`: plans, runs and reports.

use std::env;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use qwen_fp8_schemes::Simd;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::ApplyArgs;
use super::download;
use super::error::CommandError;
use super::interrupt::Interrupt;
use super::json::JsonOutput;
use super::lock;
use super::manifest;
use super::next_steps;
use super::parts::{self, Applied, ApplyOutcome, Whole};
use super::progress::ProgressReporter;
use super::proof::{CancelledProgress, ProofBeforePublishing};
use super::push::{self, Push};
use super::report::ReportFile;
use super::screen::Screen;
use super::slurm;
use super::store;
use super::tensor_stats;
use super::timings;
use crate::check::Verification;
use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::nearest_path::with_home;
use crate::checkpoint::store::OutputStore;
use crate::checkpoint::text::{count, human, shown, shown_path};
use crate::plan::Plan;
use crate::plan::summary::Summary;
use crate::run::{LeftBehind, RunError, RunOptions, RunReport, Sha256Of, run_to_store};

/// The outcome of a run, and what it was made from.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ApplyOutput<'a> {
    /// The directory that was written.
    output: String,
    /// The recipe's file.
    recipe: String,
    /// The directory of the source.
    source: String,
    outcome: ApplyOutcome,
    /// The part, as `3/8`; absent unless one was to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<String>,
    /// The commit on the hub that shows the files of a directory; absent where none was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<String>,
    /// Absent where there was nothing to do.
    #[serde(flatten)]
    report: Option<&'a RunReport>,
    /// What the comparison with the source found before the output was published, as `verify --json` prints it; absent
    /// where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<&'a Verification>,
}

impl JsonOutput for ApplyOutput<'_> {
    const TITLE: &'static str = "Output of `qwen-fp8 apply --json`";
}

pub(super) fn apply(args: &ApplyArgs, screen: &Screen) -> Result<(), CommandError> {
    let whole = Whole::of(args, screen)?;
    let simd = simd(args.simd.as_deref())?;
    let listen =
        || Interrupt::listen().map_err(|error| CommandError::Run(format!("cannot listen for Ctrl-C: {error}")));
    let recipe = super::source::read_recipe(&args.source.recipe, screen)?;
    // Where there is nothing to put in order yet, a signal ends the command at once.
    let early = if args.download { Some(listen()?) } else { None };
    if let Some(interrupt) = &early {
        download::download(&recipe, args, interrupt, screen)?;
    }
    let plan = super::source::plan_of(recipe, &args.source, screen)?;
    if plan.checkpoint.headers_only {
        let message =
            format!("{} holds headers alone: there are no weights to quantize", shown_path(&plan.checkpoint.dir));
        let help = "`--model DIR` names the checkpoint itself; `plan` and `test` need no more than headers";
        return Err(CommandError::Input(message).with_help(&[help.to_owned()]));
    }
    // A part proves nothing: the join does.
    let wants_proof = whole.part().is_none() && wants_proof(args, &plan)?;
    if let Some(file) = &args.locked.locked {
        lock::hold(&plan, &args.source.recipe, file.as_deref(), screen)?;
    }
    let sha256 = manifest::wanted(&args.manifest);
    let interrupt = early.map_or_else(listen, Ok)?;
    let target = Target::of(args, &plan, sha256.unwrap_or_default(), &interrupt)?;
    let (output, store) = (target.output, target.store);
    let mut options = RunOptions::new(&interrupt.cancel);
    options.threads = args.threads.and_then(|threads| NonZeroUsize::new(threads.into()));
    options.max_memory = args.max_memory.unwrap_or(options.max_memory);
    options.simd = simd;
    options.restart = args.restart && !args.resume;
    options.manifest = sha256.is_some();
    options.sha256 = sha256.unwrap_or_default();
    // Looked at before the work, which may take an hour.
    let page =
        args.report.as_deref().map(|file| ReportFile::new(file, &[&plan.checkpoint.dir, &output])).transpose()?;
    say_side_files(&plan, screen);
    if let Some(parts) = args.parts.slurm
        // What is published already, or in the way, is for the join to say.
        && fs::read_dir(&output).map_or(true, |mut entries| entries.next().is_none())
    {
        slurm::run_parts(args, parts.into(), &output, &interrupt, screen)?;
    }
    let progress = ProgressReporter::of_run(screen);
    let cancellable = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
    let proof = ProofBeforePublishing::new(&plan, &output, screen, cancellable, page.as_ref());
    if wants_proof {
        options.proof = Some(&proof);
    }
    let applied = match &store {
        Some((store, scratch)) => run_to_store(&plan, store.as_ref(), scratch, &options, &progress)
            .map(|report| Applied::Published(Box::new(report))),
        None => whole.carry_out(&plan, &output, &options, &progress),
    };
    let applied = applied.map_err(|error| {
        let left = if store.is_some() { UNLOADABLE } else { UNTOUCHED };
        let failure = failure(&error, &interrupt, left).with_help(&help(&error, progress.left_behind()));
        match whole.part() {
            Some(part) => failure.in_part(part),
            None => failure,
        }
    })?;
    let proven = proof.outcome();
    let page = match (page, &proven, applied.report()) {
        (Some(page), Some(proven), Some(report)) => {
            let run = Some((&Summary::of(&plan), report));
            Some(page.write(&proven.page(&output, run, &plan.unserved), &progress).map(|bytes| (page, bytes)))
        }
        _ => None,
    };
    drop(progress);
    let is_published = matches!(applied, Applied::Published(_) | Applied::PublishedBefore);
    let pushed = target.push.filter(|_| is_published).map(|push| push.push(&output, &interrupt, screen)).transpose()?;
    screen.say(&match &applied {
        Applied::Published(report) => summary(&plan, &output, report),
        _ => parts::line(whole, &applied, &plan, &output),
    });
    if let Some(pushed) = &pushed {
        screen.say(&format!("pushed: {}", shown(pushed)));
    }
    if let Some(report) = applied.report() {
        tensor_stats::say(report, screen);
        if args.timings {
            screen.say(timings::render(report).trim_end());
        }
    }
    // Nothing says which layers of the source a smoke model without a manifest has.
    let is_known = sha256.is_some() || plan.checkpoint.cut_to.is_none();
    let can_prove = proven.is_none() && is_known;
    if matches!(applied, Applied::Published(_))
        // Servers are given a path.
        && store.is_none()
        && let Some(lines) = next_steps::lines(&plan, &output, can_prove)
    {
        screen.say_unbroken(&lines);
    }
    // The output is there, whatever becomes of the page.
    if let Some((page, bytes)) = page.transpose()? {
        page.say(bytes, screen);
    }
    if !args.json {
        return Ok(());
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (recipe, source) = (text(&plan.recipe.text.path), text(&plan.checkpoint.dir));
    let (output, verification) = (text(&output), proven.as_ref().map(|proven| &proven.verification));
    let part = whole.part().map(|part| part.to_string());
    let (outcome, report) = (applied.outcome(), applied.report());
    screen.json(&ApplyOutput { output, recipe, source, outcome, part, pushed, report, verification })
}

/// Reports whether the output is to be proven before it is published: by request, or by what the recipe expects.
fn wants_proof(args: &ApplyArgs, plan: &Plan) -> Result<bool, CommandError> {
    if plan.recipe.expect.sqnr_at_least.is_none() {
        return Ok(args.verify || args.report.is_some());
    }
    if args.manifest.no_manifest {
        let message = "what the recipe expects with `sqnr_at_least` is measured with the help of the manifest";
        return Err(CommandError::Input(message.to_owned()).with_help(&["leave out `--no-manifest`".to_owned()]));
    }
    Ok(true)
}

/// Names the files that are left out, and the code that is copied.
fn say_side_files(plan: &Plan, screen: &Screen) {
    const MOST: usize = 20;
    let left_out = &plan.checkpoint.left_out;
    for (name, why) in left_out.iter().take(MOST) {
        screen.say(&format!("left out: {} ({why})", shown(name)));
    }
    if let Some(more @ 1..) = left_out.len().checked_sub(MOST) {
        screen.say(&format!("left out: {more} more"));
    }
    for file in plan.checkpoint.side_files.iter().filter(|file| file.remote_code) {
        screen.say(&format!("copied: {} (code that a server runs with `--trust-remote-code`)", shown(&file.name)));
    }
}

/// What a signal leaves of a run.
pub(super) const UNTOUCHED: &str = "nothing was written under the output's name";

/// What a signal leaves of a run whose output is in an object store.
const UNLOADABLE: &str = "nothing that can be loaded is under the output's address";

/// The failure of a run, or of a pass over the weights; `left` says what a signal leaves of it.
pub(super) fn failure(error: &RunError, interrupt: &Interrupt, left: &str) -> CommandError {
    match error {
        RunError::Cancelled => CommandError::Interrupted(left.to_owned(), interrupt.exit_code()),
        RunError::NonFinite { .. }
        | RunError::InfiniteScale { .. }
        | RunError::Lossy { .. }
        | RunError::NoSuchGroup { .. }
        | RunError::Refused { .. } => CommandError::input(error),
        RunError::Store { .. } if interrupt.cancel.load(Ordering::Relaxed) => {
            CommandError::Interrupted(left.to_owned(), interrupt.exit_code())
        }
        RunError::Unjoinable { .. } => CommandError::parts_of_run(error),
        error => CommandError::run(error),
    }
}

/// The hints of the error, and a way to resume where finished shards are left.
pub(super) fn help(error: &RunError, left: Option<LeftBehind>) -> Vec<String> {
    let mut help = error.help();
    if let Some(LeftBehind { staging, shards }) = left {
        let staging = shown_path(&staging);
        let (shards, them) = match shards {
            1 => ("the finished shard".to_owned(), "it"),
            shards => (format!("the {shards} finished shards"), "them"),
        };
        help.push(format!("the same command resumes with {shards} in {staging}"));
        help.push(format!("`--restart` discards {them} and starts from the beginning"));
    }
    help
}

/// Where the result of a run goes.
struct Target {
    /// A directory, or an address.
    output: PathBuf,
    /// What is at the address, and the directory for what is on its way there.
    store: Option<(Box<dyn OutputStore>, PathBuf)>,
    /// The model on the hub that the directory is pushed to when it is there.
    push: Option<Push>,
}

impl Target {
    fn of(args: &ApplyArgs, plan: &Plan, sha256: Sha256Of, interrupt: &Interrupt) -> Result<Self, CommandError> {
        let output = output(args, plan)?;
        let Some(id) = &args.push else {
            let output = output.ok_or_else(|| {
                let nowhere = "nowhere to write: add `output:` to the recipe, or `--output DIR` to the command";
                CommandError::Input(nowhere.to_owned())
            })?;
            if store::is_address(&output.to_string_lossy()) {
                store::check_options(args, plan, sha256, "write to a directory, and copy that")?;
            }
            let store = store::output(&output)?.map(|store| (store, env::temp_dir()));
            return Ok(Self { output, store, push: None });
        };
        let Some(output) = output else {
            store::check_options(args, plan, sha256, "give an `--output` too: what is there is pushed")?;
            let (store, scratch) = push::begin(id, args)?.into_output(interrupt)?;
            return Ok(Self { output: store.address().into(), store: Some((store, scratch)), push: None });
        };
        if store::is_address(&output.to_string_lossy()) {
            let message = "`--push` takes the files from a directory, or from the run itself";
            return Err(CommandError::Input(message.to_owned()).with_help(&["leave out `--output`".to_owned()]));
        }
        Ok(Self { output, store: None, push: Some(push::begin(id, args)?) })
    }
}

/// The output that the command or the recipe names.
fn output(args: &ApplyArgs, plan: &Plan) -> Result<Option<PathBuf>, CommandError> {
    let named = args.output.clone().or_else(|| plan.recipe.output.as_ref().map(PathBuf::from));
    let Some(output) = named else { return Ok(None) };
    // A directory of that name would be made, which nobody means.
    if output.starts_with("~") {
        let error = format!("the output {} begins with `~`, which only a shell replaces", shown_path(&output));
        let home = HubEnvironment::of_process().home;
        let meant = with_home(&output, home.as_deref()).map(|meant| format!("did you mean {}?", shown_path(&meant)));
        return Err(CommandError::Input(error).with_help(meant.as_slice()));
    }
    Ok(Some(output))
}

fn simd(name: Option<&str>) -> Result<Simd, CommandError> {
    let Some(name) = name else { return Ok(Simd::detect()) };
    let available = Simd::available();
    available.iter().copied().find(|simd| simd.name() == name).ok_or_else(|| {
        let names: Vec<&str> = available.iter().map(|simd| simd.name()).collect();
        let names = names.join(", ");
        if Simd::NAMES.contains(&name) {
            CommandError::Run(format!("this machine has no `{name}`; it has {names}"))
        } else {
            let all = Simd::NAMES.join(", ");
            CommandError::Usage(format!("no instruction set is called {}: there are {all}", shown(name)))
                .with_help(&[format!("this machine has {names}; without `--simd` the best of them is taken")])
        }
    })
}

fn summary(plan: &Plan, output: &Path, report: &RunReport) -> String {
    let decoded = match report.tensors_dequantized {
        0 => String::new(),
        number => format!("{number} decoded, "),
    };
    let resumed = match report.shards_resumed {
        0 => String::new(),
        number => {
            let shards = count(report.shards, "shard");
            format!(
                "; resumed {number} of {shards}, read {} and wrote {}",
                human(report.bytes_read),
                human(report.bytes_written)
            )
        }
    };
    format!(
        "{}: {} quantized, {decoded}{} copied, {} → {}{resumed} in {:.1} s ({}/s)",
        output.display().to_string().escape_debug(),
        report.tensors_quantized,
        report.tensors_copied,
        human(plan.source_bytes()),
        human(plan.output_bytes()),
        report.wall_seconds,
        human(report.bytes_per_second as u64),
    )
}
