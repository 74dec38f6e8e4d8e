//! `qwen-fp8 plan`: the plan to the byte, made without reading a weight.

use std::path::Path;

use super::adapters::with_adapters;
use super::args::PlanArgs;
use super::error::CommandError;
use super::json::JsonOutput;
use super::lock;
use super::manifest;
use super::screen::Screen;
use super::table::{Align, TextTable};
use crate::checkpoint::manifest::MANIFEST_FILE;
use crate::checkpoint::text::{count, exact, grouped, human, shown_path, unquoted};
use crate::plan::Plan;
use crate::plan::summary::{Row, RowAction, Summary, TensorForm};
use crate::plan::tensor_parallel::Alignment;
use crate::recipe::{CacheDtype, NonFinitePolicy};
use crate::run::manifest_size;

impl JsonOutput for Summary {
    const TITLE: &'static str = "Output of `qwen-fp8 plan --json`";
}

pub(super) fn plan(args: &PlanArgs, screen: &Screen) -> Result<(), CommandError> {
    let plan = super::source::plan(&args.source, screen)?;
    if let Some(other) = &args.lock.diff {
        return diff(args, &plan, other, screen);
    }
    if let Some(file) = &args.lock.lock {
        lock::write(&plan, &args.source.recipe, file.as_deref(), screen)?;
    }
    let mut summary = Summary::of(&plan);
    if plan.checkpoint.headers_only {
        screen.say("note: of headers alone, the manifest is not counted");
    } else if let Some(sha256) = manifest::wanted(&args.manifest) {
        summary = summary.with_manifest(manifest_size(&plan, sha256).map_err(|error| CommandError::run(&error))?);
    }
    if args.json { screen.json(&summary) } else { screen.report(&render(&summary)) }
}

/// Shows what another recipe, or a lock, decides otherwise.
fn diff(args: &PlanArgs, plan: &Plan, other: &Path, screen: &Screen) -> Result<(), CommandError> {
    let changes = lock::differences(plan, &args.source, other, screen)?;
    if args.json {
        return screen.json(&changes);
    }
    let of = count(plan.inputs.len(), "tensor");
    let head = match changes.tensors() {
        0 if changes.is_empty() => format!("the same is decided of all {of}\n"),
        changed => format!("{changed} of {of} fare otherwise by {}\n\n", shown_path(other)),
    };
    screen.report(&(head + &lock::render(&changes, lock::most_names(screen))))
}

fn render(summary: &Summary) -> String {
    let mut text = String::new();
    for rows in summary.rows.chunk_by(|a, b| (a.action, &a.rule) == (b.action, &b.rule)) {
        text.push_str(&section(rows));
        text.push('\n');
    }
    if summary.split_stacks > 0 {
        let (stacks, matrices) = (count(summary.split_stacks, "stack"), grouped(summary.split_matrices as u64));
        text.push_str(&format!("{stacks} of experts split into {matrices} matrices\n\n"));
    }
    for adapter in &summary.adapters {
        let tensors = count(adapter.tensors, "tensor");
        text.push_str(&format!("the adapter {} is merged into {tensors}\n\n", unquoted(&adapter.name)));
    }
    text.push_str(&files(summary));
    text.push_str(&format!(
        "\n{} quantized, {}{}{}{} copied; format {}{}{}\ntensors: {} → {}, {:.1} % {}\noutput directory: {}{}\n{}",
        count(summary.quantized_tensors, "tensor"),
        if_any(summary.passed_through_tensors, "passed through"),
        if_any(summary.dequantized_tensors, "decoded"),
        if_any(summary.merged_tensors, "merged"),
        summary.copied_tensors,
        summary.format,
        if summary.on_nonfinite == NonFinitePolicy::Keep { "; NaN and infinities are kept" } else { "" },
        if summary.kv_cache == CacheDtype::Fp8 { "; FP8 cache" } else { "" },
        human(summary.source_bytes),
        human(summary.output_bytes),
        summary.saved_share.abs() * 100.0,
        if summary.saved_share < 0.0 { "more" } else { "saved" },
        bound(summary),
        exact(summary.directory_bytes),
        parallel(&summary.tensor_parallel),
    ));
    text
}

fn if_any(number: usize, what: &str) -> String {
    if number == 0 { String::new() } else { format!("{number} {what}, ") }
}

