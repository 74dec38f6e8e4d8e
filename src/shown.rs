//! Text from the input, made fit for a terminal: escaped, cut, and set in backticks.

use std::fmt;
use std::path::Path;

/// Characters after which a text is cut.
const LIMIT: usize = 200;

/// Displays a name from the input in backticks, control characters escaped and anything past 200 characters cut.
pub fn shown(text: &str) -> Shown<'_> {
    Shown { text: text.into(), ticks: "`" }
}

/// Displays a path as [`shown`] does.
pub fn shown_path(path: &Path) -> Shown<'_> {
    Shown { text: path.to_string_lossy(), ticks: "`" }
}

/// Displays a message that quotes the input, such as a JSON parser's, escaped and cut but without backticks.
pub fn shown_message(text: &str) -> Shown<'_> {
    Shown { text: text.into(), ticks: "" }
}

/// See [`shown`].
#[derive(Debug)]
pub struct Shown<'a> {
    text: std::borrow::Cow<'a, str>,
    ticks: &'static str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ticks)?;
        for c in self.text.chars().take(LIMIT) {
            match c {
                '"' | '\'' => write!(f, "{c}")?,
                c => write!(f, "{}", c.escape_debug())?,
            }
        }
        if self.text.chars().nth(LIMIT).is_some() {
            f.write_str("…")?;
        }
        f.write_str(self.ticks)
    }
}

/// How many things there are, and the first few by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    names: Vec<String>,
    total: usize,
}

impl Sample {
    /// Names shown; the rest is a number.
    const SHOWN: usize = 3;

    pub fn push(&mut self, name: &str) {
        if self.names.len() < Self::SHOWN {
            self.names.push(name.to_owned());
        }
        self.total += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub fn is_one(&self) -> bool {
        self.total == 1
    }

    /// `1 tensor`, `17 tensors`.
    pub fn count(&self, thing: &str) -> String {
        format!("{} {thing}{}", self.total, if self.total == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, shown(name))?;
        }
        match self.total - self.names.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Sample {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut sample = Self::default();
        names.into_iter().for_each(|name| sample.push(name.as_ref()));
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_names_are_cut() {
        assert_eq!(shown("a\u{1b}[31m\n\u{202e}b").to_string(), "`a\\u{1b}[31m\\n\\u{202e}b`");
        assert_eq!(shown(&"n".repeat(1 << 20)).to_string().chars().count(), LIMIT + 3);
    }

    #[test]
    fn samples_count_what_they_do_not_show() {
        let sample: Sample = (0..1000).map(|i| format!("w{i}")).collect();
        assert_eq!(sample.to_string(), "`w0`, `w1`, `w2` and 997 more");
        assert_eq!(sample.count("tensor"), "1000 tensors");
        assert_eq!(["a"].iter().collect::<Sample>().to_string(), "`a`");
    }
}
