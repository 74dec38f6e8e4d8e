//! Looking up the scheme that a command names.

use qwen_fp8_schemes::{Registration, find, registered};

use crate::checkpoint::text::shown;
use crate::cli::error::CommandError;
use crate::recipe::scheme_help;

/// Finds a scheme by name or alias; the error suggests the nearest name.
pub(super) fn named(name: &str) -> Result<&'static Registration, CommandError> {
    find(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> CommandError {
    let known: Vec<&str> = registered().into_iter().map(|scheme| scheme.name).collect();
    CommandError::Input(format!("no scheme is called {}", shown(name))).with_help(&scheme_help(name, known.into_iter()))
}
