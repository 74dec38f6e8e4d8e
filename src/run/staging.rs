//! The staging directory beside the output, and the rename that publishes it.
//!
//! `docs/reliability.md` lists what a crash leaves after each step, and what the next run does with it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::checkpoint::layout::INDEX_FILE;
use crate::checkpoint::source::entries;
use crate::run::destination::{Destination, beside_name};
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::identity::Identity;
use crate::run::journal::{FinishedShard, FoundJournal, Journal, PastRun};
use crate::run::lock::Lock;
use crate::run::observer::LeftBehind;
use crate::run::publishing::publish;

/// Name of the journal. A directory that holds one was made by this program.
const JOURNAL: &str = "qwen-fp8-journal";

/// Name of the directory that becomes the output, until then.
const CHECKPOINT: &str = "checkpoint";

/// The staging directory `.NAME.partial`. It holds the journal, which marks it as ours, and the directory that will
/// be renamed to the output.
///
/// Dropped without [`Staging::publish`], it leaves the finished shards for the next run and removes everything else;
/// where no shard is finished, it removes itself.
//
// The journal lies beside the output's directory and not in it, so that the rename publishes the output alone.
pub(super) struct Staging {
    root: PathBuf,
    /// The directory that the files of the output are written to.
    pub(super) dir: PathBuf,
    pub(super) journal: Journal,
    /// Set when no other run can use what the directory holds.
    spent: bool,
}

/// Returns the bytes that an interrupted run of this output takes on the disk, which the next one reuses or frees.
pub fn bytes_left_by(output: &Path) -> u64 {
    let Some(name) = output.file_name() else { return 0 };
    let staging = output.with_file_name(beside_name(name, "partial")).join(CHECKPOINT);
    let files = entries(&staging).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
    // Blocks of 512 bytes, whatever the file system's own are: a file may be reserved and not written, or the reverse.
    files.map(|found| found.blocks().saturating_mul(512)).sum()
}

impl Staging {
    /// Returns what an interrupted run of the same job left behind; `None` where there is nothing to resume.
    ///
    /// # Errors
    /// The directory is not ours or belongs to another job. It is then left untouched.
    pub(super) fn past(destination: &Destination, identity: &Identity) -> Result<Option<PastRun>, RunError> {
        let root = destination.beside("partial");
        if !is_ours(&root)? {
            return Ok(None);
        }
        let past = match FoundJournal::read(&root.join(JOURNAL))? {
            FoundJournal::Nothing => return Ok(None),
            FoundJournal::OtherVersion => {
                let differences = vec!["the version of this program, whose journal this one cannot read".to_owned()];
                return Err(RunError::Different { staging: root, differences });
            }
            FoundJournal::Run(past) => *past,
        };
        let differences = past.identity.differences(identity);
        if !differences.is_empty() {
            return Err(RunError::Different { staging: root, differences });
        }
        Ok(Some(past))
    }

    /// Returns the directory that holds the shards of an earlier run.
    pub(super) fn shards_of(destination: &Destination) -> PathBuf {
        destination.beside("partial").join(CHECKPOINT)
    }

    /// Returns what an earlier run left and this one has not touched; `None` where that is nothing.
    pub(super) fn untouched(destination: &Destination, shards: usize) -> Option<LeftBehind> {
        (shards > 0).then(|| LeftBehind { staging: destination.beside("partial"), shards })
    }

    /// Takes over the staging directory of an earlier run of the same job, and removes all of it but these shards.
    ///
    /// # Errors
    /// A file cannot be removed, or the journal cannot be written.
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

