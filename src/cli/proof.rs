//! The proof of a run's result before it is published: `apply --verify`, and what a recipe expects of its quality.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::findings::render;
use super::progress::ProgressReporter;
use super::report::{Proven, ReportFile};
use super::screen::Screen;
use super::verify::proof;
use crate::check::{self, CheckError, CheckedAs, Severity, Verification};
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::text::{count, shown_path};
use crate::plan::card::{self, LayerQuality};
use crate::plan::summary::Summary;
use crate::plan::{Plan, expected};
use crate::run::{Proof, RunReport, Unpublished};

/// Compares the output with the source while it still lies in the staging directory.
pub(super) struct ProofBeforePublishing<'a> {
    plan: &'a Plan,
    output: &'a Path,
    screen: &'a Screen,
    progress: CancelledProgress<'a>,
    /// The page that is written of what is refused; that of a published output waits for the numbers of the run.
    page: Option<&'a ReportFile>,
    outcome: Mutex<Option<ProvenOutput>>,
}

/// The outcome of a proof, and its time.
pub(super) struct ProvenOutput {
    pub(super) verification: Verification,
    seconds: f64,
}

impl ProvenOutput {
    /// Returns what a page tells of the result that is, or was to be, `output`.
    pub(super) fn page<'b>(
        &'b self,
        output: &'b Path,
        run: Option<(&'b Summary, &'b RunReport)>,
        unserved: &'b BTreeMap<String, String>,
    ) -> Proven<'b> {
        Proven { verification: &self.verification, output, seconds: self.seconds, checksums: None, run, unserved }
    }
}

/// The progress of a check that a signal ends.
pub(super) struct CancelledProgress<'a> {
    pub(super) progress: &'a ProgressReporter,
    /// Becomes true with the signal.
    pub(super) cancel: &'a AtomicBool,
}

impl ProgressSink for CancelledProgress<'_> {
    fn reading(&self, what: &'static str, bytes: u64) {
        ProgressSink::reading(self.progress, what, bytes);
    }

    fn advanced(&self, bytes: u64) {
        ProgressSink::advanced(self.progress, bytes);
    }

    fn at(&self, name: &str) {
        ProgressSink::at(self.progress, name);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

impl<'a> ProofBeforePublishing<'a> {
    /// Prepares the proof of what `plan` writes to `output`.
    pub(super) fn new(
        plan: &'a Plan,
        output: &'a Path,
        screen: &'a Screen,
        progress: CancelledProgress<'a>,
        page: Option<&'a ReportFile>,
    ) -> Self {
        Self { plan, output, screen, progress, page, outcome: Mutex::default() }
    }

    /// Returns what the proof found; `None` where it was not reached.
    pub(super) fn outcome(self) -> Option<ProvenOutput> {
        self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what was found, and returns the reason why the result is not published; `None` where it may be.
    fn fault(&self, verification: &Verification) -> Option<String> {
        let found = render(&verification.findings, self.screen.verbose);
        let errors = verification.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        if errors > 0 {
            self.screen.say(found.trim_end());
            let source = shown_path(&self.plan.checkpoint.dir);
            return Some(format!("the comparison with {source} found {}", count(errors, "error")));
        }
        let unproven = verification.unproven.iter().map(|why| format!("\nnot proven: {why}")).collect::<String>();
        self.screen.say(&format!("{found}{}{unproven}", proof(verification)));
        let measured = verification.tensors.iter().filter_map(|tensor| Some((&*tensor.name, tensor.figures?.sqnr_db)));
        let otherwise = expected::quality(self.plan, measured)?;
        self.screen.diagnostics(&[otherwise], &self.plan.recipe.text);
        Some("it is not as good as its recipe expects".to_owned())
    }
}

impl Proof for ProofBeforePublishing<'_> {
    fn judge(&self, dir: &Path) -> Result<Option<String>, Unpublished> {
        let (began, source) = (Instant::now(), self.plan.checkpoint.place());
        let prove = || {
            let adapters = &self.plan.checkpoint.adapters;
            let verification = check::verify_merged(&dir.into(), Some(&source), adapters, &[], &self.progress);
            verification.map_err(|error| match error {
                CheckError::Cancelled => Unpublished::Cancelled,
                error => Unpublished::Unjudged(error.to_string()),
            })
        };
        let verification = check::on_threads_for(&[&source], prove)?;
        let mut proven = ProvenOutput { verification, seconds: began.elapsed().as_secs_f64() };
        if let Some(why) = self.fault(&proven.verification) {
            match self
                .page
                .map(|page| (page, page.write(&proven.page(self.output, None, &self.plan.unserved), &self.progress)))
            {
                Some((page, Ok(bytes))) => page.say(bytes, self.screen),
                Some((_, Err(error))) => self.screen.failure(&error),
                None => {}
            }
            return Err(Unpublished::AtFault(why));
        }
        let card = card::with_quality(self.plan, &quality(&proven.verification));
        // It lies there when anybody reads this.
        proven.verification.output = self.output.into();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(proven);
        Ok(card)
    }
}

impl fmt::Debug for ProofBeforePublishing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofBeforePublishing").field("output", &self.output).finish_non_exhaustive()
    }
}

/// The quality of the quantized layers, by kind.
fn quality(verification: &Verification) -> Vec<LayerQuality> {
    let quantized = verification.kinds.iter().filter(|kind| kind.action == CheckedAs::Quantized);
    quantized
        .map(|kind| LayerQuality {
            kind: kind.kind.clone(),
            weights: kind.tensors,
            min_sqnr_db: kind.min_sqnr_db,
            min_cosine: kind.min_cosine,
        })
        .collect()
}
