//! `qwen-fp8 delta` and `qwen-fp8 apply-delta`: what changed between two checkpoints, made and put on.

use schemars::JsonSchema;
use serde::Serialize;

use super::apply::failure;
use super::args::{ApplyDeltaArgs, DeltaArgs};
use super::error::CommandError;
use super::interrupt::Interrupt;
use super::json::JsonOutput;
use super::progress::ProgressReporter;
use super::proof::CancelledProgress;
use super::screen::Screen;
use super::source::{need_weights_here, open_checkpoint};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::{count, human, shown, shown_path};
use crate::delta::{DeltaError, DeltaFigures, OpenDelta};
use crate::run::{self, PutOn, RunError};

/// The number of files left out that are named.
const MOST: usize = 20;

/// A delta that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeltaOutput {
    /// The file that was written.
    output: String,
    /// The directory of the old checkpoint.
    old: String,
    /// The directory of the new one.
    new: String,
    #[serde(flatten)]
    figures: DeltaFigures,
}

impl JsonOutput for DeltaOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 delta --json`";
}

/// A delta that was put on.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ApplyDeltaOutput {
    /// The directory that was written.
    output: String,
    /// The delta's file.
    delta: String,
    /// The directory of the base.
    base: String,
    #[serde(flatten)]
    put_on: PutOn,
}

impl JsonOutput for ApplyDeltaOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 apply-delta --json`";
}

pub(super) fn delta(args: &DeltaArgs, screen: &Screen) -> Result<(), CommandError> {
    let (old, new) = (checkpoint_here(&args.old)?, checkpoint_here(&args.new)?);
    let interrupt = listen()?;
    let progress = ProgressReporter::of_check(screen);
    let cancelled = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
    let figures = run::make_delta(&old, &new, &args.output, &cancelled);
    let figures = figures.map_err(|error| failed(&error, &interrupt, &error.help()))?;
    drop(progress);
    for file in figures.left_out.iter().take(MOST) {
        screen.say(&format!("left out: {} ({})", shown(&file.name), file.why));
    }
    if let Some(more @ 1..) = figures.left_out.len().checked_sub(MOST) {
        screen.say(&format!("left out: {more} more"));
    }
    screen.say(&summary(args, &figures));
    if !args.json {
        return Ok(());
    }
    let text = |checkpoint: &Checkpoint| checkpoint.dir.to_string_lossy().into_owned();
    let output = args.output.to_string_lossy().into_owned();
    screen.json(&DeltaOutput { output, old: text(&old), new: text(&new), figures })
}

fn summary(args: &DeltaArgs, figures: &DeltaFigures) -> String {
    let place =
        format!("{}: {} for {}", shown_path(&args.output), human(figures.delta_bytes), human(figures.new_bytes));
    let changes = [
        (figures.changed_tensors, "changed"),
        (figures.renamed_tensors, "renamed"),
        (figures.new_tensors, "new"),
        (figures.removed_tensors, "removed"),
    ];
    let changes: Vec<_> =
        changes.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    let unchanged = count(figures.unchanged_tensors as usize, "tensor");
    if changes.is_empty() && figures.changed_pieces == 0 && figures.removed_files == 0 {
        return format!("{place}; nothing changed: {unchanged}");
    }
    let of_pieces = format!("{} of {} changed", figures.changed_pieces, count(figures.pieces as usize, "piece"));
    let removed = match figures.removed_files {
        0 => String::new(),
        removed => format!("; {} removed", count(removed as usize, "file")),
    };
    format!(
        "{place}; {unchanged} the same, {of_pieces}{}{}{removed}",
        if changes.is_empty() { "" } else { "; tensors: " },
        changes.join(", ")
    )
}

pub(super) fn apply_delta(args: &ApplyDeltaArgs, screen: &Screen) -> Result<(), CommandError> {
    let delta = OpenDelta::open(&args.delta).map_err(|error| {
        let blamed = if error.is_of_input() { CommandError::input(&error) } else { CommandError::run(&error) };
        blamed.with_help(&error.help())
    })?;
    let base = checkpoint_here(&args.base)?;
    let interrupt = listen()?;
    let progress = ProgressReporter::of_check(screen);
    let cancelled = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
    let put_on = run::apply_delta(&delta, &base, &args.output, args.restart, &progress, &cancelled);
    let put_on = put_on.map_err(|error| {
        let help = super::apply::help(&error, progress.left_behind());
        failed(&error, &interrupt, &help)
    })?;
    drop(progress);
    let (output, files) = (shown_path(&args.output), count(put_on.files as usize, "file"));
    screen.say(&format!("{output}: {files}, {}", human(put_on.output_bytes)));
    if !args.json {
        return Ok(());
    }
    screen.json(&ApplyDeltaOutput {
        output: args.output.to_string_lossy().into_owned(),
        delta: args.delta.to_string_lossy().into_owned(),
        base: base.dir.to_string_lossy().into_owned(),
        put_on,
    })
}

/// Opens a checkpoint whose weights are on this machine.
fn checkpoint_here(model: &str) -> Result<Checkpoint, CommandError> {
    let checkpoint = open_checkpoint(model)?;
    need_weights_here(&checkpoint, "a delta is made from and put on the weights of a checkpoint")?;
    if checkpoint.headers_only {
        let message = format!("{} holds headers alone: there are no weights to read", shown_path(&checkpoint.dir));
        return Err(CommandError::Input(message).with_help(&["give the checkpoint itself".to_owned()]));
    }
    Ok(checkpoint)
}

fn listen() -> Result<Interrupt, CommandError> {
    Interrupt::listen().map_err(|error| CommandError::Run(format!("cannot listen for Ctrl-C: {error}")))
}

/// The failure of a run of either command.
fn failed(error: &RunError, interrupt: &Interrupt, help: &[String]) -> CommandError {
    let failure = match error {
        RunError::Delta(DeltaError::Cancelled) => failure(&RunError::Cancelled, interrupt, super::apply::UNTOUCHED),
        RunError::Delta(of_delta) if of_delta.is_of_input() => CommandError::input(error),
        error => failure(error, interrupt, super::apply::UNTOUCHED),
    };
    failure.with_help(help)
}
