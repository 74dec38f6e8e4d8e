//! `qwen-fp8 plan`: what a recipe would do, to the byte, without reading a weight.

use super::args;
use super::screen::{Failure, Screen};
use crate::plan::summary::{Described, Row, Summary};
use crate::plan::tensor_parallel::Alignment;
use crate::report::table::{Align, Table};
use crate::size::{grouped, human};

pub(super) fn plan(args: &args::Plan, screen: &Screen) -> Result<(), Failure> {
    let summary = Summary::of(&super::source::plan(&args.source, screen)?);
    if args.json { screen.json(&summary) } else { screen.data(&render(&summary)) }
}

fn render(summary: &Summary) -> String {
    let mut rows = Table::new(&[
        ("action", Align::Left),
        ("kind", Align::Left),
        ("tensors", Align::Right),
        ("name", Align::Left),
        ("before", Align::Left),
        ("after", Align::Left),
        ("rule", Align::Left),
    ]);
    for row in &summary.rows {
        rows.row(cells(row));
    }
    let mut shards = Table::new(&[("file", Align::Left), ("tensors", Align::Right), ("bytes", Align::Right)]);
    for shard in &summary.shards {
        shards.row([shard.name.escape_debug().to_string(), shard.tensors.to_string(), grouped(shard.bytes)]);
    }
    format!(
        "{}\n{}\n{} quantized, {} copied; weights {} → {} ({} bytes), {:.1} % saved; format {}\n{}",
        rows.render(),
        shards.render(),
        summary.quantized_tensors,
        summary.copied_tensors,
        human(summary.source_bytes),
        human(summary.output_bytes),
        grouped(summary.output_bytes),
        summary.saved_share * 100.0,
        summary.format,
        parallel(&summary.tensor_parallel),
    )
}

fn cells(row: &Row) -> [String; 7] {
    let after: Vec<String> = match row.action {
        "copy" => vec!["unchanged".to_owned()],
        _ => row.after.iter().map(|after| format!("{} {}", after.suffix, described(after))).collect(),
    };
    [
        row.action.to_owned(),
        row.kind.to_owned(),
        row.count.to_string(),
        row.name.escape_debug().to_string(),
        described(&row.before),
        after.join(" + "),
        row.rule.clone().unwrap_or_else(|| "none takes it".to_owned()),
    ]
}

fn described(tensor: &Described) -> String {
    let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    format!("{} [{}]", tensor.dtype, shape.join(", "))
}

fn parallel(alignments: &[Alignment]) -> String {
    let mut lines = String::from("tensor parallel:");
    for alignment in alignments {
        match &alignment.misfit {
            None => lines.push_str(&format!(" {} fits", alignment.size)),
            Some(why) => lines.push_str(&format!(" {} does not ({why})", alignment.size)),
        }
        lines.push(';');
    }
    lines.pop();
    lines.push('\n');
    lines
}
