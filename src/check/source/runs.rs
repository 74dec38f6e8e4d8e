//! Runs of weights within a row, in the groups that share qparams.

use crate::decode::Qparams;

/// Consecutive weights of one row: in one group, or in several whole ones and then no more than a stretch.
pub(super) struct Run<'a> {
    pub(super) at: [usize; 2],
    /// Those of each group.
    pub(super) qparams: &'a [Qparams],
    pub(super) codes: &'a [u8],
}

impl<'a> Run<'a> {
    pub(super) fn place(&self, index: usize) -> [usize; 2] {
        [self.at[0], self.at[1] + index]
    }

    /// Lists its parts of one group each, with their weights.
    pub(super) fn groups<'w>(&self, weights: &'w [f32]) -> impl Iterator<Item = (Run<'a>, &'w [f32])> {
        let ([row, column], width) = (self.at, self.codes.len() / self.qparams.len());
        let parts = self.qparams.chunks(1).zip(self.codes.chunks(width)).zip(weights.chunks(width));
        parts.enumerate().map(move |(index, ((qparams, codes), weights))| {
            (Run { at: [row, column + index * width], qparams, codes }, weights)
        })
    }
}