    /// Makes a new staging directory, in place of one that another run left behind.
    ///
    /// # Errors
    /// What lies there is not ours, or the directory cannot be made.
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
        // An empty journal first: from here on a crash leaves a directory that the next run recognises as ours. Its
        // first line takes longer, since it is synced.
        create_new(&path, 0o666).map_err(RunError::file("make", &path))?;
        let journal = Journal::create(&path, identity, Vec::new())?;
        let dir = root.join(CHECKPOINT);
        fs::create_dir(&dir).map_err(RunError::file("make", &dir))?;
        // From the inside out, so that a name that survives a power cut leads to a directory that does.
        sync_dir(root)?;
        sync_dir(root.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { root: root.to_path_buf(), dir, journal, spent: false })
    }

    /// Enters a finished shard into the journal.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub(super) fn enter(&self, finished: FinishedShard) -> Result<(), RunError> {
        self.journal.add(finished).map_err(RunError::file("write the journal of", &self.dir))
    }

    /// Returns what the next run can resume, given the error that ended this one; `None` where that is nothing.
    pub(super) fn left_behind(&mut self, error: &RunError) -> Option<LeftBehind> {
        self.spent |= !error.leaves_use();
        let shards = self.journal.finished().len();
        (!self.spent && shards > 0).then(|| LeftBehind { staging: self.root.clone(), shards })
    }

    /// Renames the finished directory to the output's name, and makes that durable.
    ///
    /// # Errors
    /// Something else bears the name by now, or the disk does not confirm the rename. Nothing is then published.
    pub(super) fn publish(&mut self, destination: &Destination) -> Result<(), RunError> {
        publish(&self.dir, destination, || self.journal.check_alive())?;
        self.spent = true;
        Ok(())
    }

    /// Removes everything but the finished shards from the directory.
    fn keep_finished(&self) -> io::Result<()> {
        let finished = self.journal.finished();
        // `config.json` and the index first: without them no server loads what a crash in the middle of this leaves.
        for name in ["config.json", INDEX_FILE] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for entry in entries(&self.dir)? {
            let entry = entry?;
            if !finished.iter().any(|name| entry.file_name() == name.as_str()) {
                // A folder of side files; a link to one is removed, not followed.
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Removes the staging directory of a run that was killed after it had published its output: all that is left of it is
/// a journal of no further use, or nothing.
pub(super) fn remove_published(destination: &Destination) {
    let root = destination.beside("partial");
    let is_spent = || match is_ours(&root) {
        Ok(true) => !root.join(CHECKPOINT).exists(),
        Ok(false) => fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_none()),
        Err(_) => false,
    };
    // Asked again under the lock: the run that published may still be there, about to remove it by itself.
    if is_spent()
        && let Ok(_lock) = Lock::acquire(destination)
        && is_spent()
    {
        let _ = remove(&root);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // An error is no harm: what cannot be removed is not loadable, since `config.json` is written last and the name
        // is not the output's.
        let _ =
            if self.spent || self.journal.finished().is_empty() { remove(&self.root) } else { self.keep_finished() };
    }
}

/// Removes the staging directory of another run.
///
/// # Errors
/// Something else lies there, which is left untouched.
fn remove_left_over(root: &Path) -> Result<(), RunError> {
    // A directory without a journal is ours only if a run was killed right after making it: it is then empty.
    match if is_ours(root)? { remove(root) } else { fs::remove_dir(root) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(RunError::NotOurs { path: root.to_path_buf() })
        }
        other => other.map_err(RunError::file("remove", root)),
    }
}

/// Returns whether `root` is a staging directory with a journal, made by a run of this user. False where nothing is
/// there, or a directory without a journal.
///
/// # Errors
/// [`RunError::NotOurs`] for anything but a directory, [`RunError::OtherUsers`] for one of another user.
fn is_ours(root: &Path) -> Result<bool, RunError> {
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(RunError::file("stat", root)(error)),
        Ok(found) if !found.is_dir() => return Err(RunError::NotOurs { path: root.to_path_buf() }),
        // Checksums in a journal prove shards against accidents only: whoever writes both can make them agree.
        Ok(found) if found.uid() != geteuid().as_raw() => {
            return Err(RunError::OtherUsers { path: root.to_path_buf(), owner: found.uid() });
        }
        Ok(_) => {}
    }
    // The journal is the first file in the directory and the last to be removed.
    Ok(fs::symlink_metadata(root.join(JOURNAL)).is_ok_and(|journal| journal.is_file()))
}

/// Removes a staging directory, its journal last, so that a crash in the middle leaves one that is still recognised.
fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root.join(CHECKPOINT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::remove_dir_all(root)
}
