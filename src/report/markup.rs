//! Text in HTML: escaped, and in the tables that every section has.

use std::fmt;

use crate::checkpoint::text::sentence;

/// Displays a text from the input in HTML: control characters and direction marks as escapes, markup as text, and cut
/// at 400 characters.
pub(super) fn escaped(text: &str) -> impl fmt::Display {
    Markup(sentence(text).to_string())
}

/// Displays a name or a path in HTML, which may be broken after its dots and slashes.
pub(super) fn name(text: &str) -> impl fmt::Display {
    // The text has no markup any more, and neither sign is in an entity.
    format!("<code>{}</code>", escaped(text).to_string().replace('.', ".<wbr>").replace('/', "/<wbr>"))
}

/// A message in HTML: what stands in backticks as [`name`] shows it, the rest as [`escaped`] does.
pub(super) fn quoting(message: &str) -> String {
    // Cut before it is taken apart, so that no mark is lost between.
    let message = sentence(message).to_string();
    if !message.matches('`').count().is_multiple_of(2) {
        return Markup(message).to_string();
    }
    let part = |(at, part): (usize, &str)| {
        if at % 2 == 1 { name(part).to_string() } else { Markup(part.to_owned()).to_string() }
    };
    message.split('`').enumerate().map(part).collect()
}

/// Displays a text of many lines in HTML, as [`escaped`] does but for its line ends and its length.
pub(super) fn escaped_lines(text: &str) -> impl fmt::Display {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' | '"' | '\'' | '\\' => out.push(character),
            '\r' => {}
            other => out.extend(other.escape_debug()),
        }
    }
    Markup(out)
}

struct Markup(String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// The side of a column that its cells stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellSide {
    Text,
    /// Sentences, which need some width.
    Prose,
    Number,
}

impl CellSide {
    fn class(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::Prose => " class=\"p\"",
            Self::Number => " class=\"n\"",
        }
    }
}

/// A table with a caption. Cells are HTML; the first of a row names it.
pub(super) struct HtmlTable {
    caption: String,
    columns: Vec<(&'static str, CellSide)>,
    rows: String,
}

impl HtmlTable {
    pub(super) fn new(caption: &str, columns: &[(&'static str, CellSide)]) -> Self {
        Self { caption: caption.to_owned(), columns: columns.to_vec(), rows: String::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push_str("<tr>");
        for (index, (cell, (_, side))) in cells.into_iter().zip(&self.columns).enumerate() {
            let class = side.class();
            match index {
                0 => self.rows.push_str(&format!("<th scope=\"row\">{cell}</th>")),
                _ => self.rows.push_str(&format!("<td{class}>{cell}</td>")),
            }
        }
        self.rows.push_str("</tr>\n");
    }

    /// A row that says how many were left out.
    pub(super) fn more(&mut self, number: usize) {
        if number > 0 {
            let columns = self.columns.len();
            self.rows.push_str(&format!("<tr><td colspan=\"{columns}\" class=\"more\">and {number} more</td></tr>\n"));
        }
    }

    /// Returns the table in a box that scrolls by itself where it is too wide, from the keyboard too.
    pub(super) fn html(self) -> String {
        let head: String = self
            .columns
            .iter()
            .map(|(name, side)| {
                let class = side.class();
                format!("<th scope=\"col\"{class}>{name}</th>")
            })
            .collect();
        let Self { caption, rows, .. } = self;
        format!(
            "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{caption}\"><table><caption>{caption}</caption>\n\
             <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
        )
    }
}

/// A section of the page, with the name that links to it.
pub(super) struct Section {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) body: String,
}

/// A share of a whole in percent, with as many digits as tell it from none, and never broken.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent == 0.0 || percent.abs() >= 10.0 => format!("{percent:.0}\u{a0}%"),
        percent if percent.abs() >= 0.1 => format!("{percent:.1}\u{a0}%"),
        percent => format!("{percent:.3}\u{a0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_input_becomes_markup_or_acts_on_a_reader() {
        assert_eq!(escaped("a<b>&\"c'\u{202e}\u{1b}").to_string(), "a&lt;b&gt;&amp;&quot;c&#39;\\u{202e}\\u{1b}");
        assert_eq!(escaped_lines("a: <b>\r\n\t'c'\u{7}").to_string(), "a: &lt;b&gt;\n\t&#39;c&#39;\\u{7}");
        assert_eq!(escaped(&"n".repeat(9999)).to_string().chars().count(), 401);
    }

    #[test]
    fn names_in_messages_are_code_and_may_be_broken() {
        assert_eq!(quoting("`a.b` is <x>"), "<code>a.<wbr>b</code> is &lt;x&gt;");
        assert_eq!(quoting("`a`b` is"), "`a`b` is");
    }

    #[test]
    fn shares_have_digits_that_tell_them_from_none() {
        let all = [0.0, 0.000_04, 0.004, 0.48, 1.0].map(percent);
        assert_eq!(all, ["0 %", "0.004 %", "0.4 %", "48 %", "100 %"].map(|text| text.replace(' ', "\u{a0}")));
    }
}
