//! Results of tests in JUnit's XML, which CI services show.

use std::fmt::Write as _;

/// One test.
pub(super) struct JunitCase<'a> {
    pub(super) name: &'a str,
    pub(super) seconds: f64,
    pub(super) outcome: JunitOutcome<'a>,
}

/// The result of a test.
pub(super) enum JunitOutcome<'a> {
    Passed,
    /// Not run, and why.
    Skipped(&'a str),
    /// What failed, in one line, and all of it.
    Failed {
        message: &'a str,
        text: &'a str,
    },
}

/// Writes a suite of this name.
//
// By hand: the crates that write this format bring a clock, random identifiers and an XML reader along for twenty lines.
pub(super) fn suite(name: &str, cases: &[JunitCase<'_>]) -> String {
    let number = |of: fn(&JunitOutcome<'_>) -> bool| cases.iter().filter(|case| of(&case.outcome)).count();
    let totals = format!(
        "tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\" time=\"{:.3}\"",
        cases.len(),
        number(|outcome| matches!(outcome, JunitOutcome::Failed { .. })),
        number(|outcome| matches!(outcome, JunitOutcome::Skipped(_))),
        cases.iter().map(|case| case.seconds).sum::<f64>()
    );
    let name = escaped(name);
    let mut xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {totals}>\n");
    let _ = writeln!(xml, "  <testsuite name=\"{name}\" {totals}>");
    for case in cases {
        let of_case = format!("name=\"{}\" classname=\"{name}\" time=\"{:.3}\"", escaped(case.name), case.seconds);
        let _ = match case.outcome {
            JunitOutcome::Passed => writeln!(xml, "    <testcase {of_case}/>"),
            JunitOutcome::Skipped(why) => {
                let why = escaped(why);
                writeln!(xml, "    <testcase {of_case}>\n      <skipped message=\"{why}\"/>\n    </testcase>")
            }
            JunitOutcome::Failed { message, text } => {
                let (message, text) = (escaped(message), escaped(text));
                let failure = format!("<failure message=\"{message}\">{text}</failure>");
                writeln!(xml, "    <testcase {of_case}>\n      {failure}\n    </testcase>")
            }
        };
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Replaces what XML reads as its own, and characters that it cannot hold.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push_str("&#10;"),
            '\t' => safe.push_str("&#9;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            control if control < ' ' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
