//! Checkpoints as DeepSeek, Zhipu, MiniMax, Moonshot, Mistral, Qwen, OpenAI, Red Hat and NVIDIA publish them, at a small size:
//! they pass, and every way to spoil one that we could think of is noticed.
//!
//! Names, shapes and dtypes are those of the published headers with each dimension shrunk, the values are from a seed. A layout
//! is a file of `official/layouts/`.

mod fixture;
mod layout;
mod mutations;
mod values;

use std::collections::BTreeSet;
use std::path::Path;

use qwen_fp8::check::{Finding, Severity, Verdict, diff, lint, verify};
use rayon::prelude::*;

use fixture::Fixture;
use mutations::{By, Mutation, Spoil};

/// What is wrong with a sound checkpoint to lint, verify and diff, but for what its layout says is so.
fn faults(name: &str, fixture: &Fixture) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let [here, copy, before] = ["here", "copy", "source"].map(|folder| scratch.path().join(folder));
    fixture.folder.write(&here);
    fixture.folder.write(&copy);
    let is_known = |finding: &&Finding| fixture.layout.findings.contains_key(finding.rule.code);
    let mut faults = Vec::new();
    let mut add = |by: &str, findings: &[Finding]| {
        let unknown = findings.iter().filter(|finding| !is_known(finding));
        faults.extend(unknown.map(|finding| format!("{name}: {by}: {}: {}", finding.rule.code, finding.message)));
    };
    let linted = lint(&here, &()).unwrap();
    add("lint", &linted);
    let found: BTreeSet<&str> = linted.iter().map(|finding| finding.rule.code).collect();
    add("verify", &verify(&here, None, &[], &()).unwrap().findings);
    let mut proofs = vec![("verify with itself", verify(&here, Some(&copy), &[], &()).unwrap())];
    if let Some(source) = &fixture.source {
        source.write(&before);
        proofs.push(("verify with BF16", verify(&here, Some(&before), &[], &()).unwrap()));
    }
    for (by, proof) in &proofs {
        add(by, &proof.findings);
    }
    // Scales of activations follow from data alone.
    let has_activations = fixture.weights.iter().any(|weight| weight.activations().is_some());
    let is_at_fault = linted.iter().any(|finding| finding.severity == Severity::Error);
    for (by, proof) in &proofs {
        let expected = match (is_at_fault, has_activations && *by == "verify with BF16") {
            (true, _) => Verdict::AtFault,
            (false, true) => Verdict::PartlyProven,
            (false, false) => Verdict::Proven,
        };
        if proof.verdict != expected {
            faults.push(format!("{name}: {by}: {:?}, not {expected:?}: {:?}", proof.verdict, proof.unproven));
        }
    }
    let unknown = fixture.layout.findings.keys().filter(|code| !found.contains(code.as_str()));
    faults.extend(unknown.map(|code| format!("{name}: {code} is not found")));
    if !diff(&here, &copy, &()).unwrap().same {
        faults.push(format!("{name}: diff: a copy is not the same"));
    }
    faults
}

#[test]
fn published_layouts_pass() {
    let faults: Vec<String> =
        Fixture::all().par_iter().flat_map_iter(|(name, fixture)| faults(name, fixture)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rules that a checkpoint breaks and the sound one does not, with what had to be read.
type Noticed = (By, BTreeSet<&'static str>);

/// A sound checkpoint and what is found in it.
struct Sound {
    fixture: &'static Fixture,
    copy: tempfile::TempDir,
    /// Code and message of each finding.
    known: BTreeSet<(&'static str, String)>,
}

impl Sound {
    fn of(fixture: &'static Fixture) -> Self {
        let copy = tempfile::tempdir().unwrap();
        fixture.folder.write(copy.path());
        let found = lint(copy.path(), &()).unwrap();
        let known = found.into_iter().map(|finding| (finding.rule.code, finding.message)).collect();
        Self { fixture, copy, known }
    }

    /// The rules of findings that the sound checkpoint does not have; notes count for nothing.
    fn beyond(&self, findings: &[Finding]) -> BTreeSet<&'static str> {
        let findings = findings.iter().filter(|finding| finding.severity != Severity::Note);
        let is_new = |finding: &&Finding| !self.known.contains(&(finding.rule.code, finding.message.clone()));
        findings.filter(is_new).map(|finding| finding.rule.code).collect()
    }

    /// Spoils the checkpoint, and asks lint, verify and verify with a source until one notices; `None` where the mutation
    /// makes no sense.
    fn noticed(&self, mutation: &Mutation) -> Option<Noticed> {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        match mutation.spoil {
            Spoil::Content(spoil) => {
                let mut folder = self.fixture.folder.clone();
                spoil(self.fixture, &mut folder)?;
                folder.write_beside(dir, &self.fixture.folder, self.copy.path());
            }
            Spoil::Files(spoil) => {
                self.fixture.folder.write(dir);
                spoil(self.fixture, dir)?;
            }
        }
        let verified = |source: Option<&Path>| self.beyond(&verify(dir, source, &[], &()).unwrap().findings);
        let asked: [(By, &dyn Fn() -> BTreeSet<&'static str>); 3] = [
            (By::Lint, &|| self.beyond(&lint(dir, &()).unwrap())),
            (By::Codes, &|| verified(None)),
            (By::Source, &|| verified(Some(self.copy.path()))),
        ];
        let found = asked.into_iter().map(|(by, ask)| (by, ask())).find(|(_, found)| !found.is_empty());
        Some(found.unwrap_or((By::Source, BTreeSet::new())))
    }
}

fn is_right(mutation: &Mutation, (by, found): &Noticed) -> bool {
    *by <= mutation.by && mutation.codes.iter().any(|code| found.contains(code))
}

#[test]
fn every_mutation_of_a_published_layout_is_noticed() {
    let (mutations, layouts) = (mutations::all(), Fixture::all());
    let rows: Vec<Vec<Option<Noticed>>> = layouts
        .par_iter()
        .map(|(_, fixture)| {
            let sound = Sound::of(fixture);
            mutations.iter().map(|mutation| sound.noticed(mutation)).collect()
        })
        .collect();
    let table = |at: usize| {
        let of_layout = |((name, _), row): (&(String, Fixture), &Vec<Option<Noticed>>)| {
            let noticed = row[at].as_ref().filter(|noticed| !is_right(mutations[at], noticed));
            noticed.map(|(by, found)| format!("  {name}: {by:?} {found:?}"))
        };
        let wrong: Vec<String> = layouts.iter().zip(&rows).filter_map(of_layout).collect();
        let Mutation { name, codes, by, .. } = mutations[at];
        (!wrong.is_empty()).then(|| format!("{name}, which {by:?} is to notice by {codes:?}:\n{}", wrong.join("\n")))
    };
    let wrong: Vec<String> = (0..mutations.len()).filter_map(table).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each makes sense for some layout, and many of them for each.
    for (at, mutation) in mutations.iter().enumerate() {
        assert!(rows.iter().any(|row| row[at].is_some()), "{}", mutation.name);
    }
    for ((name, _), row) in layouts.iter().zip(&rows) {
        assert!(row.iter().flatten().count() >= 30, "{name}: {}", row.iter().flatten().count());
    }
}
