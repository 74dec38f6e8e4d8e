//! `qwen-fp8 verify`: the proof of a result.

use std::path::Path;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::adapters::GIVE_ADAPTERS;
use super::args::VerifyArgs;
use super::error::CommandError;
use super::findings::{fail_on_errors, render, report, verdict};
use super::json::JsonOutput;
use super::progress::ProgressReporter;
use super::report::{Proven, ReportFile};
use super::screen::Screen;
use super::source::{checkpoint_place, open_adapter};
use super::table::{Align, TextTable};
use crate::check::{self, CheckedAs, CheckedTensor, NoSource, Verdict, Verification};
use crate::checkpoint::adapter::Adapter;
use crate::checkpoint::hub::HubEnvironment;
use crate::checkpoint::manifest::{Manifest, Mismatch};
use crate::checkpoint::text::{Sample, count, decibels, grouped, human, shown, shown_path};
use crate::checkpoint::{Checkpoint, CheckpointPlace};
use crate::plan::unserved_checkpoint;

/// The number of tensors that are shown, the noisiest first.
const SHOWN: usize = 10;

/// The way out where the source is not found.
const SAY_WHERE: &str = "say where it is with `--source`";

/// The line that says that a bound could not fail.
const MEASURED_NOTHING: &str = "`--fail-if` was held against no tensor: none was quantized from the source, so that there is no error to measure\n";

/// The exit code where no fault was found and not everything was proven.
const NOT_ALL_PROVEN: u8 = 3;
/// The exit code where there was nothing to prove.
const NOTHING_TO_PROVE: u8 = 4;

/// The proof, and what differs from the manifest where that was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VerifyOutput<'a> {
    #[serde(flatten)]
    verification: &'a Verification,
    /// The differences from the manifest; absent without `--manifest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a [Mismatch]>,
    /// The number of tensors that the bounds of `--fail-if` were held against; absent without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_if_tensors: Option<usize>,
}

impl JsonOutput for VerifyOutput<'_> {
    const TITLE: &'static str = "Output of `qwen-fp8 verify --json`";
}

pub(super) fn verify(args: &VerifyArgs, screen: &Screen) -> Result<(), CommandError> {
    let output = checkpoint_place(&args.output).map_err(CommandError::of_run)?;
    // Read before any work: one that cannot be read would otherwise be met after a minute of it.
    let manifest = args.manifest.then(|| Manifest::read_at(&output)).transpose();
    let manifest = manifest.map_err(|error| CommandError::input(&error))?;
    let adapters: Vec<Adapter> = args.adapter.iter().map(|adapter| open_adapter(adapter)).collect::<Result<_, _>>()?;
    let source = source(args, &output, screen)?;
    let places: Vec<&CheckpointPlace> =
        [&output].into_iter().chain(source.as_ref().ok().map(|(place, _)| place)).collect();
    let report_file = report_file(args, &places)?;
    check::on_threads_for(&places, || prove(args, &output, &source, &adapters, manifest, report_file, screen))
}

