//! The directory `.NAME.parts` beside the output, where parts leave what they made.
//!
//! It holds a marker, a directory for each attempt, and a record for each part that is made.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::source::entries;
use crate::run::destination::{Destination, beside_name};
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::parts::number::PartNumber;

/// The end of the directory's name.
const PLACE: &str = "parts";

/// Name of an empty file. A directory that holds one was made by this program.
const MARKER: &str = "qwen-fp8-parts";

/// What the name of a part's record ends in.
const RECORD: &str = ".json";

/// The directory `.NAME.parts`.
pub(super) struct Place {
    pub(super) root: PathBuf,
}

/// A directory that nobody else writes to, for one attempt at a part or at a join. It is removed when this is dropped,
/// unless it is kept.
pub(super) struct Attempt {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    is_kept: bool,
}

/// Returns how many of `of` parts of this output are made.
pub fn parts_made(output: &Path, of: usize) -> usize {
    let Some(name) = output.file_name() else { return 0 };
    let place = Place { root: output.with_file_name(beside_name(name, PLACE)) };
    place.recorded().unwrap_or_default().iter().filter(|part| part.of() == of).count()
}

impl Place {
    /// Returns the place of these parts, whether it is there or not.
    pub(super) fn of(destination: &Destination) -> Self {
        Self { root: destination.beside(PLACE) }
    }

    /// Makes the directory, unless another part has.
    ///
    /// # Errors
    /// What lies there was not made by this program, or it cannot be made.
    pub(super) fn make(&self) -> Result<(), RunError> {
        match fs::create_dir(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RunError::file("make", &self.root)(error));
            }
            _ => {}
        }
        let names = self.names()?;
        if names.iter().any(|name| name == MARKER) {
            return Ok(());
        }
        // Empty, it may be that of a part which has come no further. The marker comes before all else.
        if !names.is_empty() {
            return Err(RunError::NotOurs { path: self.root.clone() });
        }
        let marker = self.root.join(MARKER);
        match create_new(&marker, 0o666) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RunError::file("make", &marker)(error));
            }
            _ => {}
        }
        sync_dir(self.root.parent().unwrap_or(Path::new(".")))
    }

    /// Returns whether there is such a directory, made by this program.
    ///
    /// # Errors
    /// [`RunError::NotOurs`], or it cannot be read.
    pub(super) fn is_there(&self) -> Result<bool, RunError> {
        match fs::symlink_metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(RunError::file("stat", &self.root)(error)),
            Ok(_) if self.names()?.iter().any(|name| name == MARKER) => Ok(true),
            Ok(_) => Err(RunError::NotOurs { path: self.root.clone() }),
        }
    }

    /// Makes a directory for an attempt, whose name begins with `name`.
    ///
    /// # Errors
    /// It cannot be made, or the place belongs to another user.
    pub(super) fn attempt(&self, name: &str) -> Result<Attempt, RunError> {
        loop {
            // Random, and not the machine's name and a process number: containers may share both. Whether another
            // attempt has the name is for the file system to say.
            let name = format!("{name}.{:016x}", RandomState::new().hash_one(std::process::id()));
            let dir = self.root.join(&name);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(RunError::file("make", &dir))?,
            }
            let attempt = Attempt { name, dir, is_kept: false };
            self.check_owner(&attempt)?;
            return Ok(attempt);
        }
    }

    /// Checks that the place belongs to whom our own files belong to, which on a network file system may be another
    /// user than that of the process.
    //
    // Checksums in a record prove files against accidents only: whoever writes both can make them agree.
    fn check_owner(&self, attempt: &Attempt) -> Result<(), RunError> {
        let owner =
            |path: &Path| fs::symlink_metadata(path).map(|found| found.uid()).map_err(RunError::file("stat", path));
        let (place, ours) = (owner(&self.root)?, owner(&attempt.dir)?);
        if place == ours { Ok(()) } else { Err(RunError::OtherUsers { path: self.root.clone(), owner: place }) }
    }

    /// Returns the path of a part's record.
    pub(super) fn record_of(&self, part: PartNumber) -> PathBuf {
        self.root.join(part.name() + RECORD)
    }

    /// Returns the parts that have a record, in order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn recorded(&self) -> Result<Vec<PartNumber>, RunError> {
        let names = self.names()?;
        let mut parts: Vec<PartNumber> =
            names.iter().filter_map(|name| PartNumber::of_name(name.strip_suffix(RECORD)?)).collect();
        parts.sort_by_key(|part| (part.of(), part.index()));
        Ok(parts)
    }

    /// Gives a file of an attempt the name of the part's record, unless another has it: of several attempts that end
    /// at the same time, one comes to count. Returns whether it is this one. The directories of the others are then
    /// removed, and their processes, where these still run, fail at their next file and find the record.
    ///
    /// # Errors
    /// The file cannot be renamed.
    //
    // Nobody can tell whether the process of an attempt still runs, so attempts are left alone until then. Those that are
    // removed began before there was a record: one that begins later does so to replace it, and stays.
    pub(super) fn put_record(&self, part: PartNumber, attempt: &Attempt, from: &Path) -> Result<bool, RunError> {
        let path = self.record_of(part);
        let others = self.attempts(part)?;
        match fs::hard_link(from, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            // Some file systems have no second names. There, the last one comes to count, and all of them stay.
            Err(_) => {
                self.replace_record(part, from)?;
                return Ok(true);
            }
        }
        sync_dir(&self.root)?;
        for other in others.into_iter().filter(|other| *other != attempt.name) {
            // What cannot be removed goes with the join.
            let _ = fs::remove_dir_all(self.root.join(other));
        }
        Ok(true)
    }

    /// Puts a file of an attempt in the place of the part's record.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub(super) fn replace_record(&self, part: PartNumber, from: &Path) -> Result<(), RunError> {
        let path = self.record_of(part);
        fs::rename(from, &path).map_err(RunError::file("rename to", &path))?;
        sync_dir(&self.root)
    }

    /// Returns the names of the attempts at a part.
    fn attempts(&self, part: PartNumber) -> Result<Vec<String>, RunError> {
        let prefix = part.name() + ".";
        let mut names = self.names()?;
        names.retain(|name| name.starts_with(&prefix) && !name.ends_with(RECORD));
        Ok(names)
    }

    /// Syncs a file of the place, which fails on a file system that no longer writes to its disk.
    ///
    /// # Errors
    /// The disk does not confirm it.
    pub(super) fn check_alive(&self) -> Result<(), RunError> {
        let marker = self.root.join(MARKER);
        fs::File::open(&marker).and_then(|file| file.sync_all()).map_err(RunError::file("sync", &marker))
    }

    /// Removes the place with all that is in it: the records first, so that no part counts as made whose files are
    /// gone, and the marker last, so that what a crash leaves is still recognised.
    pub(super) fn remove(&self) {
        let names = self.names().unwrap_or_default();
        let (records, others): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.ends_with(RECORD));
        for name in records.into_iter().chain(others).filter(|name| *name != MARKER) {
            let path = self.root.join(name);
            // An error is no harm: what is left bears no name that anybody loads.
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        if self.names().is_ok_and(|names| names.iter().all(|name| name == MARKER)) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    /// Returns the names in the directory.
    fn names(&self) -> Result<Vec<String>, RunError> {
        let list = || -> io::Result<Vec<String>> {
            entries(&self.root)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        list().map_err(RunError::file("list", &self.root))
    }
}

impl Attempt {
    /// Leaves the directory where it is.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
