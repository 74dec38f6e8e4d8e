//! The staging directory beside the output, the lock over both, and the rename that publishes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::checkpoint::layout::INDEX_FILE;
use crate::checkpoint::source::entries;
use crate::run::destination::Destination;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::identity::Identity;
use crate::run::journal::{FinishedShard, Journal, PastRun};
use crate::run::lock::Lock;
use crate::run::observer::LeftBehind;

/// What the journal is called; a directory that holds one is ours.
const JOURNAL: &str = "qwen-fp8-journal";

/// What the directory that becomes the output is called until then.
const CHECKPOINT: &str = "checkpoint";

/// `.<name>.partial/`: the journal, which also says that the directory is ours, and the directory that will be renamed
/// to the output.
///
/// Dropped without [`Staging::publish`], it keeps the finished shards for the next run, and nothing else; where there is
/// nothing to keep, it removes itself.
pub(super) struct Staging {
    root: PathBuf,
    /// Where the files of the output are written.
    pub(super) dir: PathBuf,
    pub(super) journal: Journal,
    /// Whether what it holds is of no use to another run.
    spent: bool,
}

impl Staging {
    /// What an interrupted run of the same job left behind; `None` where there is nothing to go on from.
    ///
    /// # Errors
    /// What lies there is not ours, or belongs to another job: it is then untouched.
    pub(super) fn past(destination: &Destination, identity: &Identity) -> Result<Option<PastRun>, RunError> {
        let root = destination.beside("partial");
        if !is_ours(&root)? {
            return Ok(None);
        }
        let Some(past) = PastRun::read(&root.join(JOURNAL))? else { return Ok(None) };
        let differences = past.identity.differences(identity);
        if !differences.is_empty() {
            return Err(RunError::Different { staging: root, differences });
        }
        Ok(Some(past))
    }

    /// Where the shards of an earlier run lie.
    pub(super) fn shards_of(destination: &Destination) -> PathBuf {
        destination.beside("partial").join(CHECKPOINT)
    }

    /// Takes over what an earlier run of the same job left behind, less everything but these finished shards.
    pub(super) fn resume(
        destination: &Destination,
        identity: &Identity,
        finished: Vec<FinishedShard>,
    ) -> Result<Self, RunError> {
        let root = destination.beside("partial");
        let dir = root.join(CHECKPOINT);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RunError::file("make", &dir)(error));
            }
            _ => {}
        }
        let journal = Journal::create(&root.join(JOURNAL), identity, finished)?;
        let staging = Self { root, dir, journal, spent: false };
        staging.keep_finished().map_err(RunError::file("tidy up", &staging.dir))?;
        Ok(staging)
    }

    /// Makes the staging directory, in place of one that another run left behind.
    pub(super) fn create(destination: &Destination, identity: &Identity) -> Result<Self, RunError> {
        let root = destination.beside("partial");
        remove_left_over(&root)?;
        fs::create_dir(&root).map_err(RunError::file("make", &root))?;
        Self::fill(&root, identity).inspect_err(|_| {
            let _ = remove(&root);
        })
    }

    fn fill(root: &Path, identity: &Identity) -> Result<Self, RunError> {
        let path = root.join(JOURNAL);
        // Empty it is a sign of whose the directory is, from the first moment on.
        create_new(&path, 0o666).map_err(RunError::file("make", &path))?;
        let journal = Journal::create(&path, identity, Vec::new())?;
        let dir = root.join(CHECKPOINT);
        fs::create_dir(&dir).map_err(RunError::file("make", &dir))?;
        sync_dir(root)?;
        sync_dir(root.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { root: root.to_path_buf(), dir, journal, spent: false })
    }

    /// What the next run can go on from, given why this one ended; `None` where that is nothing.
    pub(super) fn left_behind(&mut self, error: &RunError) -> Option<LeftBehind> {
        self.spent |= !error.leaves_use();
        let shards = self.journal.finished().len();
        (!self.spent && shards > 0).then(|| LeftBehind { staging: self.root.clone(), shards })
    }

    /// Renames the finished directory to the output's name, which nothing may bear by then.
    pub(super) fn publish(&mut self, destination: &Destination) -> Result<(), RunError> {
        sync_dir(&self.dir)?;
        let target = &destination.path;
        // An empty directory makes way; one that has been filled since the check does not.
        match fs::remove_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(destination.occupied());
            }
            _ => {}
        }
        match renameat_with(CWD, &self.dir, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(destination.occupied()),
            // File systems without the flag (some network ones) get the check and the rename apart, under our lock.
            Err(Errno::INVAL | Errno::NOSYS) => {
                destination.check_free()?;
                fs::rename(&self.dir, target).map_err(RunError::file("rename the staging directory to", target))?;
            }
            Err(error) => return Err(RunError::file("rename the staging directory to", target)(error.into())),
        }
        // A name that may be gone after a power cut is not published: back with it, and on as after any failure.
        sync_dir(&destination.parent).and_then(|()| self.journal.check_alive()).inspect_err(|_| {
            let _ = fs::rename(target, &self.dir);
        })?;
        self.spent = true;
        Ok(())
    }

    /// Removes everything from the directory but the finished shards.
    fn keep_finished(&self) -> io::Result<()> {
        let finished = self.journal.finished();
        // Nothing of it is loadable from here on: `config.json` and the index are the first to go.
        for name in ["config.json", INDEX_FILE] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for entry in entries(&self.dir)? {
            let entry = entry?;
            if !finished.iter().any(|name| entry.file_name() == name.as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes what a run left behind that was killed after it had published its output: a journal of no further use, or the
/// directory that held it.
pub(super) fn remove_published(destination: &Destination) {
    let root = destination.beside("partial");
    let is_spent = || match is_ours(&root) {
        Ok(true) => !root.join(CHECKPOINT).exists(),
        Ok(false) => fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_none()),
        Err(_) => false,
    };
    // Another run may be about to remove it.
    if is_spent()
        && let Ok(_lock) = Lock::acquire(destination)
        && is_spent()
    {
        let _ = remove(&root);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever cannot be removed is not loadable: `config.json` is written last, and the name is not the output's.
        let _ =
            if self.spent || self.journal.finished().is_empty() { remove(&self.root) } else { self.keep_finished() };
    }
}

/// Removes the staging directory of another run; refuses to touch anything that is not one.
fn remove_left_over(root: &Path) -> Result<(), RunError> {
    // Without its journal, only an empty one can be ours.
    match if is_ours(root)? { remove(root) } else { fs::remove_dir(root) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(RunError::NotOurs { path: root.to_path_buf() })
        }
        other => other.map_err(RunError::file("remove", root)),
    }
}

/// Whether the directory at `root` is a staging directory that this user's runs made; false where nothing is there, or
/// where a directory is that may be one whose journal was never begun.
fn is_ours(root: &Path) -> Result<bool, RunError> {
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(RunError::file("stat", root)(error)),
        Ok(found) if !found.is_dir() => return Err(RunError::NotOurs { path: root.to_path_buf() }),
        // Another user's journal would prove another user's shards.
        Ok(found) if found.uid() != geteuid().as_raw() => {
            return Err(RunError::OtherUsers { path: root.to_path_buf(), owner: found.uid() });
        }
        Ok(_) => {}
    }
    // The journal is the first thing in it and the last to go.
    Ok(fs::symlink_metadata(root.join(JOURNAL)).is_ok_and(|journal| journal.is_file()))
}

/// Removes a staging directory, its journal last, so that what a second crash leaves is still recognised.
fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root.join(CHECKPOINT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(root)
}