fn prove(
    args: &VerifyArgs,
    output: &CheckpointPlace,
    source: &Result<(CheckpointPlace, bool), Unnamed>,
    adapters: &[Adapter],
    manifest: Option<Manifest>,
    report_file: Option<ReportFile>,
    screen: &Screen,
) -> Result<(), CommandError> {
    let began = Instant::now();
    let progress = ProgressReporter::of_check(screen);
    let place = source.as_ref().ok().map(|(place, _)| place);
    let mut verification =
        check::verify_merged(output, place, adapters, &args.fail_if, &progress).map_err(|error| {
            let unchecked =
                manifest.is_some().then(|| "the checksums of the manifest were not compared either".to_owned());
            CommandError::from(error).with_help(unchecked.as_slice())
        })?;
    match source {
        Ok((_, recorded)) => verification.source_recorded = *recorded,
        Err(missing) if verification.verdict != Verdict::NothingToProve => {
            verification.unproven.insert(0, format!("no tensor was compared with a source: {}", missing.why));
        }
        Err(_) => {}
    }
    // Whatever came of the comparison: checksums that were asked for are compared, or the command says so.
    let mismatches = manifest.map(|manifest| manifest.check_at(output, &progress));
    let seconds = began.elapsed().as_secs_f64();
    let checksums = mismatches.as_deref();
    let unserved = Checkpoint::open_at(output).map(|output| unserved_checkpoint(&output)).unwrap_or_default();
    let output = output.path();
    let proven = Proven { verification: &verification, output, seconds, checksums, run: None, unserved: &unserved };
    // Written whatever the verdict is, and its failure told last: the verdict is worth more.
    let written = report_file.as_ref().map(|file| file.write(&proven, &progress).map(|bytes| (file, bytes)));
    drop(progress);
    let measured = verification.tensors.iter().filter(|tensor| tensor.figures.is_some()).count();
    let fail_if_tensors = (!args.fail_if.is_empty()).then_some(measured);
    if args.json {
        let manifest = mismatches.as_deref();
        screen.json(&VerifyOutput { verification: &verification, manifest, fail_if_tensors })?;
    } else {
        let all = || {
            let way_out = source.as_ref().err().and_then(|missing| missing.way_out.as_deref());
            let text = text(&verification, mismatches.as_deref(), way_out, screen.verbose);
            if fail_if_tensors == Some(0) { text + MEASURED_NOTHING } else { text }
        };
        report(&verification.findings, all, screen)?;
        if screen.quiet {
            screen.data(&faults(&verification, mismatches.as_deref(), args.no_source))?;
        }
    }
    if let Some((file, bytes)) = written.transpose()? {
        file.say(bytes, screen);
    }
    fail_on_errors(&verification.findings)?;
    if mismatches.is_some_and(|mismatches| !mismatches.is_empty()) {
        return Err(CommandError::Reported);
    }
    match verification.verdict {
        Verdict::Proven => Ok(()),
        verdict if args.require_source => {
            let why = verification.unproven.join("; ");
            let found = match verdict {
                Verdict::NothingToProve => "there is nothing to prove".to_owned(),
                Verdict::StructureOnly => "only the structure was checked".to_owned(),
                verdict => format!("the result is {}", verdict.name()),
            };
            Err(CommandError::Input(format!("`--require-source` wants a proof, and {found}: {why}")))
        }
        Verdict::StructureOnly if args.no_source => Ok(()),
        Verdict::PartlyProven | Verdict::StructureOnly => Err(CommandError::Verdict(NOT_ALL_PROVEN)),
        Verdict::NothingToProve => Err(CommandError::Verdict(NOTHING_TO_PROVE)),
        Verdict::AtFault => Err(CommandError::Reported),
    }
}

/// The file of the page, where one was asked for.
fn report_file(args: &VerifyArgs, places: &[&CheckpointPlace]) -> Result<Option<ReportFile>, CommandError> {
    let checkpoints: Vec<&Path> = places.iter().map(|place| place.path()).collect();
    args.report.as_deref().map(|path| ReportFile::new(path, &checkpoints)).transpose()
}

/// A source that nobody has named, and that was not found.
struct Unnamed {
    why: String,
    /// What to do about it; `None` where none is wanted.
    way_out: Option<String>,
}

impl Unnamed {
    fn of(missing: &NoSource) -> Self {
        let way_out = match missing {
            NoSource::Nowhere { model } if model.contains('/') && model.contains('@') => {
                format!("`--source {model}` reads it from the hub, and `--source DIR` from a directory")
            }
            _ => SAY_WHERE.to_owned(),
        };
        Self { why: missing.to_string(), way_out: Some(way_out) }
    }
}

