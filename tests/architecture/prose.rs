//! Doc comments open with a verb or the thing itself, and code that was measured says why it is as it is.

use regex::Regex;

use super::sources;
use crate::support::rust_source::SourceText;

/// Share of doc comments that may open with a bare clause, in percent.
const CLAUSES: f64 = 5.0;

/// Least number of reasons (`//` lines) per 100 lines of code, by folder.
const REASONS: [(&str, f64); 3] = [("schemes/src/kernels/", 4.0), ("src/run/", 4.0), ("src/check/", 4.0)];

/// Counts of a set of files, up to the tests at the end of each.
#[derive(Debug, Default, PartialEq)]
struct Prose {
    /// Blocks of consecutive doc comment lines.
    blocks: usize,
    /// Places of the blocks that open with a clause of the kind What, Whether, How, …
    clauses: Vec<String>,
    /// Lines of plain comments.
    reasons: usize,
    /// Lines of code.
    code: usize,
}

impl Prose {
    fn of<'a>(sources: impl IntoIterator<Item = &'a SourceText>) -> Self {
        let clause = Regex::new(concat!(
            r"^(What|Whether|How|Where|Which|Why|When|By|Of|Those|Who|As|That|Over|In|If|So|From|On|For|With|At|To|Such|Under",
            r"|Beside|Into)\b"
        ))
        .unwrap();
        let mut prose = Self::default();
        for source in sources {
            let mut in_block = false;
            for (index, line) in source.raw.lines().enumerate() {
                let line = line.trim();
                if line == "#[cfg(test)]" {
                    break;
                }
                let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
                if let Some(text) = doc {
                    if !in_block {
                        prose.blocks += 1;
                        if clause.is_match(text.trim()) {
                            prose.clauses.push(format!("{}:{}: {}", source.path, index + 1, text.trim()));
                        }
                    }
                } else if line.starts_with("//") {
                    prose.reasons += 1;
                } else if !line.is_empty() {
                    prose.code += 1;
                }
                in_block = doc.is_some();
            }
        }
        prose
    }

    /// Share of the blocks that open with a clause, in percent.
    fn clause_share(&self) -> f64 {
        100.0 * self.clauses.len() as f64 / self.blocks.max(1) as f64
    }

    /// Lines of reasons per 100 lines of code.
    fn reason_density(&self) -> f64 {
        100.0 * self.reasons as f64 / self.code.max(1) as f64
    }
}

#[test]
fn doc_comments_open_with_a_verb_or_the_thing() {
    let prose = Prose::of(sources());
    let share = prose.clause_share();
    assert!(share <= CLAUSES, "{share:.1} % of {} open with a clause:\n{}", prose.blocks, prose.clauses.join("\n"));
}

#[test]
fn kernels_run_and_check_give_reasons() {
    let sources = sources();
    for (folder, least) in REASONS {
        let density = Prose::of(sources.iter().filter(|source| source.path.starts_with(folder))).reason_density();
        assert!(density >= least, "{folder}: {density:.1} comment lines per 100 of code, of {least}");
    }
}

#[test]
fn clauses_and_reasons_are_counted() {
    let text = "//! What it holds.\n//! How it does.\n\n/// Returns one.\nfn a() {\n    // As measured.\n}\n/// Where it is.\nconst B: u8 = 1;\n\
                #[cfg(test)]\nmod tests {}\n";
    let prose = Prose::of(&[SourceText::new("a.rs", text)]);
    let clauses = vec!["a.rs:1: What it holds.".to_owned(), "a.rs:8: Where it is.".to_owned()];
    assert_eq!(prose, Prose { blocks: 3, clauses, reasons: 1, code: 3 });
    assert!(prose.clause_share() > 66.0 && prose.reason_density() > 33.0);
}
