//! How to serve a result.

use super::content::Report;
use super::markup::{Section, escaped};
use crate::check::Verdict;

/// Returns the commands that serve the result; `None` where there is none, or nothing to serve.
pub(super) fn section(report: &Report<'_>) -> Option<Section> {
    if report.serve.is_empty() || report.output.is_none() || report.verification.verdict == Verdict::NothingToProve {
        return None;
    }
    let mut body = String::new();
    if report.verification.verdict == Verdict::AtFault {
        body.push_str("<p>Not before the faults above are mended: a server may load it and answer wrongly.</p>\n");
    }
    body.push_str("<p>The servers read in <code>config.json</code> how it is quantized; they need no option for it.</p>\n<dl class=\"list\">\n");
    for (server, command) in report.serve {
        body.push_str(&format!(
            "<dt>{server}</dt><dd><pre tabindex=\"0\"><code>{}</code></pre></dd>\n",
            escaped(command)
        ));
    }
    body.push_str(
        "</dl>\n<p>Whether it fits your GPUs, and with how much context, says <code>qwen-fp8 fit</code>.</p>\n",
    );
    Some(Section { id: "serve", title: "How to serve it", body })
}