/// The source and whether the manifest names it, or why there is none.
fn source(
    args: &VerifyArgs,
    output: &CheckpointPlace,
    screen: &Screen,
) -> Result<Result<(CheckpointPlace, bool), Unnamed>, CommandError> {
    if let Some(source) = &args.source {
        return Ok(Ok((checkpoint_place(source).map_err(CommandError::of_run)?, false)));
    }
    if args.no_source {
        return Ok(Err(Unnamed { why: "`--no-source` was given".to_owned(), way_out: None }));
    }
    let asking = match () {
        () if !args.fail_if.is_empty() => Some("`--fail-if`"),
        () if args.require_source => Some("`--require-source`"),
        () => None,
    };
    if let Some(merged) = merged_adapters(output).filter(|_| args.adapter.is_empty()) {
        let why = format!("it was made with {merged} merged into its source, and no adapter is given");
        return match asking {
            None => Ok(Err(Unnamed { why, way_out: Some(GIVE_ADAPTERS.to_owned()) })),
            Some(asking) => {
                let failure = CommandError::Run(format!("{asking} has nothing to compare with: {why}"));
                Err(failure.with_help(&[GIVE_ADAPTERS.to_owned()]))
            }
        };
    }
    match (check::recorded_source(output, HubEnvironment::of_process().hub_cache().as_deref()), asking) {
        (Ok(source), _) => {
            screen.say(&format!("compared with {}, which the manifest names as its source", shown_path(&source)));
            Ok(Ok((CheckpointPlace::Directory(source), true)))
        }
        (Err(missing), None) => Ok(Err(Unnamed::of(&missing))),
        (Err(missing), Some(asking)) => {
            let failure = CommandError::Run(format!("{asking} has nothing to compare with: {missing}"));
            Err(failure.with_help(Unnamed::of(&missing).way_out.as_slice()))
        }
    }
}

/// The names of the adapters that were merged, according to the manifest; `None` where there are none.
fn merged_adapters(output: &CheckpointPlace) -> Option<Sample> {
    let manifest = Manifest::read_at(output).ok()?;
    let names: Sample = manifest.source.adapters.iter().map(|adapter| &adapter.name).collect();
    (!names.is_empty()).then_some(names)
}

/// The last lines for the checksums.
fn checksums(mismatches: &[Mismatch]) -> String {
    if mismatches.is_empty() {
        return "checksums: every file and tensor is what the manifest says\n".to_owned();
    }
    let lines: String = mismatches.iter().map(|mismatch| line(mismatch) + "\n").collect();
    let number = count(mismatches.len(), "difference");
    format!("checksums: the output is not what its manifest says, {number}\n{lines}")
}

fn line(mismatch: &Mismatch) -> String {
    let tensor = mismatch.tensor.as_deref().map_or_else(String::new, |tensor| format!(", {}", shown(tensor)));
    format!("  {}{tensor}: {}", shown(&mismatch.file), mismatch.what)
}

/// What `--quiet` says beside the findings: a proof that is missing, and checksums that differ.
fn faults(verification: &Verification, mismatches: Option<&[Mismatch]>, sourceless: bool) -> String {
    let mut text = match verification.verdict {
        Verdict::Proven | Verdict::AtFault => String::new(),
        Verdict::StructureOnly if sourceless => String::new(),
        verdict => format!("{}: {}\n", verdict.name(), verification.unproven.join("; ")),
    };
    if let Some(mismatches) = mismatches.filter(|mismatches| !mismatches.is_empty()) {
        text.push_str(&checksums(mismatches));
    }
    text
}

/// The report for people; `way_out` says how a source that was not found can be named.
fn text(verification: &Verification, mismatches: Option<&[Mismatch]>, way_out: Option<&str>, verbose: bool) -> String {
    let mut text = render(&verification.findings, verbose);
    let mut sections = Vec::new();
    if !verification.kinds.is_empty() {
        sections.push(kinds(verification));
    }
    let mut noisiest = verification.noisiest();
    noisiest.truncate(if verbose { usize::MAX } else { SHOWN });
    if !noisiest.is_empty() {
        sections.push(tensors(&noisiest));
    }
    for section in sections {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&section);
    }
    text.push_str(&format!("\n{}; {}\n", proof(verification), verdict(&verification.findings)));
    for why in &verification.unproven {
        text.push_str(&format!("not proven: {why}\n"));
    }
    if let Some(way_out) = way_out.filter(|_| verification.verdict == Verdict::StructureOnly) {
        text.push_str(&format!("  = help: {way_out}\n"));
    }
    text.push_str(&mismatches.map_or_else(String::new, checksums));
    text
}

