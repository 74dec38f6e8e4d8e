//! The reasons for which the cache of a model cannot be counted.

use crate::checkpoint::text::{shown, unquoted};

/// A reason for which it is not known how many bytes of cache a request takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheUnknown {
    /// A figure that decides the size is nowhere.
    #[error("config.json has no `{key}`")]
    Missing { key: &'static str },
    /// A figure is none that a model can have.
    #[error("`{}` of config.json is {}, which is no size that a model has", unquoted(key), unquoted(value))]
    Absurd { key: String, value: String },
    /// The figures are believable one by one, and their product is not.
    #[error("the figures of config.json make a cache of more bytes than a number holds")]
    Overflow,
    /// A kind of layer whose cache is not known.
    #[error("config.json has layers of the kind {}, whose cache is not known", shown(word))]
    Kind { word: String },
    /// What the family's file says.
    #[error("{reason}")]
    Family { reason: String },
}
