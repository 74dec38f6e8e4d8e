//! Reading the text of a family's file.

use std::path::Path;

use super::family::FamilyFile;

/// The reason why a family's file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", crate::text::shown_path(Path::new(.file)))]
pub struct FamilyError {
    /// The file's path, or its name in `models/` for one that is built in.
    pub file: String,
    pub reason: String,
}

/// Reads the text of a family's file that is built in; those of the user are read by `recipe`, which says where a mistake
/// stands.
///
/// # Errors
/// The text is no YAML, or says something that no family has.
pub fn parse(origin: &str, text: &str) -> Result<FamilyFile, FamilyError> {
    let fault = |reason| FamilyError { file: origin.to_owned(), reason };
    let family: FamilyFile = serde_yaml::from_str(text).map_err(|error| fault(error.to_string()))?;
    Ok(FamilyFile { origin: origin.to_owned(), ..family })
}
