//! The proof that a run can wait for before it publishes.

use std::fmt;
use std::path::Path;

/// Judges a finished checkpoint while nothing bears the output's name yet.
pub trait Proof: fmt::Debug + Sync {
    /// Judges the checkpoint in `dir`, which is whole, manifest included. Returns the model card to publish with it in
    /// place of the plan's; `None` leaves that one.
    ///
    /// # Errors
    /// The reason why it must not be published.
    fn judge(&self, dir: &Path) -> Result<Option<String>, Unpublished>;
}

/// Reason why a finished checkpoint is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpublished {
    /// It is not what it should be, which the same run would be once more.
    AtFault(String),
    /// It could not be judged.
    Unjudged(String),
    /// The user ended the run.
    Cancelled,
}
