//! Text in the width of a terminal: lines break between words, names between their parts, and never within a word.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// The narrowest terminal that is believed; one without columns would get a word a line.
const NARROWEST: usize = 20;

/// The number of columns that stdout has: what `COLUMNS` says, else the terminal's; `None` for a file or a pipe.
pub(super) fn width_of_stdout() -> Option<usize> {
    let columns = columns_asked().or_else(|| columns_of(&io::stdout()));
    columns.map(|columns| columns.max(NARROWEST))
}

/// The number of columns that stderr has: as for stdout, but always `None` for a file or a pipe.
//
// Messages are searched and compared, whatever `COLUMNS` says; reports are read.
pub(super) fn width_of_stderr() -> Option<usize> {
    let stderr = io::stderr();
    let columns = stderr.is_terminal().then(|| columns_asked().or_else(|| columns_of(&stderr))).flatten();
    columns.map(|columns| columns.max(NARROWEST))
}

fn columns_asked() -> Option<usize> {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.filter(|&columns| columns > 0)
}

fn columns_of(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let size = stream.is_terminal().then(|| rustix::termios::tcgetwinsize(stream).ok())?;
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// Fits a report to the width of stdout, where it has one.
pub(super) fn fitted(text: &str) -> Cow<'_, str> {
    width_of_stdout().map_or(Cow::Borrowed(text), |width| wrapped(text, width).into())
}

/// Breaks the lines of a text that are longer than `width`; what follows stands two columns further in.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.chars().count() <= width {
            out.push_str(line);
            out.push('\n');
            continue;
        }
        let spaces = line.chars().take_while(|c| *c == ' ').count();
        let first = " ".repeat(spaces);
        // Deep in a narrow terminal there is no room for a step further in.
        let next = " ".repeat(if spaces + 2 > width / 2 { 0 } else { spaces + 2 });
        let room = width.saturating_sub(first.len().max(next.len()));
        for (index, part) in broken(line, room).into_iter().enumerate() {
            out.push_str(if index == 0 { &first } else { &next });
            out.push_str(&part);
            out.push('\n');
        }
    }
    out
}

/// Breaks a text into lines of at most `room` characters; a word that is longer has a line of its own.
pub(super) fn broken(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in with_quoted(words(text), room) {
        let length = word.chars().count();
        if let Some(line) = lines.last_mut().filter(|line| line.chars().count() + 1 + length <= room) {
            line.push(' ');
            line.push_str(&word);
            continue;
        }
        lines.push(String::new());
        for part in if length > room { parts(&word) } else { vec![word.as_str()] } {
            let fits = |line: &String| line.is_empty() || line.chars().count() + part.chars().count() <= room;
            match lines.last_mut().filter(|line| fits(line)) {
                Some(line) => line.push_str(part),
                None => lines.push(part.to_owned()),
            }
        }
    }
    if lines.is_empty() { vec![String::new()] } else { lines }
}

/// The longest part of a text that cannot be broken: of its words, or also of the parts of names.
pub(super) fn longest(text: &str, names_break: bool) -> usize {
    let length = |word: String| {
        let parts = if names_break { parts(&word) } else { vec![word.as_str()] };
        parts.into_iter().map(|part| part.chars().count()).max().unwrap_or(0)
    };
    words(text).into_iter().map(length).max().unwrap_or(0)
}

/// The words of a text; a shape in brackets is one, and so is a number with its unit.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let unit = word.trim_end_matches([',', ';', ')']);
        let unit = unit.strip_suffix("/s").unwrap_or(unit);
        let is_unit = matches!(unit, "B" | "kB" | "MB" | "GB" | "TB" | "dB" | "%");
        let continues = |before: &String| {
            let is_open = before.rfind('[').is_some_and(|at| !before[at..].contains(']'));
            is_open || is_unit && before.ends_with(|c: char| c.is_ascii_digit())
        };
        match words.last_mut().filter(|before| continues(before)) {
            Some(before) => before.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// The words, of which those that stand in backticks together are one where that fits: a command can then be copied.
fn with_quoted(words: Vec<String>, room: usize) -> Vec<String> {
    let opens = |word: &String| word.matches('`').count() % 2 == 1;
    let mut rest = &words[..];
    let mut joined = Vec::new();
    while let Some(word) = rest.first() {
        let end = rest[1..].iter().position(opens).filter(|_| opens(word)).map_or(1, |at| at + 2);
        let all = rest[..end].join(" ");
        let taken = if all.chars().count() <= room { end } else { 1 };
        joined.push(if taken == end { all } else { word.clone() });
        rest = &rest[taken..];
    }
    joined
}

/// The parts of a name: `model.`, `layers.`, `0.`, `mlp`; of JSON, its values with their commas. A number is one part.
fn parts(word: &str) -> Vec<&str> {
    let is_name = word.contains(|c: char| c.is_alphabetic()) && !word.contains(' ');
    if is_name { word.split_inclusive(['.', '/', ',']).collect() } else { vec![word] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_names_between_parts() {
        assert_eq!(broken("one two three", 7), ["one two", "three"]);
        assert_eq!(broken("of model.layers.0.mlp", 12), ["of", "model.", "layers.0.mlp"]);
        assert_eq!(broken("deepstack_merger_list of", 10), ["deepstack_merger_list", "of"]);
        assert_eq!(broken("", 10), [""]);
        assert_eq!(broken("BF16 [4096, 12288], 31.5 dB of\n0.5", 9), ["BF16", "[4096, 12288],", "31.5 dB", "of 0.5"]);
        assert_eq!(wrapped("  one two three\nfour\n", 10), "  one\n    two\n    three\nfour\n");
        assert_eq!(wrapped("a  b\n", 10), "a  b\n");
        assert_eq!(
            broken("take it with `hf download`, as `a b c d e f g h`", 16),
            ["take it with", "`hf download`,", "as `a b c d e f", "g h`"]
        );
        assert_eq!(broken("an odd ` here", 9), ["an odd `", "here"]);
        assert_eq!(broken(r#"{"bits":8,"type":"int"}"#, 15), [r#"{"bits":8,"#, r#""type":"int"}"#]);
        assert_eq!((longest("a model.layers", false), longest("a model.layers", true)), (12, 6));
    }
}
