//! The parts of a regex as Python reads it.

/// A part of a regex.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RegexNode {
    Empty,
    Literal {
        code: u32,
        flags: RegexFlags,
    },
    /// `.`, which takes a line end only under the flag `s`.
    Any {
        line_ends: bool,
    },
    Set(CharacterSet),
    /// `^`, and `\A` without the flag `m`.
    Start {
        of_lines: bool,
    },
    /// `\Z`.
    End,
    /// `$`: the end, or before a line end that ends the text; each line's end under the flag `m`.
    Dollar {
        of_lines: bool,
    },
    Boundary {
        negated: bool,
        ascii: bool,
    },
    Capture(Box<RegexNode>),
    Atomic(Box<RegexNode>),
    Look {
        behind: bool,
        negated: bool,
        inner: Box<RegexNode>,
    },
    BackReference {
        group: usize,
        flags: RegexFlags,
        width: RegexWidth,
    },
    Condition {
        group: usize,
        yes: Box<RegexNode>,
        no: Option<Box<RegexNode>>,
    },
    Repeat {
        inner: Box<RegexNode>,
        least: u32,
        most: Option<u32>,
        greed: RegexGreed,
    },
    Sequence(Vec<RegexNode>),
    Alternatives(Vec<RegexNode>),
}

/// The way in which a repetition takes and gives back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RegexGreed {
    Greedy,
    Lazy,
    /// Takes all that it can and gives nothing back.
    Possessive,
}

/// The flags that hold for a part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RegexFlags {
    pub(super) ascii: bool,
    pub(super) any_case: bool,
    pub(super) lines: bool,
    pub(super) dot_takes_line_ends: bool,
    pub(super) verbose: bool,
}

/// `[…]`, or an escape that stands for a set of characters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CharacterSet {
    pub(super) negated: bool,
    pub(super) items: Vec<SetItem>,
    pub(super) flags: RegexFlags,
}

/// An item of a character set.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SetItem {
    Range(u32, u32),
    /// `\d`, `\s`, `\w`, and their complements in upper case.
    Category(char),
    /// `\p{…}` of vLLM's `regex`.
    Property {
        name: String,
        negated: bool,
    },
}

/// The least and greatest number of characters that a part takes; `None` has no end.
pub(super) type RegexWidth = (u64, Option<u64>);

impl RegexNode {
    pub(super) fn width(&self) -> RegexWidth {
        let none: RegexWidth = (0, Some(0));
        match self {
            Self::Literal { .. } | Self::Any { .. } | Self::Set(_) => (1, Some(1)),
            Self::Empty
            | Self::Start { .. }
            | Self::End
            | Self::Dollar { .. }
            | Self::Boundary { .. }
            | Self::Look { .. } => none,
            Self::Capture(inner) | Self::Atomic(inner) => inner.width(),
            Self::BackReference { width, .. } => *width,
            Self::Condition { yes, no, .. } => either(yes.width(), no.as_ref().map_or(none, |no| no.width())),
            Self::Repeat { inner, least, most, .. } => {
                let (low, high) = inner.width();
                let high = match (high, most) {
                    (Some(0), _) => Some(0),
                    (Some(high), Some(most)) => high.checked_mul(u64::from(*most)),
                    _ => None,
                };
                (low.saturating_mul(u64::from(*least)), high)
            }
            Self::Sequence(parts) => parts.iter().map(Self::width).fold(none, |sum, width| {
                (sum.0.saturating_add(width.0), sum.1.zip(width.1).and_then(|(a, b)| a.checked_add(b)))
            }),
            Self::Alternatives(branches) => branches.iter().map(Self::width).reduce(either).unwrap_or(none),
        }
    }

    /// Reports a place in the text, which Python does not repeat.
    pub(super) fn is_place(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::End | Self::Dollar { .. } | Self::Boundary { .. })
    }
}

fn either(a: RegexWidth, b: RegexWidth) -> RegexWidth {
    (a.0.min(b.0), a.1.zip(b.1).map(|(a, b)| a.max(b)))
}
