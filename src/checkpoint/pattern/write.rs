//! Writes a regex in the syntax of the regex and fancy-regex crates, each part so that it means what it does in Python.

use std::fmt::Write as _;

use super::tree::{CharacterSet, RegexFlags, RegexGreed, RegexNode, SetItem};

/// A regex in the engines' syntax, anchored at the start as by `re.match`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WrittenRegex {
    Linear(String),
    /// Looks around or back.
    Backtracking(String),
    /// Has `\b`, for which the linear engine takes marks for words and some numbers for none: Python does not, so that
    /// names beyond ASCII take the second, backtracking text.
    Bounded(String, String),
}

/// Writes the regex.
pub(super) fn write(node: &RegexNode) -> WrittenRegex {
    let short = RegexWriter::written(node, false);
    if !short.has_boundary {
        return if short.backtracks { WrittenRegex::Backtracking(short.out) } else { WrittenRegex::Linear(short.out) };
    }
    let exact = RegexWriter::written(node, true).out;
    if short.backtracks { WrittenRegex::Backtracking(exact) } else { WrittenRegex::Bounded(short.out, exact) }
}

const WORD: &str = r"\p{L}\p{N}_";
const WORD_ASCII: &str = "0-9A-Za-z_";

struct RegexWriter {
    out: String,
    backtracks: bool,
    has_boundary: bool,
    /// Writes `\b` so that it holds for all of Unicode, which backtracks.
    exact: bool,
}

impl RegexWriter {
    fn written(node: &RegexNode, exact: bool) -> Self {
        let mut writer = Self { out: "\\A(?:".to_owned(), backtracks: false, has_boundary: false, exact };
        writer.node(node, true);
        writer.out.push(')');
        writer
    }

