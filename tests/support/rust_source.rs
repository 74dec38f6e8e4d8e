//! The code of the packages as the architecture tests read it: without comments, texts and tests.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// One source file.
pub(crate) struct SourceText {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) raw: String,
    /// The file line by line, with comments, literals' contents and `#[cfg(test)]` items blank.
    pub(crate) code: String,
}

impl SourceText {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        Self { path: path.to_owned(), raw: raw.to_owned(), code: without_tests(&blank(raw)) }
    }
}

/// Reads every source file below these folders of the repository, sorted by path.
pub(crate) fn read_sources(folders: &[&str]) -> Vec<SourceText> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(folder, &mut paths);
    }
    paths.sort();
    let read = |path: &String| SourceText::new(path, &fs::read_to_string(at(path)).unwrap());
    paths.iter().map(read).collect()
}

fn at(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn collect(folder: &str, paths: &mut Vec<String>) {
    for entry in fs::read_dir(at(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{}/{}", folder.trim_end_matches('/'), entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with("/tests") {
                collect(&path, paths);
            }
        } else if path.ends_with(".rs") && !path.ends_with("tests.rs") {
            paths.push(path);
        }
    }
}

/// Number of the line, from 1, in which this byte stands.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

// Raw strings first: no escape ends them. A lifetime has no second quote within reach and stays.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    let literals = r###"(?s)//[^\n]*|/\*.*?\*/|\bb?r"[^"]*"|\bb?r#".*?"#|\bb?r##".*?"##|"(?:\\.|[^"\\])*""###;
    Regex::new(&format!("{literals}{}", r"|'(?:\\[^']+|[^'\\\n]|\\')'")).unwrap()
});

/// Blanks comments and the contents of literals; lines and the length of ASCII text stay.
pub(crate) fn blank(text: &str) -> String {
    let spaces =
        |found: &regex::Captures<'_>| found[0].chars().map(|c| if c == '\n' { c } else { ' ' }).collect::<String>();
    TOKEN.replace_all(text, spaces).into_owned()
}

/// Blanks the items behind `#[cfg(test)]`; relies on rustfmt's indentation to find their ends.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut inside: Option<usize> = None;
    for line in code.lines() {
        let indent = line.len() - line.trim_start().len();
        match inside {
            None if line.trim() == "#[cfg(test)]" => inside = Some(indent),
            None => kept.push_str(line),
            Some(outer) => {
                if indent == outer && line.trim_end().ends_with([';', '}', ',']) {
                    inside = None;
                }
            }
        }
        kept.push('\n');
    }
    kept
}

#[test]
fn blanking_leaves_code_and_line_numbers() {
    let text = "let a = \"x::y // no\"; // z::w\nlet b = 'c'; let c: &'a str = r#\"d\"e\"#;\n/* f\n */ g::h();\n";
    let code = blank(text);
    assert_eq!(code.lines().count(), 4);
    assert!(["x::y", "z::w", "'c'", "\"e", "f"].iter().all(|gone| !code.contains(gone)), "{code}");
    assert!(code.contains("&'a str") && code.contains("g::h()"), "{code}");
}

#[test]
fn items_of_tests_are_left_out() {
    let code = "#[cfg(test)]\nmod a;\nstruct B;\n#[cfg(test)]\nuse c::{\n    d,\n};\nenum E {}\n#[cfg(test)]\nmod f {\n    struct G;\n}\nunion H {}\n";
    let kept = without_tests(code);
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["struct", "B;", "enum", "E", "{}", "union", "H", "{}"]);
    assert_eq!(kept.lines().count(), code.lines().count());
}
