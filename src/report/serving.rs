//! How to serve a result.

use super::content::Report;
use super::markup::{Section, escaped, quoting};
use crate::check::Verdict;

/// Returns the commands that serve the result, and the servers that do not; `None` where nothing is known of either, or
/// there is nothing to serve.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    let is_known = !report.serve.is_empty() || !report.not_served.is_empty();
    if !is_known || report.output.is_none() || report.verification.verdict == Verdict::NothingToProve {
        return None;
    }
    let mut body = String::new();
    if report.verification.verdict == Verdict::AtFault {
        body.push_str("<p>Not before the faults above are mended: a server may load it and answer wrongly.</p>\n");
    }
    if !report.serve.is_empty() {
        body.push_str(
            "<p>The servers read in <code>config.json</code> how it is quantized; they need no option for it.</p>\n",
        );
    }
    body.push_str("<dl class=\"list\">\n");
    for (server, command) in report.serve {
        body.push_str(&format!(
            "<dt>{server}</dt><dd><pre tabindex=\"0\"><code>{}</code></pre></dd>\n",
            escaped(command)
        ));
    }
    for (server, why) in report.not_served {
        body.push_str(&format!("<dt>{server}</dt><dd>does not serve it: {}</dd>\n", quoting(why)));
    }
    body.push_str("</dl>\n");
    if !report.serve.is_empty() {
        body.push_str("<p>Whether it fits your GPUs, and with how much context, says <code>qwen-fp8 fit</code>.</p>\n");
    }
    Some(Section { id: "serve", title: "How to serve it", body })
}
