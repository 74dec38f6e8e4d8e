//! A count of something in a matrix, and its first place.

/// A count, and the row and column of the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Occurrences {
    pub(crate) number: u64,
    pub(crate) first: [usize; 2],
}

impl Occurrences {
    /// Counts one at this row and column.
    pub(crate) fn add(&mut self, at: [usize; 2]) {
        if self.number == 0 {
            self.first = at;
        }
        self.number += 1;
    }

    /// Returns these of a part of a row, whose first column was counted from 0, where the part lies.
    pub(crate) fn at(self, [row, column]: [usize; 2]) -> Self {
        Self { first: [row, column + self.first[1]], ..self }
    }

    /// Adds the occurrences of another part.
    pub(crate) fn merge(&mut self, later: Self) {
        if later.number == 0 {
            return;
        }
        self.first = if self.number == 0 { later.first } else { self.first.min(later.first) };
        self.number += later.number;
    }
}
