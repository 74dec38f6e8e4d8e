//! Panics of a scheme, turned into broken promises.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::Broken;

/// Does `work`, and turns a panic into an error.
pub(super) fn unless_it_panics<T>(
    place: impl fmt::Display,
    work: impl FnOnce() -> Result<T, Broken>,
) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = literal.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "without a message".to_owned());
        Err(Broken::Panics { place: place.to_string(), message })
    })
}
