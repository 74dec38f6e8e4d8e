//! The staging directory beside the output, the lock over both, and the rename that publishes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::checkpoint::layout::INDEX_FILE;
use crate::checkpoint::source::entries;
use crate::run::destination::Destination;
use crate::run::identity::Identity;
use crate::run::journal::{Finished, Journal, Past};
use crate::run::{LeftBehind, RunError};

/// What the journal is called; a directory that holds one is ours.
const JOURNAL: &str = "qwen-fp8-journal";

/// What the directory that becomes the output is called until then.
const CHECKPOINT: &str = "checkpoint";

/// The right to write one output, held by at most one run of this machine.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    pub(super) fn acquire(destination: &Destination) -> Result<Self, RunError> {
        let path = destination.beside("lock");
        loop {
            let file = open_lock(&path)?;
            let held = file.metadata().map_err(RunError::file("look at", &path))?;
            if !held.is_file() || held.len() > 0 {
                return Err(RunError::Stranger { path });
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(RunError::Locked { output: destination.path.clone(), lock: path });
                }
                Err(TryLockError::Error(source)) => return Err(RunError::file("lock", &path)(source)),
            }
            // The run that held the lock before may have removed the file between our open and our lock.
            match fs::symlink_metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(Self { file, path }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RunError::file("look at", &path)(error)),
            }
        }
    }
}

/// Opens the lock file, or makes it. One that another user's run has left behind may be there to be read only, which is
/// enough to lock it.
fn open_lock(path: &Path) -> Result<File, RunError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let open = |options: &mut OpenOptions| options.custom_flags(flags).open(path);
    match open(OpenOptions::new().write(true).create(true).truncate(false)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match fs::symlink_metadata(path) {
            Ok(found) => open(OpenOptions::new().read(true))
                .map_err(|_| RunError::Foreign { path: path.to_path_buf(), owner: found.uid() }),
            Err(_) => Err(RunError::file("make", path)(error)),
        },
        opened => opened.map_err(RunError::file("make", path)),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody can lock a file without a name and believe in it. A lock file that
        // cannot be removed does no harm: the next run locks it again.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

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
    pub(super) fn past(destination: &Destination, identity: &Identity) -> Result<Option<Past>, RunError> {
        let root = destination.beside("partial");
        if !is_ours(&root)? {
            return Ok(None);
        }
        let Some(past) = Past::read(&root.join(JOURNAL))? else { return Ok(None) };
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
        finished: Vec<Finished>,
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

/// Creates a file that must not exist, with these permissions less the umask.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), RunError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(RunError::file("sync", path))
}

/// Removes the staging directory of another run; refuses to touch anything that is not one.
fn remove_left_over(root: &Path) -> Result<(), RunError> {
    // Without its journal, only an empty one can be ours.
    match if is_ours(root)? { remove(root) } else { fs::remove_dir(root) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(RunError::Stranger { path: root.to_path_buf() })
        }
        other => other.map_err(RunError::file("remove", root)),
    }
}

/// Whether the directory at `root` is a staging directory that this user's runs made; false where nothing is there, or
/// where a directory is that may be one whose journal was never begun.
fn is_ours(root: &Path) -> Result<bool, RunError> {
    match fs::symlink_metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(RunError::file("look at", root)(error)),
        Ok(found) if !found.is_dir() => return Err(RunError::Stranger { path: root.to_path_buf() }),
        // Another user's journal would prove another user's shards.
        Ok(found) if found.uid() != geteuid().as_raw() => {
            return Err(RunError::Foreign { path: root.to_path_buf(), owner: found.uid() });
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
