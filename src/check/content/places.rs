//! How often something was met in a matrix, and where first.

/// How often something was met, and where first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Places {
    pub(super) number: u64,
    pub(super) first: [usize; 2],
}

impl Places {
    pub(super) fn add(&mut self, at: [usize; 2]) {
        if self.number == 0 {
            self.first = at;
        }
        self.number += 1;
    }

    /// Adds those of another part.
    pub(super) fn merge(&mut self, later: Self) {
        self.first = match (self.number, later.number) {
            (_, 0) => self.first,
            (0, _) => later.first,
            _ => self.first.min(later.first),
        };
        self.number += later.number;
    }
}
