//! The servers that are installed, judged for the model.

use super::checklist::ChecklistLine;
use super::package_version::PackageVersion;
use super::python::{PACKAGES, PythonFacts};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::catalogue::FirstVersions;
use crate::checkpoint::text::{shown_path, unquoted};

/// The version of vLLM that the serving rules were proven against.
const PROVEN: &str = "0.33.0";

const SUBJECT: &str = "packages";

/// Judges the packages that load models, for this source if there is one.
pub fn server_lines(python: Option<&PythonFacts>, source: Option<&Checkpoint>) -> Vec<ChecklistLine> {
    const NOTHING: &str = "nothing, to convert: that needs no Python; to serve, `pip install vllm`";
    let Some(python) = python else {
        return vec![ChecklistLine::note("python", "no Python is found", NOTHING)];
    };
    let interpreter = shown_path(&python.interpreter);
    if let Some(why) = &python.silent {
        return vec![ChecklistLine::note(
            "python",
            format!("{interpreter} does not answer: {}", unquoted(why)),
            NOTHING,
        )];
    }
    let mut lines = vec![ChecklistLine::ok("python", format!("{interpreter}"))];
    if python.packages.is_empty() {
        let fact = format!("none of {} is installed there", PACKAGES.join(", "));
        lines.push(ChecklistLine::note(SUBJECT, fact, NOTHING));
    }
    for (package, version) in &python.packages {
        lines.push(package_line(package, version, source));
    }
    lines
}

fn package_line(package: &'static str, version: &PackageVersion, source: Option<&Checkpoint>) -> ChecklistLine {
    let fact = format!("{package} {}", unquoted(&version.to_string()));
    let upgrade = format!("`pip install --upgrade {package}` in that environment");
    let first = source.and_then(|source| Some((source.model.family()?, source.model.first_versions()?)));
    let needed = first.and_then(|(family, first)| Some((family, version_of(first, package)?, first)));
    if let Some((family, needed, first)) = needed
        && PackageVersion::parse(needed).is_some_and(|needed| *version < needed)
    {
        let because = unquoted(&first.source);
        let fact =
            format!("{fact} does not know {}, which {needed} was the first to have ({because})", unquoted(family));
        return ChecklistLine::problem(SUBJECT, fact, upgrade);
    }
    let saved_by = source.and_then(|source| source.config.value(&["transformers_version"]));
    let saved_by = saved_by.as_ref().and_then(|value| value.as_str()).and_then(PackageVersion::parse);
    if let Some(saved_by) = saved_by.filter(|saved_by| package == "transformers" && version < saved_by) {
        let saved_by = saved_by.to_string();
        let fact =
            format!("{fact} is older than the {} that the source's config.json was saved by", unquoted(&saved_by));
        return ChecklistLine::note(SUBJECT, fact, format!("{upgrade}, if it refuses the model or warns of keys"));
    }
    if package == "vllm" && PackageVersion::parse(PROVEN).is_some_and(|proven| *version < proven) {
        let fact = format!("{fact}: what `plan` and `lint` say of vLLM was proven with {PROVEN}");
        return ChecklistLine::note(SUBJECT, fact, format!("{upgrade}, or try a smoke model first (`apply --smoke`)"));
    }
    ChecklistLine::ok(SUBJECT, fact)
}

fn version_of<'a>(first: &'a FirstVersions, package: &str) -> Option<&'a str> {
    match package {
        "transformers" => first.transformers.as_deref(),
        "vllm" => first.vllm.as_deref(),
        _ => None,
    }
}
