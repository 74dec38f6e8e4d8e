//! Deltas as files and their results as outputs: a delta gets its name when it is whole, and a checkpoint that one is put
//! on for is staged, resumed and published as that of any run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::checksum::{Crc64, parts_of};
use crate::checkpoint::progress::ProgressSink;
use crate::delta::{BaseFiles, ContentFile, DELTA_MAGIC, DeltaError, DeltaFigures, OpenDelta, make};
use crate::run::destination::Destination;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::identity::Identity;
use crate::run::journal::FinishedShard;
use crate::run::lock::Lock;
use crate::run::observer::Observer;
use crate::run::publishing::publish;
use crate::run::resume;
use crate::run::staging::{self, Staging};

/// Bytes that are written to a delta at a time.
const CHUNK: usize = 1 << 20;

/// The figures of a delta that was put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PutOn {
    /// Files of the output.
    pub files: u64,
    /// Bytes of the output.
    pub output_bytes: u64,
    /// Shards that an earlier, interrupted run had finished.
    pub shards_resumed: u64,
}

/// Writes what changed from `old` to `new`, both on this machine, into the file `output`, which must not exist.
///
/// # Errors
/// The first thing that went wrong. Nothing then has the output's name.
pub fn make_delta(
    old: &Checkpoint,
    new: &Checkpoint,
    output: &Path,
    progress: &dyn ProgressSink,
) -> Result<DeltaFigures, RunError> {
    let destination = Destination::new(output, Some(&old.dir))?;
    Destination::new(output, Some(&new.dir))?;
    check_no_file(&destination)?;
    let _lock = Lock::acquire(&destination)?;
    check_no_file(&destination)?;
    let unfinished = destination.beside("partial");
    remove_unfinished(&unfinished)?;
    let made = write(old, new, &unfinished, progress).and_then(|figures| {
        publish(&unfinished, &destination, || Ok(()))?;
        Ok(figures)
    });
    made.inspect_err(|_| {
        // Of no use to another run, which makes it anew.
        let _ = fs::remove_file(&unfinished);
    })
}

fn write(
    old: &Checkpoint,
    new: &Checkpoint,
    unfinished: &Path,
    progress: &dyn ProgressSink,
) -> Result<DeltaFigures, RunError> {
    let file = create_new(unfinished, 0o666).map_err(RunError::file("create", unfinished))?;
    let mut out = BufWriter::with_capacity(CHUNK, file);
    let figures = make(old, new, &mut out, unfinished, progress)?;
    out.flush().map_err(RunError::file("write", unfinished))?;
    out.get_ref().sync_all().map_err(RunError::file("sync", unfinished))?;
    Ok(figures)
}

/// Checks that nothing bears the name of a file that is to be made.
fn check_no_file(destination: &Destination) -> Result<(), RunError> {
    match fs::symlink_metadata(&destination.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RunError::file("stat", &destination.path)(error)),
        Ok(_) => Err(destination.occupied()),
    }
}

/// Removes what a killed run left of a delta.
///
/// # Errors
/// Something else lies there.
fn remove_unfinished(path: &Path) -> Result<(), RunError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let begins_as_ours = |file: &File| {
        let mut start = Vec::new();
        let is_read = file.take(DELTA_MAGIC.len() as u64).read_to_end(&mut start).is_ok();
        is_read && DELTA_MAGIC.starts_with(&start)
    };
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(file) if file.metadata().is_ok_and(|found| found.is_file()) && begins_as_ours(&file) => {
            fs::remove_file(path).map_err(RunError::file("remove", path))
        }
        _ => Err(RunError::NotOurs { path: path.to_owned() }),
    }
}

