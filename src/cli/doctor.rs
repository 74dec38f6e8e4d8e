//! `qwen-fp8 doctor`: the checklist of a machine, a source and an output, before a run.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use qwen_fp8_schemes::Simd;

use super::args::DoctorArgs;
use super::error::CommandError;
use super::failure::FailureBody;
use super::json::JsonOutput;
use super::next_steps::typed;
use super::screen::Screen;
use super::source::{checkpoint_of, open_checkpoint, planned, read_recipe};
use super::store;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::{count, human, shown_path, unquoted};
use crate::doctor::{
    Checklist, ChecklistLine, GpuFacts, Judgement, MachineFacts, Mount, OutputPlace, PythonEnvironment, PythonFacts,
    ReadSample, server_lines, source_place,
};
use crate::fit::FitSubject;
use crate::plan::Plan;
use crate::plan::summary::Summary;
use crate::run::{MEMORY_OF_A_RUN, Sha256Of, bytes_left_by, manifest_size};

/// The exit code where there is a problem.
const PROBLEM: u8 = 1;

impl JsonOutput for Checklist {
    const TITLE: &'static str = "Output of `qwen-fp8 doctor --json`";
}

pub(super) fn doctor(args: &DoctorArgs, screen: &Screen) -> Result<(), CommandError> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let machine = MachineFacts::read(Path::new("/"), Simd::detect().name(), threads);
    let is_wsl = machine.wsl().is_some();
    let mut lines = Vec::new();
    let examined = examine(args, screen, &mut lines);
    if let Some(source) = &examined.source {
        lines.extend(Mount::read(&source.dir).map(|mount| source_place(&source.dir, &mount, is_wsl)));
        let is_here = !source.headers_only && source.repository.is_none();
        lines.extend(is_here.then(|| reading(source, threads)));
    }
    if let Some(output) = examined.output.as_ref().filter(|output| !store::is_address(&output.to_string_lossy())) {
        lines.extend(place(output, examined.plan.as_ref(), is_wsl));
    }
    lines.extend(machine.lines(MEMORY_OF_A_RUN));
    let environment = PythonEnvironment::of_process();
    let subject = examined.plan.as_ref().map(|plan| FitSubject::of_plan(plan, 1));
    let recipe = args.recipe.as_deref().and_then(typed).unwrap_or_else(|| "RECIPE".to_owned());
    lines.extend(GpuFacts::ask(&environment.path).lines(subject.as_ref(), &recipe));
    lines.extend(server_lines(PythonFacts::ask(&environment).as_ref(), examined.source.as_ref()));
    let checklist = Checklist::new(lines);
    if args.json {
        screen.json(&checklist)?;
    } else if screen.quiet {
        let problems = checklist.lines.iter().filter(|line| line.judgement == Judgement::Problem);
        screen.data(&problems.map(text_of).collect::<String>())?;
    } else {
        screen.report(&text(&checklist))?;
    }
    if checklist.problems > 0 { Err(CommandError::Verdict(PROBLEM)) } else { Ok(()) }
}

/// The source and the output that were named, as far as they can be used.
#[derive(Default)]
struct Examined {
    source: Option<Checkpoint>,
    plan: Option<Plan>,
    /// The output's path.
    output: Option<PathBuf>,
}

/// Reads recipe and source, and makes the plan; a line for each, where it fails one that says why.
fn examine(args: &DoctorArgs, screen: &Screen, lines: &mut Vec<ChecklistLine>) -> Examined {
    let mut examined = Examined { output: args.output.clone(), ..Examined::default() };
    let Some(path) = &args.recipe else {
        let opened = args.model.as_ref().map(|model| open_checkpoint(model));
        examined.source = opened.and_then(|opened| taken(opened, "source", source_line, screen, lines));
        return examined;
    };
    let read = read_recipe(path, screen);
    let line = |_: &_| ChecklistLine::ok("recipe", format!("{} can be read", shown_path(path)));
    let Some(recipe) = taken(read, "recipe", line, screen, lines) else { return examined };
    examined.output = examined.output.or_else(|| recipe.output.as_ref().map(PathBuf::from));
    let opened = checkpoint_of(&recipe, args.model.as_deref(), screen);
    let Some(source) = taken(opened, "source", source_line, screen, lines) else { return examined };
    examined.plan = taken(planned(recipe, source.clone(), screen), "plan", plan_line, screen, lines);
    examined.source = Some(source);
    examined
}

