//! What is wrong with a result, and what was not proven of it: the first that a reader sees.

use super::content::Report;
use super::markup::{self, CellSide, HtmlTable, Section, escaped};
use crate::check::Finding;

/// The most findings and differences that are listed.
const MOST: usize = 100;

/// Returns the faults, warnings and gaps; `None` where there are none.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    use CellSide::Text;
    let verification = report.verification;
    let mut body = String::new();
    if !verification.findings.is_empty() {
        let mut table = HtmlTable::new(
            "Findings",
            &[("rule", Text), ("severity", Text), ("what is wrong", CellSide::Prose), ("where", CellSide::Prose)],
        );
        let mut findings: Vec<&Finding> = verification.findings.iter().collect();
        findings.sort_by_key(|finding| (finding.severity, finding.rule.code));
        for finding in findings.iter().take(MOST) {
            let help = match finding.help.as_ref() {
                "" => String::new(),
                help => format!("<br>help: {}", markup::quoting(help)),
            };
            table.row([
                finding.rule.code.to_owned(),
                format!("<span class=\"{0}\">{0}</span>", finding.severity.name()),
                format!("{}{help}", markup::quoting(&finding.message)),
                markup::quoting(&finding.place.describe()),
            ]);
        }
        table.more(findings.len().saturating_sub(MOST));
        body.push_str(&table.html());
    }
    if !verification.unproven.is_empty() {
        body.push_str("<h3>Not proven</h3>\n<ul>\n");
        for why in verification.unproven.iter().take(MOST) {
            body.push_str(&format!("<li>{}</li>\n", markup::quoting(why)));
        }
        body.push_str("</ul>\n");
    }
    if let Some(mismatches) = report.checksums.filter(|mismatches| !mismatches.is_empty()) {
        let mut table = HtmlTable::new(
            "Differences from the manifest",
            &[("file", Text), ("tensor", Text), ("what", CellSide::Prose)],
        );
        for mismatch in mismatches.iter().take(MOST) {
            let tensor = mismatch.tensor.as_deref().unwrap_or_default();
            table.row([&mismatch.file, tensor, &mismatch.what].map(|text| escaped(text).to_string()));
        }
        table.more(mismatches.len().saturating_sub(MOST));
        body.push_str(&table.html());
    }
    (!body.is_empty()).then_some(Section { id: "faults", title: "Findings", body })
}
