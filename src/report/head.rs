//! The head of the page: the verdict, a few figures, what was done, and the sizes before and after.

use std::collections::BTreeMap;
use std::path::Path;

use super::content::Report;
use super::markup::{self, CellSide, HtmlTable, Section, escaped, percent};
use super::plots;
use crate::check::{CheckedAs, Severity, Verdict};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::text::{count, decibels, exact, grouped, human};

/// The most rules and rows of a plan that are listed.
const MOST: usize = 60;

/// Returns the verdict in large and the figures beside it.
pub(super) fn verdict(report: &Report<'_>) -> String {
    let verification = report.verification;
    let (class, mark, says) = match verification.verdict {
        Verdict::Proven => {
            ("good", "✓", "Every tensor follows from the source, and the files beside the weights are the source’s.")
        }
        Verdict::PartlyProven => (
            "part",
            "≈",
            "Every weight is as close to the source as its codes and scales allow; something else was not proven.",
        ),
        Verdict::StructureOnly => {
            ("part", "≈", "Nothing is wrong with structure and values; they were compared with no source.")
        }
        Verdict::NothingToProve => ("part", "≈", "No tensor is quantized, so that there was nothing to prove."),
        Verdict::AtFault => {
            ("fault", "✗", "The result is not what its source and its configuration say: see the findings.")
        }
    };
    let action = |action| verification.tensors.iter().filter(|tensor| tensor.action == action).count();
    let quantized = verification.tensors.iter().filter(|tensor| tensor.storage.is_some()).count();
    let mut figures = vec![("quantized tensors", grouped(quantized as u64))];
    figures.push(("other tensors", grouped((verification.tensors.len() - quantized) as u64)));
    if action(CheckedAs::Quantized) > 0 {
        let noisiest = verification.noisiest();
        figures.push(("lowest SQNR", decibels(noisiest.first().and_then(|tensor| tensor.figures?.sqnr_db))));
    }
    if let Some([before, after]) = sizes_of(report) {
        figures.push(("all tensors", format!("{} → {}", human(before), human(after))));
    }
    let errors = |severity| verification.findings.iter().filter(|finding| finding.severity == severity).count();
    let findings = [(Severity::Error, "error"), (Severity::Warning, "warning")]
        .into_iter()
        .filter_map(|(severity, noun)| Some(count(Some(errors(severity)).filter(|number| *number > 0)?, noun)));
    let findings: Vec<String> = findings.collect();
    figures.push(("findings", if findings.is_empty() { "none".to_owned() } else { findings.join(", ") }));
    let figures: String =
        figures.into_iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).collect();
    format!(
        "<p class=\"verdict {class}\"><span class=\"mark\" aria-hidden=\"true\">{mark}</span> <strong>{}</strong></p>\n\
         <p class=\"lead\">{says}</p>\n<dl class=\"facts\">\n{figures}</dl>\n",
        verification.verdict.name()
    )
}

/// Returns what was compared with what and, as far as it is known, by which rules it was made.
pub(super) fn done(report: &Report<'_>) -> Section {
    use CellSide::{Number, Text};
    let verification = report.verification;
    let path = |path: &Path| markup::name(&path.to_string_lossy()).to_string();
    let mut body = format!("<dl class=\"list\">\n<dt>result</dt><dd>{}</dd>\n", path(verification.output.path()));
    if let Some(source) = &verification.source {
        let who = if verification.source_recorded { ", which the manifest names" } else { "" };
        let layers = verification
            .source_layers
            .map_or_else(String::new, |layers| format!(", its first {}", count(layers as usize, "layer")));
        body.push_str(&format!("<dt>source</dt><dd>{}{who}{layers}</dd>\n", path(source.path())));
    }
    if let Some(family) = report.output.and_then(|output| output.model.family()) {
        body.push_str(&format!("<dt>family</dt><dd>{}</dd>\n", escaped(family)));
    }
    if let Some(manifest) = report.manifest {
        let tool = format!("{} {}, format {}", manifest.tool.name, manifest.tool.version, manifest.format);
        body.push_str(&format!("<dt>made by</dt><dd>{}</dd>\n", escaped(&tool)));
    }
    body.push_str("</dl>\n");
    if let Some(plan) = report.plan {
        let mut table = HtmlTable::new(
            "Tensors and what was done to them",
            &[
                ("tensors", Text),
                ("number", Number),
                ("action", Text),
                ("rule", Text),
                ("before", Number),
                ("after", Number),
            ],
        );
        for row in plan.rows.iter().take(MOST) {
            let rule = row.rule.as_deref().or(row.scheme).unwrap_or("no rule");
            table.row([
                markup::name(&row.name).to_string(),
                row.count.to_string(),
                row.action.word().to_owned(),
                escaped(rule).to_string(),
                human(row.source_bytes),
                human(row.output_bytes),
            ]);
        }
        table.more(plan.rows.len().saturating_sub(MOST));
        body.push_str(&table.html());
    } else if let Some(manifest) = report.manifest {
        let mut rules: BTreeMap<(Option<&str>, Option<&str>), usize> = BTreeMap::new();
        for action in &manifest.actions {
            *rules.entry((action.scheme.as_deref(), action.rule.as_deref())).or_default() += 1;
        }
        let mut table = HtmlTable::new(
            "Rules of the recipe",
            &[("rule", Text), ("scheme", Text), ("tensors of the source", Number)],
        );
        for ((scheme, rule), number) in rules.iter().rev().take(MOST) {
            let name = |name: &Option<&str>, none: &str| escaped(name.unwrap_or(none)).to_string();
            table.row([name(rule, "no rule"), name(scheme, "as they are"), number.to_string()]);
        }
        table.more(rules.len().saturating_sub(MOST));
        body.push_str(&table.html());
    }
    Section { id: "done", title: "What was done", body }
}

/// Returns the bytes of all tensors before and after; `None` where one of them is not known.
fn sizes_of(report: &Report<'_>) -> Option<[u64; 2]> {
    let bytes = |checkpoint: &Checkpoint| checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    Some([bytes(report.source?), bytes(report.output?)])
}

/// Returns the sizes before and after; `None` where they are not known.
pub(super) fn sizes(report: &Report<'_>) -> Option<Section> {
    let [before, after] = sizes_of(report)?;
    let quantized: u64 = report.verification.tensors.iter().filter(|it| it.storage.is_some()).map(|it| it.bytes).sum();
    let quantized = quantized.min(after);
    let larger = before.max(after).max(1) as f64;
    let part = |colour, name: &str, bytes: u64| (colour, format!("{name}: {}", human(bytes)), bytes as f64 / larger);
    let change = after as f64 / before.max(1) as f64 - 1.0;
    let sign = if change > 0.0 { "+" } else { "−" };
    let body = format!(
        "<p>All tensors: {} before, {} after ({sign}{}).</p>\n\
         <p class=\"bar\">before</p>{}<p class=\"bar\">after: {}{} of quantized layers, with their scales, and {}{} of others</p>{}",
        exact(before),
        exact(after),
        percent(change.abs()),
        plots::shares(&format!("before: {}", human(before)), &[part(2, "before", before)], 600.0),
        plots::swatch(0),
        human(quantized),
        plots::swatch(1),
        human(after - quantized),
        plots::shares(
            &format!("after: {}", human(after)),
            &[part(0, "quantized", quantized), part(1, "others", after - quantized)],
            600.0
        ),
    );
    Some(Section { id: "sizes", title: "Sizes", body })
}
