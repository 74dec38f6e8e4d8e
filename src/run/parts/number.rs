//! The number of a part.

use std::fmt;

/// One of the parts of a run: the third of eight is 3/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartNumber {
    number: usize,
    of: usize,
}

impl PartNumber {
    /// The most parts that a run can have.
    pub const MOST: usize = 10_000;

    /// Returns part `number` of `of`, counted from 1; `None` where there is no such part.
    pub fn new(number: usize, of: usize) -> Option<Self> {
        ((1..=of).contains(&number) && of <= Self::MOST).then_some(Self { number, of })
    }

    /// Returns all parts of so many.
    pub(super) fn all(of: usize) -> impl Iterator<Item = Self> {
        (1..=of).map(move |number| Self { number, of })
    }

    /// Returns the place of the part among all of them, from 0.
    pub(super) fn index(self) -> usize {
        self.number - 1
    }

    /// Returns the number of all parts.
    pub fn of(self) -> usize {
        self.of
    }

    /// Returns the beginning of the names of files and directories that belong to the part.
    pub(super) fn name(self) -> String {
        format!("part-{}-of-{}", self.number, self.of)
    }

    /// Returns the part of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (number, of) = name.strip_prefix("part-")?.split_once("-of-")?;
        let part = Self::new(number.parse().ok()?, of.parse().ok()?)?;
        (part.name() == name).then_some(part)
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}
