//! The kinds of object store.

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Amazon S3, and what speaks its protocol.
    S3,
    Google,
    Azure,
}
