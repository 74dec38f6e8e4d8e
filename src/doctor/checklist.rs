//! The checklist: its lines, each a fact, a verdict and what to do.

use schemars::JsonSchema;
use serde::Serialize;

/// The lines of the checklist, in the order in which they are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Checklist {
    /// The number of lines that are a problem; the exit code is 1 where there is one.
    pub problems: usize,
    /// The number of lines that are a note.
    pub notes: usize,
    pub lines: Vec<ChecklistLine>,
}

/// A fact, a verdict and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChecklistLine {
    /// The word for what it is about: `source`, `memory`, `gpu`.
    pub subject: &'static str,
    pub judgement: Judgement,
    pub fact: String,
    /// What to do; null where there is nothing to do.
    pub advice: Option<String>,
}

/// The verdict on a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// As it should be.
    Ok,
    /// Worth knowing; a run succeeds all the same.
    Note,
    /// A run fails, or what is installed here cannot load the model.
    Problem,
}

impl Checklist {
    pub fn new(lines: Vec<ChecklistLine>) -> Self {
        let number = |judgement| lines.iter().filter(|line| line.judgement == judgement).count();
        Self { problems: number(Judgement::Problem), notes: number(Judgement::Note), lines }
    }
}

impl ChecklistLine {
    pub fn ok(subject: &'static str, fact: impl Into<String>) -> Self {
        Self { subject, judgement: Judgement::Ok, fact: fact.into(), advice: None }
    }

    pub fn note(subject: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, judgement: Judgement::Note, fact: fact.into(), advice: Some(advice.into()) }
    }

    pub fn problem(subject: &'static str, fact: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { subject, judgement: Judgement::Problem, fact: fact.into(), advice: Some(advice.into()) }
    }
}

impl Judgement {
    /// The word that people read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}
