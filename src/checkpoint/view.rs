//! How the values of a tensor follow from stored bytes, where a checkpoint is seen otherwise than it is stored.

/// Where the values of a tensor are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// In its bytes, row after row, as they are stored.
    Stored,
    /// In columns of a stored matrix, each of which is a row of the tensor; the first begins at the tensor's offset.
    Transposed {
        /// Bytes from one stored row to the next.
        stride: u64,
    },
}
