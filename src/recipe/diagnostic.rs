//! Diagnostics of recipes: an error, a warning or a note, its place in the text, and advice.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Origin, Renderer, Snippet};

use crate::checkpoint::text::unquoted;
use crate::recipe::text::{RecipeText, floor};

/// The weight of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An error: nothing is written.
    Error,
    /// A warning: the run goes on.
    Warning,
    /// A note: the result is right, and a reader may want to know this of it.
    Note,
}

/// One diagnostic about a recipe, or about a recipe and a checkpoint together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub level: Level,
    /// One line in lower case, without a full stop.
    pub message: String,
    /// The bytes of the recipe text that the diagnostic points at.
    pub span: Option<Range<usize>>,
    /// Text beside the caret; may be empty.
    pub label: String,
    /// Advice, one line each but for a recipe that it shows.
    pub help: Vec<String>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>) -> Self {
        Self { level: Level::Error, message: message.into(), span: None, label: String::new(), help: Vec::new() }
    }

    pub fn warning(message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(message) }
    }

    pub fn note(message: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::error(message) }
    }

    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// Shows diagnostics as rustc does, each under the line that it points at.
pub fn render(diagnostics: &[Diagnostic], text: &RecipeText, color: bool) -> String {
    render_within(diagnostics, text, color, None)
}

/// Shows diagnostics as [`render`] does, with no more of a recipe's line than fits into `width` columns.
pub fn render_within(diagnostics: &[Diagnostic], text: &RecipeText, color: bool, width: Option<usize>) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = width.map_or(renderer.clone(), |width| renderer.term_width(width));
    let path = unquoted(&text.path.to_string_lossy()).to_string();
    let mut rendered = String::new();
    for diagnostic in diagnostics {
        if !rendered.is_empty() {
            rendered.push_str("\n\n");
        }
        let line =
            diagnostic.span.clone().filter(|_| !text.text.is_empty()).map(|span| SourceLine::of(&text.text, span));
        // Writing to a string cannot fail.
        let _ = write!(rendered, "{}", renderer.render(&[diagnostic.group(line.as_ref(), &path)]));
    }
    rendered
}

impl Diagnostic {
    fn group<'a>(&'a self, line: Option<&'a SourceLine>, path: &'a str) -> Group<'a> {
        let level = match self.level {
            Level::Error => annotate_snippets::Level::ERROR,
            Level::Warning => annotate_snippets::Level::WARNING,
            Level::Note => annotate_snippets::Level::NOTE,
        };
        let mut group = Group::with_title(level.primary_title(&self.message));
        group = match line {
            None => group.element(Origin::path(path)),
            Some(line) => {
                let mark = AnnotationKind::Primary.span(line.mark.clone());
                let mark = if self.label.is_empty() { mark } else { mark.label(&self.label) };
                let snippet = Snippet::source(&line.shown).line_start(line.number).path(path).annotation(mark);
                group.element(snippet)
            }
        };
        group.elements(self.help.iter().map(|help| annotate_snippets::Level::HELP.message(help)))
    }
}

/// The line of a text that a diagnostic points at, fit to be shown.
struct SourceLine {
    /// The line number, from 1.
    number: usize,
    shown: String,
    /// The bytes of `shown` to mark.
    mark: Range<usize>,
}

impl SourceLine {
    fn of(text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let stop = floor(text, span.end.clamp(start, end));
        let (before, marked, after) = (&text[begin..start], &text[start..stop], &text[stop..end]);
        let before = printable(before);
        let marked = printable(marked);
        let mark = before.len()..before.len() + marked.len();
        let shown = format!("{before}{marked}{}", printable(after));
        Self { number: text[..begin].matches('\n').count() + 1, shown, mark }
    }
}

/// Replaces each character that a terminal would act on by one other, so that columns stay right.
fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(is_unfit) { text.replace(is_unfit, "\u{fffd}").into() } else { text.into() }
}

/// Reports whether a terminal would act on the character: a control character other than the tab, or a direction mark.
pub(super) fn is_unfit(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && c != '\t'
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn text(text: &str) -> RecipeText {
        RecipeText::new(Path::new("recipes/mine.yaml"), text)
    }

    #[test]
    fn a_diagnostic_stands_under_its_line() {
        let text = text("rules:\n  - scheme: FP8_BLOK\n");
        let diagnostic =
            Diagnostic::error("no scheme is called `FP8_BLOK`").at(19..27).help("did you mean `FP8_BLOCK`?");
        let expected = "\
error: no scheme is called `FP8_BLOK`
 --> recipes/mine.yaml:2:13
  |
2 |   - scheme: FP8_BLOK
  |             ^^^^^^^^
  |
  = help: did you mean `FP8_BLOCK`?";
        assert_eq!(render(&[diagnostic], &text, false), expected);
    }

    #[test]
    fn a_diagnostic_without_a_span_and_a_warning_with_a_label_are_shown() {
        let text = text("a: 1");
        let diagnostics = [
            Diagnostic::error("nothing to do").help("do something"),
            Diagnostic::warning("matches nothing").at(3..4).label("here").help("one").help("two"),
        ];
        let expected = "\
error: nothing to do
--> recipes/mine.yaml
 = help: do something

warning: matches nothing
 --> recipes/mine.yaml:1:4
  |
1 | a: 1
  |    ^ here
  |
  = help: one
  = help: two";
        assert_eq!(render(&diagnostics, &text, false), expected);
    }

    #[test]
    fn spans_outside_the_text_or_inside_a_character_are_shown() {
        let text = text("ä: 'ß'\nb: c");
        for span in [0..0, 1..1, 0..100, 4..6, 13..13, 100..200, 5..10] {
            let shown = render(&[Diagnostic::error("x").at(span.clone())], &text, false);
            assert!(shown.starts_with("error: x\n --> recipes/mine.yaml:"), "{span:?}: {shown}");
        }
        assert!(render(&[Diagnostic::error("x").at(4..8)], &text, false).contains("mine.yaml:1:4\n"));
        assert!(render(&[Diagnostic::error("x").at(12..13)], &text, false).contains("mine.yaml:2:4\n"));
    }

    #[test]
    fn long_lines_keep_their_column() {
        let text = text(&format!("a: [{}, bad, {}]", "x, ".repeat(300), "y, ".repeat(300)));
        let at = text.text.find("bad").unwrap();
        let shown = render(&[Diagnostic::error("x").at(at..at + 3)], &text, false);
        assert!(shown.contains(&format!("mine.yaml:1:{}\n", at + 1)), "{shown}");
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[3].contains("bad") && lines.iter().all(|line| line.len() < 200), "{shown}");
        assert_eq!(lines[3].find("bad"), lines[4].find("^^^"), "{shown}");
    }

    #[test]
    fn control_characters_are_replaced() {
        let text = text("a\u{200e}\u{202e}\u{1b}[31m: 1");
        let shown = render(&[Diagnostic::error("x").at(9..10)], &text, false);
        assert!(shown.contains("1 | a\u{fffd}\u{fffd}\u{fffd}[31m: 1\n"), "{shown}");
    }

    #[test]
    fn color_is_used_only_on_request() {
        let text = text("a: 1");
        let diagnostic = [Diagnostic::error("x").at(0..1)];
        assert!(render(&diagnostic, &text, true).contains("\u{1b}["));
        assert!(!render(&diagnostic, &text, false).contains('\u{1b}'));
    }
}
