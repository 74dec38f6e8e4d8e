//! Text from the input, made fit for a terminal: escaped and cut.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// Displays a name from the input in backticks, control characters escaped and anything past 200 characters cut.
pub fn shown(text: &str) -> Shown<'_> {
    Shown { text: text.into(), ticks: "`", limit: 200 }
}

/// Displays a path as [`shown`] does.
pub fn shown_path(path: &Path) -> Shown<'_> {
    Shown { text: path.to_string_lossy(), ticks: "`", limit: 200 }
}

/// Displays a part of the input without backticks, cut at 120 characters.
pub fn unquoted(text: &str) -> Shown<'_> {
    Shown { text: text.into(), ticks: "", limit: 120 }
}

/// Displays a message of someone else that may quote the input, such as a JSON parser's, cut at 400 characters.
pub fn sentence(text: &str) -> Shown<'_> {
    Shown { text: text.into(), ticks: "", limit: 400 }
}

/// See [`shown`].
#[derive(Debug)]
pub struct Shown<'a> {
    text: Cow<'a, str>,
    ticks: &'static str,
    limit: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ticks)?;
        let mut characters = self.text.chars();
        for character in characters.by_ref().take(self.limit) {
            match character {
                // Patterns are full of backslashes, and a terminal acts on none of these.
                '"' | '\'' | '\\' => write!(f, "{character}")?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        if characters.next().is_some() {
            f.write_str("…")?;
        }
        f.write_str(self.ticks)
    }
}

/// The number of things, and the first few by name.
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
        assert_eq!(shown(&"n".repeat(1 << 20)).to_string().chars().count(), 203);
    }

    #[test]
    fn each_kind_of_text_has_its_length() {
        assert_eq!(unquoted("a\u{1b}[31m\n\"b\" 'c' \\d ß").to_string(), "a\\u{1b}[31m\\n\"b\" 'c' \\d ß");
        assert_eq!(unquoted(&"x".repeat(500)).to_string().chars().count(), 121);
        assert_eq!(sentence(&"x".repeat(500)).to_string().chars().count(), 401);
    }

    #[test]
    fn samples_count_what_they_do_not_show() {
        let sample: Sample = (0..1000).map(|i| format!("w{i}")).collect();
        assert_eq!(sample.to_string(), "`w0`, `w1`, `w2` and 997 more");
        assert_eq!(sample.count("tensor"), "1000 tensors");
        assert_eq!(["a"].iter().collect::<Sample>().to_string(), "`a`");
    }
}
