//! `qwen-fp8 apply`: plan, run, and say what came of it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use qwen_fp8_schemes::Simd;

use super::args;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::screen::{Failure, Screen};
use super::stats;
use crate::checkpoint::text::human;
use crate::checkpoint::text::{shown, shown_path};
use crate::cli::timings;
use crate::plan::Plan;
use crate::run::{LeftBehind, RunError, RunOptions, RunReport, Sha256Of, run};

pub(super) fn apply(args: &args::Apply, screen: &Screen) -> Result<(), Failure> {
    let simd = simd(args.simd.as_deref())?;
    let plan = super::source::plan(&args.source, screen)?;
    let output = output(args, &plan)?;
    let interrupt = Interrupt::listen().map_err(|error| Failure::Run(format!("cannot listen for Ctrl-C: {error}")))?;
    let mut options = RunOptions::new(&interrupt.cancel);
    options.threads = args.threads.and_then(|threads| NonZeroUsize::new(threads.into()));
    options.max_memory = args.max_memory.unwrap_or(options.max_memory);
    options.simd = simd;
    options.restart = args.restart && !args.resume;
    options.manifest = !args.no_manifest;
    options.sha256 = sha256(args.sha256);
    say_what_is_not_plain(&plan, screen);
    let progress = Progress::new(screen);
    let report = run(&plan, &output, &options, &progress)
        .map_err(|error| failure(&error, &interrupt).with_help(&help(&error, progress.left_behind())))?;
    drop(progress);
    screen.say(&summary(&plan, &output, &report));
    stats::say(&report, screen);
    if args.timings {
        screen.say(timings::render(&report).trim_end());
    }
    if args.json { screen.json(&report) } else { Ok(()) }
}

/// Files that stay behind, and code that comes along.
fn say_what_is_not_plain(plan: &Plan, screen: &Screen) {
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

fn failure(error: &RunError, interrupt: &Interrupt) -> Failure {
    match error {
        RunError::Cancelled => {
            Failure::Interrupted("nothing was written under the output's name".to_owned(), interrupt.exit_code())
        }
        RunError::NonFinite { .. } | RunError::InfiniteScale { .. } => Failure::input(error),
        error => Failure::run(error),
    }
}

/// What can be done, and what is left to go on from.
fn help(error: &RunError, left: Option<LeftBehind>) -> Vec<String> {
    let mut help = error.help();
    if let Some(LeftBehind { staging, shards }) = left {
        let staging = shown_path(&staging);
        let shards =
            if shards == 1 { "the finished shard".to_owned() } else { format!("the {shards} finished shards") };
        help.push(format!("the same command resumes from {shards} in {staging}"));
        help.push("`--restart` throws that away and starts afresh".to_owned());
    }
    help
}

fn sha256(of: Option<args::Sha256>) -> Sha256Of {
    use args::Sha256::{All, Output, Source};
    Sha256Of { output: matches!(of, Some(Output | All)), source: matches!(of, Some(Source | All)) }
}

fn output(args: &args::Apply, plan: &Plan) -> Result<PathBuf, Failure> {
    args.output.clone().or_else(|| plan.recipe.output.as_ref().map(PathBuf::from)).ok_or_else(|| {
        Failure::Input("nowhere to write: add `output:` to the recipe, or `--output DIR` to the command".to_owned())
    })
}

fn simd(name: Option<&str>) -> Result<Simd, Failure> {
    let Some(name) = name else { return Ok(Simd::detect()) };
    let available = Simd::available();
    available.iter().copied().find(|simd| simd.name() == name).ok_or_else(|| {
        let names: Vec<&str> = available.iter().map(|simd| simd.name()).collect();
        Failure::Run(format!("this machine has no `{}`; it has {}", name.escape_debug(), names.join(", ")))
    })
}

fn summary(plan: &Plan, output: &std::path::Path, report: &RunReport) -> String {
    let decoded = match report.tensors_dequantized {
        0 => String::new(),
        number => format!("{number} decoded, "),
    };
    format!(
        "{}: {} quantized, {decoded}{} copied, {} → {} in {:.1} s ({}/s)",
        output.display().to_string().escape_debug(),
        report.tensors_quantized,
        report.tensors_copied,
        human(plan.source_bytes()),
        human(plan.output_bytes()),
        report.wall_seconds,
        human(report.bytes_per_second as u64),
    )
}
