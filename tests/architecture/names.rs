//! No type name means two things.

use std::collections::BTreeMap;

use regex::Regex;

use super::sources;
use crate::support::rust_source::{SourceText, line_of};

/// Names that may stand more than once, each with its reason. An entry that is not needed any more fails, too.
const ALLOWED: &[(&str, &str)] = &[];

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