/// The verdict, what it was found against, and how many tensors were judged in which way.
pub(super) fn proof(verification: &Verification) -> String {
    let against = match (verification.source.as_ref().map(CheckpointPlace::path), verification.source_layers) {
        (None, _) => String::new(),
        (Some(source), None) => format!(" against {}", shown_path(source)),
        (Some(source), Some(1)) => format!(" against the first layer of {}", shown_path(source)),
        (Some(source), Some(layers)) => format!(" against the first {layers} layers of {}", shown_path(source)),
    };
    let compared = verification.source.is_some();
    // Each with whether it is shown though it is zero.
    let judged = [
        (CheckedAs::Copied, compared),
        (CheckedAs::Quantized, compared),
        (CheckedAs::Merged, false),
        (CheckedAs::PassedThrough, false),
        (CheckedAs::Dequantized, false),
        (CheckedAs::Decoded, !compared),
        (CheckedAs::Unread, !compared),
    ];
    let lossless = verification.tensors.iter().filter(|tensor| tensor.lossless).count();
    let judged: Vec<String> = judged
        .into_iter()
        .map(|(as_, shown)| (as_, shown, verification.tensors.iter().filter(|tensor| tensor.action == as_).count()))
        .filter(|(_, shown, number)| *shown || *number > 0)
        .map(|(as_, _, number)| match lossless {
            1.. if as_ == CheckedAs::Quantized && lossless == number => format!("{number} quantized, lossless"),
            1.. if as_ == CheckedAs::Quantized => format!("{number} quantized, {lossless} of them lossless"),
            _ => format!("{number} {}", as_.name()),
        })
        .collect();
    let bytes: u64 = verification.tensors.iter().map(|tensor| tensor.bytes).sum();
    format!("{}{against}: {}, {}", verification.verdict.name(), judged.join(", "), human(bytes))
}

fn kinds(verification: &Verification) -> String {
    let mut table = TextTable::new(&[
        ("layer", Align::Left),
        ("action", Align::Left),
        ("tensors", Align::Right),
        ("bytes", Align::Right),
        ("least SQNR", Align::Right),
        ("max error", Align::Right),
        ("least cosine", Align::Right),
        ("saturated", Align::Right),
        ("flushed", Align::Right),
    ]);
    for kind in &verification.kinds {
        let has_figures = kind.action == CheckedAs::Quantized;
        let figure = |text: String| if has_figures { text } else { String::new() };
        table.row([
            kind.kind.escape_debug().to_string(),
            kind.action.name().to_owned(),
            kind.tensors.to_string(),
            grouped(kind.bytes),
            figure(decibels(kind.min_sqnr_db)),
            kind.max_error.map_or_else(String::new, |error| format!("{error:.3e}")),
            kind.min_cosine.map_or_else(String::new, |cosine| format!("{cosine:.6}")),
            figure(grouped(kind.saturated)),
            figure(grouped(kind.flushed)),
        ]);
    }
    table.render()
}

fn tensors(tensors: &[&CheckedTensor]) -> String {
    let mut table = TextTable::new(&[
        ("noisiest tensors", Align::Left),
        ("SQNR", Align::Right),
        ("max error", Align::Right),
        ("cosine", Align::Right),
        ("saturated", Align::Right),
        ("flushed", Align::Right),
        ("worst block", Align::Left),
    ]);
    for tensor in tensors {
        let Some(figures) = tensor.figures else { continue };
        let worst = tensor.worst.map_or_else(String::new, |worst| worst.to_string());
        let [sqnr, error, cosine, saturated, flushed] = figures.shown();
        table.row([tensor.name.escape_debug().to_string(), sqnr, error, cosine, saturated, flushed, worst]);
    }
    table.render()
}
