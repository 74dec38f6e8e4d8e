//! `qwen-fp8 diff`: the differences of two checkpoints.

use serde_json::Value;

use super::args::DiffArgs;
use super::error::CommandError;
use super::json::JsonOutput;
use super::progress::ProgressReporter;
use super::screen::Screen;
use super::source::checkpoint_place;
use super::table::{Align, TextTable};
use crate::check::{self, DescribedTensor, Difference, StoredAs, TensorDifference};
use crate::checkpoint::text::{count, sentence, shown};

/// The number of names that a list shows; the rest is counted.
const NAMES: usize = 10;
/// The number of characters that are shown of a value.
const VALUE: usize = 60;

impl JsonOutput for Difference {
    const TITLE: &'static str = "Output of `qwen-fp8 diff --json`";
}

pub(super) fn diff(args: &DiffArgs, screen: &Screen) -> Result<(), CommandError> {
    let place = |model: &str| checkpoint_place(model).map_err(CommandError::of_run);
    let (a, b) = (place(&args.a)?, place(&args.b)?);
    let compare = || check::diff_at(&a, &b, &ProgressReporter::of_check(screen)).map_err(CommandError::from);
    let difference = check::on_threads_for(&[&a, &b], compare)?;
    if args.json {
        screen.json(&difference)?;
    } else {
        screen.report(&text(&difference, args.top))?;
    }
    if args.exit_code && !difference.same { Err(CommandError::Reported) } else { Ok(()) }
}

fn text(difference: &Difference, top: usize) -> String {
    let mut sections = Vec::new();
    if !difference.kinds.is_empty() {
        sections.push(kinds(difference));
    }
    sections.extend(most_changed(difference, top));
    sections.extend(layers(difference));
    sections.extend(only("only in A", &difference.only_in_a));
    sections.extend(only("only in B", &difference.only_in_b));
    if !difference.renamed.is_empty() {
        let mut lines = String::from("renamed\n");
        for renamed in difference.renamed.iter().take(NAMES) {
            lines.push_str(&format!("  {} → {}\n", shown(&renamed.a), shown(&renamed.b)));
        }
        lines.push_str(&more(difference.renamed.len()));
        sections.push(lines);
    }
    sections.extend(config(difference));
    let verdict = if difference.same {
        format!("the same: {}\n", count(difference.identical as usize, "tensor"))
    } else {
        format!(
            "{} the same, {} changed, {} only in A, {} only in B, {} renamed; {} of config.json\n",
            count(difference.identical as usize, "tensor"),
            difference.changed.len(),
            difference.only_in_a.len(),
            difference.only_in_b.len(),
            difference.renamed.len(),
            count(difference.config.len(), "key")
        )
    };
    sections.push(verdict);
    sections.join("\n")
}

fn kinds(difference: &Difference) -> String {
    let mut table = TextTable::new(&[
        ("layer", Align::Left),
        ("tensors", Align::Right),
        ("changed", Align::Right),
        ("relative", Align::Right),
        ("max", Align::Right),
        ("least cosine", Align::Right),
    ]);
    let figure = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(String::new, text);
    for kind in &difference.kinds {
        let name = kind.kind.escape_debug();
        table.row([
            if kind.vision { format!("{name} (vision)") } else { name.to_string() },
            kind.tensors.to_string(),
            kind.changed.to_string(),
            figure(kind.relative_error, relative),
            figure(kind.max_error, |error| format!("{error:.3e}")),
            figure(kind.min_cosine, |cosine| format!("{cosine:.6}")),
        ]);
    }
    table.render()
}

fn most_changed(difference: &Difference, top: usize) -> Option<String> {
    // What cannot be compared by value has changed most.
    let change = |tensor: &TensorDifference| tensor.figures.map_or(f64::INFINITY, |figures| figures.relative_error);
    let mut changed: Vec<&TensorDifference> = difference.changed.iter().collect();
    changed.sort_by(|a, b| change(b).total_cmp(&change(a)));
    changed.truncate(top);
    if changed.is_empty() {
        return None;
    }
    let mut table = TextTable::new(&[
        ("most changed", Align::Left),
        ("A", Align::Left),
        ("B", Align::Left),
        ("relative", Align::Right),
        ("max", Align::Right),
        ("cosine", Align::Right),
    ]);
    for tensor in changed {
        let (mut a, mut b) = (tensor.a.form.clone(), tensor.b.form.clone());
        if tensor.a.shape != tensor.b.shape {
            (a, b) = (described(&tensor.a), described(&tensor.b));
        }
        let figure = |text: fn(&check::Figures) -> String| tensor.figures.as_ref().map_or_else(String::new, text);
        table.row([
            tensor.name.escape_debug().to_string(),
            a,
            b,
            figure(|figures| relative(figures.relative_error)),
            figure(|figures| format!("{:.3e}", figures.max_error)),
            figure(|figures| format!("{:.6}", figures.cosine)),
        ]);
    }
    Some(table.render())
}

/// The layers that changed, as ranges.
fn layers(difference: &Difference) -> Option<String> {
    let mut text = String::new();
    for stack in difference.layers.chunk_by(|a, b| a.stack == b.stack) {
        let ranges: Vec<String> = stack
            .chunk_by(|a, b| a.layer.checked_add(1) == Some(b.layer))
            .map(|run| match (run[0].layer, run[run.len() - 1].layer) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}–{last}"),
            })
            .collect();
        text.push_str(&format!("changed in {}: {}\n", shown(&stack[0].stack), ranges.join(", ")));
    }
    (!text.is_empty()).then_some(text)
}

fn only(title: &str, tensors: &[DescribedTensor]) -> Option<String> {
    let mut text = format!("{title}\n");
    for tensor in tensors.iter().take(NAMES) {
        text.push_str(&format!("  {} {}\n", shown(&tensor.name), described(&tensor.stored)));
    }
    text.push_str(&more(tensors.len()));
    (!tensors.is_empty()).then_some(text)
}

fn config(difference: &Difference) -> Option<String> {
    let mut table = TextTable::new(&[("config.json", Align::Left), ("A", Align::Left), ("B", Align::Left)]);
    for change in &difference.config {
        let pointer = sentence(&change.pointer).to_string();
        table.row([pointer, value(change.a.as_ref()), value(change.b.as_ref())]);
    }
    (!difference.config.is_empty()).then(|| table.render())
}

fn value(value: Option<&Value>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let text = value.to_string();
    let cut: String = text.chars().take(VALUE).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", sentence(&cut))
}

fn described(stored: &StoredAs) -> String {
    format!("{} {:?}", stored.form, stored.shape)
}

fn relative(error: f64) -> String {
    format!("{:.4} %", error * 100.0)
}

fn more(number: usize) -> String {
    if number > NAMES { format!("  … and {} more\n", number - NAMES) } else { String::new() }
}
