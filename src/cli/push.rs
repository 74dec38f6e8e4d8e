//! `apply --push`: puts the result on the hub with one commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qwen_fp8_hub::{HubAccess, HubError, HubOutput, HubPush};

use super::args::ApplyArgs;
use super::error::CommandError;
use super::interrupt::Interrupt;
use super::progress::ProgressReporter;
use super::proof::CancelledProgress;
use super::screen::Screen;
use super::source::refused_by_hub;
use crate::checkpoint::hub::{HubEnvironment, parse_id};
use crate::checkpoint::progress::ProgressSink;
use crate::checkpoint::store::OutputStore;
use crate::checkpoint::text::{shown, shown_path};

/// The folder, in that of caches, for what is on its way to the hub.
const PUSHES: &str = "qwen-fp8/push";

/// The model on the hub that a result is to be pushed to.
pub(super) struct Push {
    target: HubPush,
    id: String,
    branch: Option<String>,
}

/// Finds the model that `--push` names, or makes it.
///
/// # Errors
/// It may not be written to, or holds something.
pub(super) fn begin(id_and_branch: &str, args: &ApplyArgs) -> Result<Push, CommandError> {
    let named = parse_id(id_and_branch).filter(|(id, _)| id.contains('/'));
    let (id, branch) = named.ok_or_else(|| {
        let message = format!("{} is no model id to push to", shown(id_and_branch));
        CommandError::Input(message).with_help(&["one is like `org/name`, or `org/name@branch`".to_owned()])
    })?;
    let refused = |error: HubError| refused_by_hub(&error, None);
    let access = HubAccess::of_process(&HubEnvironment::of_process()).map_err(refused)?.ok_or_else(|| {
        let message = format!("nothing can be pushed to {}: the hub is not to be asked", shown(id));
        CommandError::Input(message).with_help(&["unset `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE`".to_owned()])
    })?;
    let target = HubPush::begin(access, id, branch, args.private).map_err(refused)?;
    Ok(Push { target, id: id.to_owned(), branch: branch.map(str::to_owned) })
}

impl Push {
    /// Returns the model as the output of a run, whose files are on this machine only until the hub has them, and a directory for
    /// what is gathered before.
    ///
    /// # Errors
    /// There is no place for them here, or another process pushes to the same model.
    pub(super) fn into_output(self, interrupt: &Interrupt) -> Result<(Box<dyn OutputStore>, PathBuf), CommandError> {
        let cache = HubEnvironment::of_process().cache_home().ok_or_else(|| {
            let message = "there is no home directory for what is on its way to the hub".to_owned();
            CommandError::Input(message).with_help(&["set `XDG_CACHE_HOME`, or give an `--output`".to_owned()])
        })?;
        let branch = self.branch.map(|branch| format!("@{branch}")).unwrap_or_default();
        // As in the cache of models: an id has no two dashes for which another one could stand.
        let name = format!("{}{branch}", self.id).replace('/', "--");
        let dir = cache.join(PUSHES).join(name);
        let output = HubOutput::open(self.target, &dir, Cancelled(Arc::clone(&interrupt.cancel)));
        let output = output.map_err(|error| refused_by_hub(&error, None))?;
        Ok((Box::new(output), cache.join(PUSHES)))
    }

    /// Pushes a result that lies in a directory.
    ///
    /// # Errors
    /// The hub does not take it, or a signal ends the work; nothing is then shown there.
    pub(super) fn push(&self, dir: &Path, interrupt: &Interrupt, screen: &Screen) -> Result<String, CommandError> {
        let progress = ProgressReporter::of_check(screen);
        let progress = CancelledProgress { progress: &progress, cancel: &interrupt.cancel };
        let again = format!(
            "the output is complete: {} pushes it",
            shown(&format!("hf upload {} {} .", self.id, dir.display()))
        );
        let pushed = self.target.push_directory(dir, &progress).map_err(|error| match error {
            HubError::Cancelled => {
                let message = format!("nothing is shown on the hub, and {} is complete", shown_path(dir));
                CommandError::Interrupted(message, interrupt.exit_code())
            }
            error => refused_by_hub(&error, None),
        });
        pushed.map_err(|failure| failure.with_help(&[again]))
    }
}

/// A signal, for work whose progress is told by the run.
struct Cancelled(Arc<AtomicBool>);

impl ProgressSink for Cancelled {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