/// The rows of one action and rule. Names with a common stem stand below it, a copied bias beside its weight.
fn section(rows: &[Row]) -> String {
    let first = &rows[0];
    let tensors = rows.iter().map(|row| row.count).sum();
    let bytes = |of: fn(&Row) -> u64| human(rows.iter().map(of).sum());
    let rule = first.rule.as_ref().map_or_else(|| "no rule takes it".to_owned(), |rule| unquoted(rule).to_string());
    let word = first.action.word();
    let size = match first.action {
        RowAction::Quantize | RowAction::Dequantize => {
            format!("{} → {}", bytes(|row| row.source_bytes), bytes(|row| row.output_bytes))
        }
        RowAction::PassThrough | RowAction::Merge | RowAction::Copy => bytes(|row| row.source_bytes),
    };
    let mut text = format!("{word} · {rule} · {}, {size}\n", count(tensors, "tensor"));

    let mut lines = folded(rows);
    lines.sort_by_key(|line| line.stem);
    let columns = [("", Align::Left), ("×", Align::Right), ("", Align::Left), ("", Align::Left), ("", Align::Left)];
    let mut table = TextTable::new(&columns).titled_by(2);
    for line in &lines {
        let name = unquoted(&line.name).to_string();
        table.row([line.row.kind.to_owned(), line.count.to_string(), name, line.before.clone(), after(line.row)]);
    }
    let mut stem = "";
    // The first block is the header.
    for (line, cells) in lines.iter().zip(table.blocks(4).iter().skip(1)) {
        if line.stem != stem {
            text.push_str(&format!("  {}\n", unquoted(line.stem)));
            stem = line.stem;
        }
        let indent = if stem.is_empty() { "  " } else { "    " };
        cells.lines().for_each(|line| text.push_str(&format!("{indent}{line}\n")));
    }
    text
}

/// A line of a section.
struct SectionLine<'a> {
    row: &'a Row,
    /// `model.language_model.layers.*`; empty where the name has no number.
    stem: &'a str,
    /// The name after the stem.
    name: String,
    count: usize,
    before: String,
}

/// A line for each row, but a single one for a copied weight and its bias.
fn folded(rows: &[Row]) -> Vec<SectionLine<'_>> {
    let twin = |row: &Row, from: &str, to: &str| {
        let module = row.name.strip_suffix(from).filter(|_| row.action == RowAction::Copy)?;
        rows.iter().find(|other| other.name.strip_suffix(to) == Some(module) && other.count == row.count)
    };
    rows.iter()
        .filter(|row| twin(row, ".bias", ".weight").is_none())
        .map(|row| {
            let (stem, name) = match row.name.split_once(".*.") {
                Some((before, name)) => (&row.name[..before.len() + 2], name),
                None => ("", row.name.as_str()),
            };
            let before = described(&row.before) + &with_adapters(&row.adapters);
            match twin(row, ".weight", ".bias") {
                None => SectionLine { row, stem, name: name.to_owned(), count: row.count, before },
                Some(bias) => {
                    let before = format!("{before}, {}", dimensions(&bias.before.shape));
                    SectionLine { row, stem, name: format!("{name}, bias"), count: row.count + bias.count, before }
                }
            }
        })
        .collect()
}

fn after(row: &Row) -> String {
    if matches!(row.action, RowAction::Copy | RowAction::Merge) {
        return row.part.or(row.stays).unwrap_or_default().to_owned();
    }
    let parts: Vec<String> = row
        .after
        .iter()
        .map(|after| match (after.suffix == row.before.suffix, after.shape == row.before.shape) {
            (true, true) => after.dtype.clone(),
            (true, false) => described(after),
            (false, _) => format!("{} {}", unquoted(&after.suffix), described(after)),
        })
        .collect();
    format!("→ {}", parts.join(", "))
}

fn described(tensor: &TensorForm) -> String {
    format!("{} {}", tensor.dtype, dimensions(&tensor.shape))
}

fn dimensions(shape: &[usize]) -> String {
    let dimensions: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", dimensions.join(", "))
}

fn files(summary: &Summary) -> String {
    let mut table = TextTable::new(&[("file", Align::Left), ("tensors", Align::Right), ("bytes", Align::Right)]);
    for shard in &summary.shards {
        table.row([unquoted(&shard.name).to_string(), grouped(shard.tensors as u64), grouped(shard.bytes)]);
    }
    for file in &summary.documents {
        table.row([unquoted(&file.name).to_string(), String::new(), grouped(file.bytes)]);
    }
    let copied = summary.side_files.len();
    if copied > 0 {
        let bytes = summary.side_files.iter().map(|file| file.bytes).sum();
        table.row([format!("{} as they are", count(copied, "side file")), String::new(), grouped(bytes)]);
    }
    let bound = bound(summary);
    if let Some(manifest) = summary.manifest {
        table.row([MANIFEST_FILE.to_owned(), String::new(), format!("{bound}{}", grouped(manifest.bytes))]);
    }
    table.row(["all".to_owned(), String::new(), format!("{bound}{}", grouped(summary.directory_bytes))]);
    table.render()
}

/// The words before a size that includes the manifest's.
fn bound(summary: &Summary) -> &'static str {
    if summary.manifest.is_some_and(|manifest| manifest.at_most) { "at most " } else { "" }
}

/// `tensor parallel: fits 1, 2, 4; not 8`, and why.
fn parallel(alignments: &[Alignment]) -> String {
    let sizes = |fits: bool| {
        let sizes = alignments.iter().filter(|alignment| alignment.misfit.is_none() == fits);
        sizes.map(|alignment| alignment.size.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut text =
        format!("tensor parallel: fits {}", if sizes(true).is_empty() { "none".to_owned() } else { sizes(true) });
    if let Some(why) = alignments.iter().find_map(|alignment| alignment.misfit.as_ref()) {
        text.push_str(&format!("; not {}\n  {why}", sizes(false)));
    }
    text.push('\n');
    text
}