    /// Writes a part; `last` says that nothing comes after it in the whole regex.
    fn node(&mut self, node: &RegexNode, last: bool) {
        match node {
            RegexNode::Empty => self.out.push_str("(?:)"),
            RegexNode::Literal { code, flags } => self.literal(*code, *flags),
            RegexNode::Any { line_ends: true } => self.out.push_str("(?s:.)"),
            RegexNode::Any { line_ends: false } => self.out.push_str(r"[^\n]"),
            RegexNode::Set(set) => self.set(set),
            RegexNode::Start { of_lines } => self.out.push_str(if *of_lines { "(?m:^)" } else { r"\A" }),
            RegexNode::End => self.out.push_str(r"\z"),
            RegexNode::Dollar { of_lines: true } => self.out.push_str("(?m:$)"),
            // A line end that is taken where nothing follows is as good as one that is looked at, and linear.
            RegexNode::Dollar { .. } if last => self.out.push_str(r"\n?\z"),
            RegexNode::Dollar { .. } => self.backtracking(r"(?=\n?\z)"),
            RegexNode::Boundary { negated, ascii } => self.boundary(*negated, *ascii),
            RegexNode::Capture(inner) => self.wrapped("(", inner, last),
            RegexNode::Atomic(inner) => {
                self.backtracks = true;
                self.wrapped("(?>", inner, false);
            }
            RegexNode::Look { behind, negated, inner } => {
                self.backtracks = true;
                let open = match (behind, negated) {
                    (false, false) => "(?=",
                    (false, true) => "(?!",
                    (true, false) => "(?<=",
                    (true, true) => "(?<!",
                };
                self.wrapped(open, inner, false);
            }
            RegexNode::BackReference { group, flags, .. } => {
                self.backtracks = true;
                let case = if flags.any_case { "(?i:" } else { "(?:" };
                let _ = write!(self.out, "{case}\\{group})");
            }
            // Without branches it always holds, and fancy-regex takes it for a test that may fail.
            RegexNode::Condition { yes, no, .. } if is_empty(yes) && no.as_deref().is_none_or(is_empty) => {}
            RegexNode::Condition { group, yes, no } => {
                self.backtracks = true;
                let _ = write!(self.out, "(?:(?({group})");
                self.wrapped("(?:", yes, false);
                self.out.push('|');
                self.wrapped("(?:", no.as_deref().unwrap_or(&RegexNode::Empty), false);
                self.out.push_str("))");
            }
            RegexNode::Repeat { inner, least, most, greed } => self.repeat(inner, *least, *most, *greed, last),
            RegexNode::Sequence(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    self.node(part, last && index + 1 == parts.len());
                }
            }
            RegexNode::Alternatives(branches) => {
                self.out.push_str("(?:");
                for (index, branch) in branches.iter().enumerate() {
                    if index > 0 {
                        self.out.push('|');
                    }
                    self.node(branch, last);
                }
                self.out.push(')');
            }
        }
    }

    fn wrapped(&mut self, open: &str, inner: &RegexNode, last: bool) {
        self.out.push_str(open);
        self.node(inner, last);
        self.out.push(')');
    }

    fn backtracking(&mut self, text: &str) {
        self.backtracks = true;
        self.out.push_str(text);
    }

    fn repeat(&mut self, inner: &RegexNode, least: u32, most: Option<u32>, greed: RegexGreed, last: bool) {
        let inner = peeled(inner);
        if matches!(inner, RegexNode::Empty) {
            return;
        }
        // fancy-regex repeats no look-around, and taking one once is taking it often.
        if matches!(inner, RegexNode::Look { .. } | RegexNode::Dollar { .. }) {
            match (least, most) {
                (_, Some(0)) => {}
                (0, _) => {
                    self.wrapped("(?:", inner, false);
                    self.out.insert(self.out.len() - 1, '|');
                }
                _ => self.node(inner, false),
            }
            return;
        }
        if greed == RegexGreed::Possessive {
            self.backtracking("(?>");
        }
        self.wrapped("(?:", inner, last && most == Some(1));
        let _ = match (least, most) {
            (0, None) => write!(self.out, "*"),
            (1, None) => write!(self.out, "+"),
            (0, Some(1)) => write!(self.out, "?"),
            (least, None) => write!(self.out, "{{{least},}}"),
            (least, Some(most)) if least == most => write!(self.out, "{{{least}}}"),
            (least, Some(most)) => write!(self.out, "{{{least},{most}}}"),
        };
        match greed {
            RegexGreed::Greedy => {}
            RegexGreed::Lazy => self.out.push('?'),
            RegexGreed::Possessive => self.out.push(')'),
        }
    }

    /// `\b`, between a character of `\w` and another.
    fn boundary(&mut self, negated: bool, ascii: bool) {
        self.has_boundary = true;
        if !self.exact {
            self.out.push_str(if negated { r"\B" } else { r"\b" });
            return;
        }
        let word = if ascii { WORD_ASCII } else { WORD };
        let (first, second) = if negated { ("(?=", "(?!") } else { ("(?!", "(?=") };
        self.backtracking(&format!("(?:(?<=[{word}]){first}[{word}])|(?<![{word}]){second}[{word}]))"));
    }

    fn literal(&mut self, code: u32, flags: RegexFlags) {
        let is_letter = char::from_u32(code).is_some_and(char::is_alphabetic);
        if char::from_u32(code).is_none() || flags.any_case && is_letter {
            self.set(&CharacterSet { negated: false, items: vec![SetItem::Range(code, code)], flags });
        } else {
            self.character(code);
        }
    }

    fn character(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(c) if c.is_ascii_alphanumeric() || c == '_' => self.out.push(c),
            _ => drop(write!(self.out, "\\x{{{code:x}}}")),
        }
    }

    fn set(&mut self, set: &CharacterSet) {
        let RegexFlags { any_case, ascii, .. } = set.flags;
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for item in &set.items {
            if let SetItem::Range(low, high) = item {
                ranges.extend(without_surrogates(*low, *high));
            }
        }
        if any_case {
            ranges.extend(other_cases(&ranges, ascii));
        }
        let others = set.items.iter().any(|item| !matches!(item, SetItem::Range(..)));
        if ranges.is_empty() && !others {
            // Nothing but surrogates, which no text holds.
            self.out.push_str(if set.negated { "(?s:.)" } else { r"[^\x{0}-\x{10ffff}]" });
            return;
        }
        let open = if set.negated { "[^" } else { "[" };
        let folds = any_case && !ascii;
        self.out.push_str(if folds { "(?i:" } else { "" });
        self.out.push_str(open);
        for (low, high) in ranges {
            self.character(low);
            if high > low {
                self.out.push('-');
                self.character(high);
            }
        }
        for item in &set.items {
            match item {
                SetItem::Range(..) => {}
                SetItem::Category(letter) => self.category(*letter, ascii),
                SetItem::Property { name, negated } => {
                    let _ = write!(self.out, "\\{}{{{name}}}", if *negated { 'P' } else { 'p' });
                }
            }
        }
        self.out.push_str(if folds { "])" } else { "]" });
    }

    fn category(&mut self, letter: char, ascii: bool) {
        let items = match (letter.to_ascii_lowercase(), ascii) {
            ('d', false) => r"\p{Nd}",
            ('d', true) => "0-9",
            ('s', false) => r"\s\x{1c}-\x{1f}",
            ('s', true) => r"\x{9}-\x{d}\x{20}",
            (_, false) => WORD,
            (_, true) => WORD_ASCII,
        };
        let _ = if letter.is_ascii_uppercase() { write!(self.out, "[^{items}]") } else { write!(self.out, "{items}") };
    }
}

/// The part within groups that hold nothing else.
fn peeled(mut node: &RegexNode) -> &RegexNode {
    while let RegexNode::Sequence(parts) = node
        && let [only] = parts.as_slice()
    {
        node = only;
    }
    node
}

fn is_empty(node: &RegexNode) -> bool {
    matches!(peeled(node), RegexNode::Empty)
}

fn without_surrogates(low: u32, high: u32) -> impl Iterator<Item = (u32, u32)> {
    [(low, high.min(0xd7ff)), (low.max(0xe000), high)].into_iter().filter(|(low, high)| low <= high)
}

/// The characters that Python takes for these in any case and the crates do not: under the flag `a` those of ASCII, else
/// the two letters `i` with and without a dot.
fn other_cases(ranges: &[(u32, u32)], ascii: bool) -> Vec<(u32, u32)> {
    let holds = |code: u32| ranges.iter().any(|(low, high)| (*low..=*high).contains(&code));
    if ascii {
        let letters = ('A'..='Z').chain('a'..='z').filter(|c| holds(u32::from(*c)));
        return letters.map(|c| u32::from(c) ^ 0x20).map(|code| (code, code)).collect();
    }
    let all = ['i', 'I', 'ı', 'İ'].map(u32::from);
    if all.into_iter().any(holds) { all.map(|code| (code, code)).to_vec() } else { Vec::new() }
}