/// Takes what succeeded, with its line; of what failed, the line says why.
fn taken<T>(
    result: Result<T, CommandError>,
    subject: &'static str,
    line: impl FnOnce(&T) -> ChecklistLine,
    screen: &Screen,
    lines: &mut Vec<ChecklistLine>,
) -> Option<T> {
    match result {
        Ok(value) => {
            lines.push(line(&value));
            Some(value)
        }
        Err(failure) => {
            let body = FailureBody::new(&failure, screen.take_diagnostics());
            let advice =
                if body.help.is_empty() { "mend it as the message says".to_owned() } else { body.help.join("; ") };
            let place = body.places.first().map_or_else(String::new, |place| {
                let at = place.line.zip(place.column).map(|(line, column)| format!(":{line}:{column}"));
                format!("{}{}: ", unquoted(&place.file), at.unwrap_or_default())
            });
            lines.push(ChecklistLine::problem(subject, place + &body.message, advice));
            None
        }
    }
}

/// Says that a source is complete: an incomplete one cannot be opened.
fn source_line(source: &Checkpoint) -> ChecklistLine {
    const SUBJECT: &str = "source";
    let bytes = source.shards.iter().map(|shard| shard.size).sum();
    let of = format!(
        "{}: {} in {}, {}",
        shown_path(&source.dir),
        count(source.tensors.len(), "tensor"),
        count(source.shards.len(), "shard"),
        human(bytes)
    );
    let has_words = source.side_files.iter().any(|file| {
        let name = file.name.as_str();
        name.starts_with("tokenizer.")
            || name.starts_with("tekken")
            || name.starts_with("vocab")
            || name.contains("tiktoken")
    });
    if source.headers_only {
        return ChecklistLine::note(
            SUBJECT,
            format!("{of}; headers alone, without weights"),
            "`--model DIR` names the checkpoint itself",
        );
    }
    if has_words {
        ChecklistLine::ok(SUBJECT, format!("{of}; complete: every shard is there and as long as its header says"))
    } else {
        let advice = "get the tokenizer's files too (`hf download`), unless you serve with another `--tokenizer`";
        ChecklistLine::note(SUBJECT, format!("{of}; its weights are complete, and it has no tokenizer"), advice)
    }
}

fn plan_line(plan: &Plan) -> ChecklistLine {
    let summary = Summary::of(plan);
    let [source, output] = [summary.source_bytes, summary.output_bytes].map(human);
    ChecklistLine::ok(
        "plan",
        format!("{} quantized, {source} become {output}", count(summary.quantized_tensors, "tensor")),
    )
}

/// Measures how fast the source can be read.
fn reading(source: &Checkpoint, threads: usize) -> ChecklistLine {
    let bytes = source.shards.iter().map(|shard| shard.size).sum();
    match ReadSample::measure(&source.shards, threads) {
        Ok(sample) => sample.line(bytes),
        Err(error) => {
            let help = error.help().join("; ");
            let advice =
                if help.is_empty() { "look at the disk: `dmesg` says what the system met".to_owned() } else { help };
            ChecklistLine::problem("reading", error.to_string(), advice)
        }
    }
}

/// Looks at the place of the output.
fn place(output: &Path, plan: Option<&Plan>, is_wsl: bool) -> Vec<ChecklistLine> {
    let files = plan.map(files_of);
    match OutputPlace::read(output, files.as_deref(), bytes_left_by(output)) {
        Ok(place) => place.lines(is_wsl),
        Err(error) => {
            let fact = format!("the free space for {} is not known: {error}", shown_path(output));
            vec![ChecklistLine::note("room", fact, "`df` may know more")]
        }
    }
}

/// The sizes of all files that a run writes.
fn files_of(plan: &Plan) -> Vec<u64> {
    let manifest = manifest_size(plan, Sha256Of::default()).map_or(0, |size| size.bytes);
    let shards = plan.shards.iter().map(|shard| shard.size);
    let documents = plan.documents.iter().map(|(_, bytes)| bytes.len() as u64);
    shards
        .chain(documents)
        .chain(plan.checkpoint.side_files.iter().map(|file| file.stamp.size))
        .chain([manifest])
        .collect()
}

fn text(checklist: &Checklist) -> String {
    let mut text: String = checklist.lines.iter().map(text_of).collect();
    let notes = count(checklist.notes, "note");
    text.push_str(&match checklist.problems {
        0 => format!("\nno problem, {notes}\n"),
        problems => format!("\n{}, {notes}\n", count(problems, "problem")),
    });
    text
}

/// A line, with what to do below it.
fn text_of(line: &ChecklistLine) -> String {
    let mut text = format!("{:<8} {}: {}\n", line.judgement.word(), line.subject, line.fact);
    if let Some(advice) = &line.advice {
        text.push_str(&format!("         → {advice}\n"));
    }
    text
}
