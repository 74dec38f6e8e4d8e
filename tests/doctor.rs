//! The checklist, judged from made-up machines, tools and places, and the command on this one.

mod command;
mod gpus;
mod machines;
mod packages;
mod places;

use qwen_fp8::doctor::{ChecklistLine, Judgement};

/// Lines as people read them: verdict, subject and fact.
fn read(lines: &[ChecklistLine]) -> Vec<String> {
    lines.iter().map(|line| format!("{} {}: {}", line.judgement.word(), line.subject, line.fact)).collect()
}

/// Every line but an `ok` one says what to do.
fn advised(lines: &[ChecklistLine]) {
    for line in lines {
        assert!(line.judgement == Judgement::Ok || line.advice.is_some(), "{line:?}");
    }
}
