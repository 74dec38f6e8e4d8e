//! The words of a weight that is stored transposed.

/// Integers of a weight that is stored transposed, with a float scale and a zero point for each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransposedStorage {
    /// Bits of an integer: 2, 4 or 8.
    pub(crate) bits: u32,
    pub(crate) words: TransposedWords,
}

/// The direction of words in the weight, and what else differs by method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransposedWords {
    /// A word holds eight rows of a column, the four even ones first: AWQ's.
    Rows,
    /// A word holds neighbouring columns of a row: GPTQ's.
    Columns {
        /// Zero points are stored less one.
        less_one: bool,
        /// A tensor must tell the group of each column.
        ordered: bool,
    },
}
