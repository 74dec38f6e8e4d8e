//! No type name means two things.

use std::collections::BTreeMap;

use regex::Regex;

use super::sources;
use crate::support::rust_source::{SourceText, line_of};

/// Names that may stand more than once, each with its reason. An entry that is not needed any more fails, too.
const ALLOWED: &[(&str, &str)] = &[
    ("Options", "each scheme's own options, private to its file"),
    ("Action", "to be renamed"),
    ("Activations", "to be renamed"),
    ("Codes", "to be renamed"),
    ("Content", "to be renamed"),
    ("Described", "to be renamed"),
    ("Element", "to be renamed"),
    ("Entry", "to be renamed"),
    ("Failure", "to be renamed"),
    ("Float8", "to be renamed"),
    ("Form", "to be renamed"),
    ("Format", "to be renamed"),
    ("Group", "to be renamed"),
    ("Index", "to be renamed"),
    ("Inputs", "to be renamed"),
    ("Integers", "to be renamed"),
    ("Job", "to be renamed"),
    ("Key", "to be renamed"),
    ("Level", "to be renamed"),
    ("Matrix", "to be renamed"),
    ("Metadata", "to be renamed"),
    ("Microscaled", "to be renamed"),
    ("NonFinite", "to be renamed"),
    ("Nvfp4", "to be renamed"),
    ("Part", "to be renamed"),
    ("Place", "to be renamed"),
    ("Plan", "to be renamed"),
    ("Poisoned", "to be renamed"),
    ("Progress", "to be renamed"),
    ("Reader", "to be renamed"),
    ("Recipe", "to be renamed"),
    ("Role", "to be renamed"),
    ("Rule", "to be renamed"),
    ("Scales", "to be renamed"),
    ("Side", "to be renamed"),
    ("Source", "to be renamed"),
    ("SourceFile", "to be renamed"),
    ("Step", "to be renamed"),
    ("Stored", "to be renamed"),
    ("Table", "to be renamed"),
    ("Verdict", "to be renamed"),
];

/// Each type name with the places that define it: structs, enums, traits and unions anywhere, aliases at the top level.
fn definitions(sources: &[SourceText]) -> BTreeMap<String, Vec<String>> {
    let pattern =
        Regex::new(r"(?m)^(?: *(?:pub(?:\([^)]*\))? +)?(?:unsafe +)?(?:struct|enum|trait|union)|(?:pub(?:\([^)]*\))? +)?type) +(\w+)")
            .unwrap();
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for source in sources {
        for name in pattern.captures_iter(&source.code) {
            let place = format!("{}:{}", source.path, line_of(&source.code, name.get(1).unwrap().start()));
            found.entry(name[1].to_owned()).or_default().push(place);
        }
    }
    found
}

/// Reports names with several definitions that the list does not allow, and entries of the list without need.
fn complaints(sources: &[SourceText], allowed: &[(&str, &str)]) -> Vec<String> {
    let repeated: BTreeMap<_, _> = definitions(sources).into_iter().filter(|(_, places)| places.len() > 1).collect();
    let is_allowed = |name: &str| allowed.iter().any(|(allowed, _)| *allowed == name);
    let new = repeated.iter().filter(|(name, _)| !is_allowed(name));
    let new = new.map(|(name, places)| format!("`{name}` is defined {} times: {}", places.len(), places.join(", ")));
    let stale = allowed.iter().filter(|(name, _)| !repeated.contains_key(*name));
    new.chain(stale.map(|(name, _)| format!("`{name}` is defined once at most: take it off the list"))).collect()
}

#[test]
fn type_names_mean_one_thing() {
    let complaints = complaints(sources(), ALLOWED);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn repeated_and_needlessly_allowed_names_are_reported() {
    let sources = [
        SourceText::new("a.rs", "pub struct Twice;\nstruct Once;\nimpl T for Once { \n    type Alias = u8;\n}\n"),
        SourceText::new("b.rs", "fn f() {\n    enum Twice {}\n}\ntype Alias = u8;\n#[cfg(test)]\nstruct Once;\n"),
    ];
    assert_eq!(complaints(&sources, &[]), ["`Twice` is defined 2 times: a.rs:1, b.rs:2"]);
    assert_eq!(
        complaints(&sources, &[("Twice", ""), ("Once", "")]),
        ["`Once` is defined once at most: take it off the list"]
    );
}
