//! Proofs that refuse, that cannot judge, and what they leave behind.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use qwen_fp8::run::{Proof, RunError, RunOptions, Unpublished, run};

use crate::support::fixture::{Action, Fixture, case, files};

/// Ends every proof in the same way, after a look at what it is shown.
#[derive(Debug)]
struct Ends(Result<Option<String>, Unpublished>);

impl Proof for Ends {
    fn judge(&self, dir: &Path) -> Result<Option<String>, Unpublished> {
        // Whole, manifest included, and under no name that a server is given.
        for name in ["config.json", "model.safetensors.index.json", "qwen-fp8-manifest.json"] {
            assert!(dir.join(name).is_file(), "{name} in {dir:?}");
        }
        assert!(dir.components().any(|part| part.as_os_str().to_string_lossy().ends_with(".partial")), "{dir:?}");
        self.0.clone()
    }
}

fn ended(fixture: &Fixture, end: Result<Option<String>, Unpublished>) -> Result<(), RunError> {
    let (cancel, proof) = (AtomicBool::new(false), Ends(end));
    let options = RunOptions { proof: Some(&proof), ..RunOptions::new(&cancel) };
    run(&fixture.plan, &fixture.output(), &options, &()).map(drop)
}

fn fixture() -> Fixture {
    Fixture::new(&[case(&[9, 40], 0, Action::Band), case(&[7], 1, Action::Copy)])
}

#[test]
fn a_fault_leaves_nothing() {
    let fixture = fixture();
    let error = ended(&fixture, Err(Unpublished::AtFault("a code is wrong".to_owned()))).unwrap_err();
    assert!(matches!(&error, RunError::Refused { why, .. } if why == "a code is wrong"), "{error}");
    assert!(!fixture.output().exists());
    assert_eq!(fixture.left_over(), Vec::<String>::new());
}

#[test]
fn what_could_not_be_judged_is_resumed_and_then_published() {
    for refusal in [Unpublished::Unjudged("a disk is gone".to_owned()), Unpublished::Cancelled] {
        let fixture = fixture();
        let cancelled = refusal == Unpublished::Cancelled;
        let error = ended(&fixture, Err(refusal)).unwrap_err();
        assert_eq!(matches!(error, RunError::Cancelled), cancelled, "{error}");
        assert!(!fixture.output().exists());
        assert!(!fixture.left_over().is_empty());
        ended(&fixture, Ok(None)).unwrap();
        assert_eq!(files(&fixture.output()), fixture.expected.clone());
        assert_eq!(fixture.left_over(), Vec::<String>::new());
        fs::remove_dir_all(fixture.output()).unwrap();
    }
}
