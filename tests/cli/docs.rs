//! What the guides quote is what the program says.

use std::fs;
use std::path::Path;

use crate::support::rust_source::read_sources;

/// The phrases in backticks that begin the rows of a guide's tables.
fn quoted(guide: &str) -> Vec<String> {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn troubleshooting_quotes_messages_that_there_are() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let guide = fs::read_to_string(guide).unwrap();
    let ours = guide.split("\n## ").find(|part| part.starts_with("Before and during")).unwrap();
    let texts: Vec<String> = read_sources(&["src"]).into_iter().map(|source| source.raw).collect();
    let phrases = quoted(ours);
    assert!(phrases.len() >= 5, "{phrases:?}");
    for phrase in phrases {
        assert!(texts.iter().any(|text| text.contains(&phrase)), "no message says `{phrase}`");
    }
}
