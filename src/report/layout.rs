//! The frame of the page: head, skip link, contents, sections and colophon.

use super::content::{MARKER, Report};
use super::markup::{Section, escaped};

/// The style sheet, in the page itself.
const STYLE: &str = include_str!("style.css");

/// Returns the page around its sections.
pub(super) fn page(report: &Report<'_>, verdict: &str, sections: &[Section]) -> String {
    let name = escaped(&report.name);
    let contents: String = sections
        .iter()
        .map(|section| format!("<li><a href=\"#{}\">{}</a></li>\n", section.id, section.title))
        .collect();
    let body: String = sections
        .iter()
        .map(|Section { id, title, body }| format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n"))
        .collect();
    // Nothing may be loaded and nothing run, whatever a checkpoint had managed to put into the page.
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{MARKER}\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name}: report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#report\">Skip to the report</a>\n\
         <header>\n<h1>{name}</h1>\n{verdict}</header>\n\
         <nav aria-label=\"Contents\"><ul>\n{contents}</ul></nav>\n<main id=\"report\">\n{body}</main>\n\
         <footer><p>Written by qwen-fp8 {}, {}.</p></footer>\n</body>\n</html>\n",
        escaped(&report.program),
        escaped(&report.written),
    )
}
