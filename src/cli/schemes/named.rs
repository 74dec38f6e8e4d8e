//! Looking up the scheme that a command names.

use qwen_fp8_schemes::{Registration, find, registered};

use crate::checkpoint::text::shown;
use crate::cli::error::CommandError;

/// Finds a scheme by name or alias; the error suggests the nearest name.
pub(super) fn named(name: &str) -> Result<&'static Registration, CommandError> {
    find(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> CommandError {
    let wanted = name.to_ascii_uppercase();
    let known = registered().into_iter().map(|scheme| scheme.name);
    let nearest = known.max_by(|a, b| strsim::jaro_winkler(&wanted, a).total_cmp(&strsim::jaro_winkler(&wanted, b)));
    CommandError::Input(format!(
        "no scheme is called {}{}",
        shown(name),
        nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
    ))
}
