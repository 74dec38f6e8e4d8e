//! `qwen-fp8 verify`: the proof of a result.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::VerifyArgs;
use super::error::CommandError;
use super::findings::{fail_on_errors, render, report, verdict};
use super::json::JsonOutput;
use super::screen::Screen;
use super::source::checkpoint_dir;
use super::table::{Align, TextTable};
use crate::check::{self, CheckedAs, CheckedTensor, Verification};
use crate::checkpoint::manifest::{Manifest, Mismatch};
use crate::checkpoint::model_id::HubEnvironment;
use crate::checkpoint::text::{grouped, human, shown, shown_path};

/// The number of tensors that are shown, the noisiest first.
const SHOWN: usize = 10;

/// The proof, and what differs from the manifest where that was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VerifyOutput<'a> {
    #[serde(flatten)]
    verification: &'a Verification,
    /// The differences from the manifest; absent without `--manifest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a [Mismatch]>,
}

impl JsonOutput for VerifyOutput<'_> {
    const TITLE: &'static str = "Output of `qwen-fp8 verify --json`";
}

pub(super) fn verify(args: &VerifyArgs, screen: &Screen) -> Result<(), CommandError> {
    let output = checkpoint_dir(&args.output)?;
    let (source, recorded) = source(args, &output, screen)?;
    let mut verification = check::verify(&output, source.as_deref(), &args.fail_if)?;
    verification.source_recorded = recorded;
    let manifest = args.manifest.then(|| mismatches(&output)).transpose()?;
    if args.json {
        screen.json(&VerifyOutput { verification: &verification, manifest: manifest.as_deref() })?;
    } else {
        report(&verification.findings, || text(&verification, screen.verbose), screen)?;
    }
    fail_on_errors(&verification.findings)?;
    match manifest.as_deref() {
        None => Ok(()),
        Some([]) => {
            screen.say("every file and tensor is what the manifest says");
            Ok(())
        }
        Some(mismatches) => {
            let lines: Vec<String> = mismatches.iter().map(line).collect();
            Err(CommandError::Input(format!("the output is not what its manifest says\n{}", lines.join("\n"))))
        }
    }
}

/// The directory of the source, if it is known, and whether the manifest names it.
fn source(args: &VerifyArgs, output: &Path, screen: &Screen) -> Result<(Option<PathBuf>, bool), CommandError> {
    if let Some(source) = &args.source {
        return Ok((Some(checkpoint_dir(source)?), false));
    }
    if args.no_source {
        return Ok((None, false));
    }
    match check::recorded_source(output, HubEnvironment::of_process().hub_cache().as_deref()) {
        Ok(source) => {
            screen.say(&format!("compared with {}, which the manifest names as its source", shown_path(&source)));
            Ok((Some(source), true))
        }
        Err(missing) if args.fail_if.is_empty() => {
            screen.say(&format!("weights were not compared: {missing}; say where it is with `--source`"));
            Ok((None, false))
        }
        Err(missing) => {
            let failure = CommandError::Run(format!("`--fail-if` has nothing to compare with: {missing}"));
            Err(failure.with_help(&["say where it is with `--source`".to_owned()]))
        }
    }
}

/// The differences between the output and its manifest.
fn mismatches(output: &Path) -> Result<Vec<Mismatch>, CommandError> {
    let manifest = Manifest::read(output).map_err(|error| CommandError::input(&error))?;
    Ok(manifest.check(output, &AtomicBool::new(false)))
}

fn line(mismatch: &Mismatch) -> String {
    let tensor = mismatch.tensor.as_deref().map_or_else(String::new, |tensor| format!(", {}", shown(tensor)));
    format!("  {}{tensor}: {}", shown(&mismatch.file), mismatch.what)
}

fn text(verification: &Verification, verbose: bool) -> String {
    let mut text = render(&verification.findings, verbose);
    let mut sections = Vec::new();
    if !verification.kinds.is_empty() {
        sections.push(kinds(verification));
    }
    let noisiest = noisiest(verification, verbose);
    if !noisiest.is_empty() {
        sections.push(tensors(&noisiest));
    }
    for section in sections {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&section);
    }
    let of = |action| verification.tensors.iter().filter(move |tensor| tensor.action == action);
    let bytes: u64 = verification.tensors.iter().map(|tensor| tensor.bytes).sum();
    let proven = match verification.source {
        Some(_) => {
            let (copied, quantized) = (of(CheckedAs::Copied).count(), of(CheckedAs::Quantized).count());
            let (passed_through, decoded) = (of(CheckedAs::PassedThrough).count(), of(CheckedAs::Dequantized).count());
            let mut proven = format!("{copied} copied, {quantized} quantized");
            for (number, what) in [(passed_through, "passed through"), (decoded, "dequantized")] {
                if number > 0 {
                    proven.push_str(&format!(", {number} {what}"));
                }
            }
            proven
        }
        None => {
            let (decoded, unread) = (of(CheckedAs::Decoded).count(), of(CheckedAs::Unread).count());
            format!("{decoded} decoded, {unread} not read since there is no source to compare them with")
        }
    };
    let word = if verification.sound { "sound" } else { "at fault" };
    text.push_str(&format!("\n{word}: {proven}, {}; {}\n", human(bytes), verdict(&verification.findings)));
    text
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
            action(kind.action).to_owned(),
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

fn noisiest(verification: &Verification, verbose: bool) -> Vec<&CheckedTensor> {
    let noise = |tensor: &&CheckedTensor| tensor.figures.and_then(|figures| figures.sqnr_db).unwrap_or(f64::INFINITY);
    let mut tensors: Vec<_> = verification.tensors.iter().filter(|tensor| tensor.figures.is_some()).collect();
    tensors.sort_by(|a, b| noise(a).total_cmp(&noise(b)));
    tensors.truncate(if verbose { usize::MAX } else { SHOWN });
    tensors
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
        let worst = tensor.worst.map_or_else(String::new, |worst| {
            let ([row, column], [rows, columns]) = (worst.at, worst.size);
            format!("{:.1} dB in {rows} × {columns} at [{row}, {column}]", worst.sqnr_db)
        });
        table.row([
            tensor.name.escape_debug().to_string(),
            decibels(figures.sqnr_db),
            format!("{:.3e}", figures.max_error),
            format!("{:.6}", figures.cosine),
            grouped(figures.saturated),
            grouped(figures.flushed),
            worst,
        ]);
    }
    table.render()
}

fn action(action: CheckedAs) -> &'static str {
    match action {
        CheckedAs::Copied => "copied",
        CheckedAs::PassedThrough => "passed through",
        CheckedAs::Dequantized => "dequantized",
        CheckedAs::Quantized => "quantized",
        CheckedAs::Decoded => "decoded",
        CheckedAs::Unread => "not read",
    }
}

fn decibels(sqnr: Option<f64>) -> String {
    sqnr.map_or_else(|| "exact".to_owned(), |sqnr| format!("{sqnr:.2} dB"))
}
