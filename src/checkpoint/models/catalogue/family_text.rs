//! Reading the text of a family's file.

use std::path::Path;

use super::family::FamilyFile;
use super::stack::KnownStack;

/// The reason why a family's file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", crate::text::shown_path(Path::new(.file)))]
pub struct FamilyError {
    /// The file's path, or its name in `models/` for one that is built in.
    pub file: String,
    pub reason: String,
}

/// Reads the text of a family's file.
///
/// # Errors
/// The text is no YAML, or says something that no family has.
pub fn parse(origin: &str, text: &str) -> Result<FamilyFile, FamilyError> {
    let read: Result<FamilyFile, _> = serde_yaml::from_str(text);
    let fault = |reason| FamilyError { file: origin.to_owned(), reason };
    let family = read.map_err(|error| fault(reason(&error.to_string())))?;
    if let Some(reason) = family.stacks.iter().find_map(KnownStack::fault) {
        return Err(fault(reason));
    }
    Ok(FamilyFile { origin: origin.to_owned(), ..family })
}

/// The reader's words without their own beginning: whoever shows them says that it is an error.
fn reason(said: &str) -> String {
    said.strip_prefix("error: ").unwrap_or(said).to_owned()
}
