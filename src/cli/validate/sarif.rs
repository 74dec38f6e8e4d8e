//! Diagnostics of recipes in SARIF 2.1.0.

use std::path::Path;

use serde_json::{Value, json};

use crate::check::sarif_format::{encoded, file_uri, log_of, plain};
use crate::cli::failure::{DiagnosticLevel, FailurePlace, RecipeDiagnostic};

/// The log of all diagnostics.
pub(super) fn log(diagnostics: &[RecipeDiagnostic]) -> Value {
    let rule = |level: DiagnosticLevel, text: &str| {
        json!({
            "id": code(level),
            "shortDescription": { "text": text },
            "defaultConfiguration": { "level": word(level) },
        })
    };
    // A diagnostic says in its own words what is wrong; as rules there is nothing but how grave it is.
    let rules = [
        rule(DiagnosticLevel::Error, "The recipe cannot be carried out as it is."),
        rule(DiagnosticLevel::Warning, "The recipe may not do what is meant."),
        rule(DiagnosticLevel::Note, "The recipe does what is meant, and there is something to know of it."),
    ];
    log_of(&rules, &diagnostics.iter().map(result).collect::<Vec<_>>())
}

fn result(diagnostic: &RecipeDiagnostic) -> Value {
    let label = Some(diagnostic.label.as_str()).filter(|label| !label.is_empty());
    let texts =
        [diagnostic.message.as_str()].into_iter().chain(label).chain(diagnostic.help.iter().map(String::as_str));
    let text = texts.collect::<Vec<_>>().join("; ");
    json!({
        "ruleId": code(diagnostic.level),
        "ruleIndex": diagnostic.level as usize,
        "level": word(diagnostic.level),
        "message": { "text": plain(&text) },
        "locations": [{ "physicalLocation": location(&diagnostic.place) }],
    })
}

fn location(place: &FailurePlace) -> Value {
    let path = Path::new(&place.file);
    // Services resolve a relative path against the root of the repository, which is where they run.
    let uri = if path.is_absolute() { file_uri(path) } else { encoded(&place.file) };
    let mut location = json!({ "artifactLocation": { "uri": uri } });
    if let (Some(line), Some(column)) = (place.line, place.column) {
        let mut region = json!({ "startLine": line, "startColumn": column });
        if let (Some(line), Some(column)) = (place.end_line, place.end_column) {
            region["endLine"] = line.into();
            region["endColumn"] = column.into();
        }
        location["region"] = region;
    }
    location
}

fn code(level: DiagnosticLevel) -> &'static str {
    match level {
        DiagnosticLevel::Error => "recipe-error",
        DiagnosticLevel::Warning => "recipe-warning",
        DiagnosticLevel::Note => "recipe-note",
    }
}

fn word(level: DiagnosticLevel) -> &'static str {
    match level {
        DiagnosticLevel::Error => "error",
        DiagnosticLevel::Warning => "warning",
        DiagnosticLevel::Note => "note",
    }
}