/// Puts a delta on `base`, which must be on this machine, and publishes the result as the directory `output`, which must not
/// exist or be empty. Shards that an interrupted run of the same job has finished are resumed, unless it is to `restart`.
///
/// # Errors
/// The first thing that went wrong, such as another base. The output's name is then as it was before.
pub fn apply_delta(
    delta: &OpenDelta,
    base: &Checkpoint,
    output: &Path,
    restart: bool,
    observer: &dyn Observer,
    progress: &dyn ProgressSink,
) -> Result<PutOn, RunError> {
    let destination = Destination::new(output, Some(&base.dir))?;
    destination.check_free().inspect_err(|_| staging::remove_published(&destination))?;
    let _lock = Lock::acquire(&destination)?;
    destination.check_free()?;
    let files = BaseFiles::new(base)?;
    delta.check_base(&files)?;
    let identity = Identity::of_delta(delta, base);
    let past = if restart { None } else { Staging::past(&destination, &identity)? };
    let finished = match &past {
        Some(past) => still_good(&past.finished, delta, &Staging::shards_of(&destination), progress)?,
        None => Vec::new(),
    };
    let is_finished = |file: &ContentFile| finished.iter().any(|shard| shard.shard == file.name);
    let to_write = || delta.contents.files.iter().filter(|file| !is_finished(file));
    let sizes = to_write().map(|file| (file.name.as_str(), file.size()));
    let needed = to_write().map(ContentFile::size).sum();
    destination.check_room_for(sizes, needed)?;
    let mut staging = match past {
        Some(_) => Staging::resume(&destination, &identity, finished.clone())?,
        None => Staging::create(&destination, &identity)?,
    };
    if !finished.is_empty() {
        let shards = delta.contents.files.iter().filter(|file| is_resumable(file)).count();
        observer.resumed(finished.len(), shards);
    }
    progress.reading("restoring", needed);
    let done = put_on(delta, &files, &staging, &finished, progress).and_then(|()| staging.publish(&destination));
    if let Err(error) = done {
        if let Some(left) = staging.left_behind(&error) {
            observer.left_behind(&left);
        }
        return Err(error);
    }
    Ok(PutOn {
        files: delta.contents.files.len() as u64,
        output_bytes: delta.contents.size(),
        shards_resumed: finished.len() as u64,
    })
}

/// Writes every file that is not finished.
fn put_on(
    delta: &OpenDelta,
    base: &BaseFiles<'_>,
    staging: &Staging,
    finished: &[FinishedShard],
    progress: &dyn ProgressSink,
) -> Result<(), RunError> {
    let mut reader = delta.reader();
    for file in &delta.contents.files {
        if finished.iter().any(|shard| shard.shard == file.name) {
            reader.pass_over(file)?;
            continue;
        }
        let path = staging.dir.join(&file.name);
        let folder = path.parent().filter(|folder| *folder != staging.dir);
        if let Some(folder) = folder {
            fs::create_dir_all(folder).map_err(RunError::file("make", folder))?;
        }
        // Under another name first: a kill while `config.json` is written would leave half of one.
        let unfinished = staging.dir.join(".unfinished");
        let out = create_new(&unfinished, 0o666).map_err(RunError::file("create", &unfinished))?;
        let sum = reader.restore(file, base, &out, &path, progress)?;
        out.sync_all().map_err(RunError::file("sync", &path))?;
        fs::rename(&unfinished, &path).map_err(RunError::file("rename to", &path))?;
        for folder in folder.into_iter().flat_map(Path::ancestors).take_while(|folder| *folder != staging.dir) {
            sync_dir(folder)?;
        }
        if is_resumable(file) {
            // Before the line that says that it is there.
            sync_dir(&staging.dir)?;
            staging.enter(FinishedShard::without_statistics(&file.name, file.size(), sum))?;
        }
    }
    reader.check_end()?;
    base.check_unchanged()?;
    Ok(())
}

/// Reports whether a file is kept for a later run: the staging directory keeps shards and nothing else.
fn is_resumable(file: &ContentFile) -> bool {
    file.name.ends_with(".safetensors") && !file.name.contains('/')
}

/// Returns the shards of the journal that are in the delta, and still as they were written.
fn still_good(
    past: &[FinishedShard],
    delta: &OpenDelta,
    dir: &Path,
    progress: &dyn ProgressSink,
) -> Result<Vec<FinishedShard>, RunError> {
    let mut reader = delta.reader();
    let mut in_delta = Vec::new();
    for file in &delta.contents.files {
        let sum = reader.pass_over(file)?;
        let line = past.iter().find(|line| (line.shard.as_str(), line.size) == (file.name.as_str(), file.size()));
        in_delta.extend(line.filter(|line| line.crc64 == sum && is_resumable(file)));
    }
    progress.reading("checking the finished shards", in_delta.iter().map(|line| line.size).sum());
    let mut good = Vec::new();
    for line in in_delta {
        if checksum(&dir.join(&line.shard), line.size, progress) == Some(line.crc64) {
            good.push(line.clone());
        }
        if progress.is_cancelled() {
            return Err(DeltaError::Cancelled.into());
        }
    }
    Ok(good)
}

/// The checksum of a file of this size; `None` where it is none, or not ours alone.
fn checksum(path: &Path, size: u64, progress: &dyn ProgressSink) -> Option<Crc64> {
    let file = resume::open(path).filter(|file| file.metadata().is_ok_and(|found| found.len() == size))?;
    let advanced = |bytes| {
        progress.advanced(bytes);
        if progress.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    parts_of(&file, &[size], advanced).ok()?.first().copied()
}
