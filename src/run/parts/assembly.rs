//! The shards of a join: each is put together from the files of the parts, whose bytes are read and compared with the
//! records.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::source::SourceFile;
use crate::checkpoint::text::{exact, shown};
use crate::plan::Plan;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::observer::Observer;
use crate::run::parts::number::PartNumber;
use crate::run::parts::record::PartRecord;
use crate::run::share::{ToWrite, WrittenBytes, to_write};
use crate::run::threads;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A part that is made, as its record and the plan say.
pub(super) struct FinishedPart {
    pub(super) part: PartNumber,
    pub(super) record: PartRecord,
    pub(super) written: Vec<WrittenBytes>,
    /// The directory of its files.
    pub(super) dir: PathBuf,
}

/// What a part has of one shard.
struct ShardPiece<'a> {
    part: &'a FinishedPart,
    ranges: &'a [WrittenBytes],
    /// One for each range.
    sums: Vec<Crc64>,
    is_whole: bool,
}

/// Reason why a piece cannot be taken.
pub(super) enum Unusable {
    /// The part's file is not as it was written, which says how.
    Spoilt(PartNumber, String),
    /// Nothing is wrong with the part.
    Failed(RunError),
}

impl FinishedPart {
    /// Returns what the part has of each shard, by the shard's number.
    fn pieces<'a>(&'a self, plan: &Plan) -> Vec<(usize, ShardPiece<'a>)> {
        let kinds = to_write(plan, &self.written);
        let mut sums = self.record.ranges.iter().map(|range| range.crc64);
        let pieces = self.written.chunk_by(|one, next| one.slot.shard == next.slot.shard).map(|ranges| {
            let shard = ranges[0].slot.shard;
            let sums = sums.by_ref().take(ranges.len()).collect();
            (shard, ShardPiece { part: self, ranges, sums, is_whole: kinds[shard] == ToWrite::Whole })
        });
        pieces.collect()
    }

    /// Reads the part's files and compares them with its record. Returns whether they are as they were written.
    ///
    /// # Errors
    /// [`RunError::Cancelled`].
    pub(super) fn is_good(&self, plan: &Plan, cancel: &AtomicBool, observer: &dyn Observer) -> Result<bool, RunError> {
        let bytes = self.written.iter().map(|written| written.bytes.end - written.bytes.start).sum();
        observer.reading("checking the part that is there", bytes);
        for (shard, piece) in self.pieces(plan) {
            match piece.read(plan, shard, None, cancel, observer) {
                Ok(()) => {}
                Err(Unusable::Spoilt(..)) => return Ok(false),
                Err(Unusable::Failed(error)) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl ShardPiece<'_> {
    /// Reads the piece, compares it with its record, and writes it to its place in `to`.
    fn read(
        &self,
        plan: &Plan,
        shard: usize,
        to: Option<(&File, &Path)>,
        cancel: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<(), Unusable> {
        let layout = &plan.shards[shard];
        let spoilt =
            |what: &dyn Display| Unusable::Spoilt(self.part.part, format!("{}: {what}", shown(&layout.file_name)));
        // Whatever keeps a file from being read makes its part one that has to be made again.
        let file = SourceFile::open(&self.part.dir.join(&layout.file_name)).map_err(|error| spoilt(&error))?;
        if file.size() != layout.size {
            return Err(spoilt(&format!("it has {}, not {}", exact(file.size()), exact(layout.size))));
        }
        if self.is_whole {
            let mut header = vec![0; layout.header.len()];
            file.read_exact_at(&mut header, 0).map_err(|error| spoilt(&error))?;
            if header != layout.header {
                return Err(spoilt(&"its header differs"));
            }
        }
        let mut reader = BufReader::with_capacity(
            CHUNK,
            file.into_file().expect("a file that was opened by its path lies on this machine"),
        );
        let mut at = 0;
        for (WrittenBytes { slot, bytes }, expected) in self.ranges.iter().zip(&self.sums) {
            let placed = &layout.tensors[slot.tensor];
            let (from, end) = (placed.offset + bytes.start, placed.offset + bytes.end);
            reader.seek_relative((from - at).cast_signed()).map_err(|error| spoilt(&error))?;
            at = from;
            let mut sum = Crc64::default();
            while at < end {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Unusable::Failed(RunError::Cancelled));
                }
                let ready = match reader.fill_buf() {
                    Ok([]) => return Err(spoilt(&"it became shorter")),
                    Ok(ready) => &ready[..ready.len().min((end - at) as usize)],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(spoilt(&error)),
                };
                sum = sum.then(Crc64::of(ready), ready.len() as u64);
                if let Some((to, path)) = to {
                    to.write_all_at(ready, at)
                        .map_err(|error| Unusable::Failed(RunError::file("write", path)(error)))?;
                }
                let len = ready.len();
                reader.consume(len);
                at += len as u64;
                observer.advanced(len as u64);
            }
            if sum.before(placed.len - bytes.end) != *expected {
                return Err(spoilt(&format!("{} is not what was written", shown(&placed.entry.name))));
            }
        }
        Ok(())
    }
}

/// Puts the shards together in `dir`, durably. Returns the bytes that were copied for it, or the parts whose files are
/// not as they were written, with what is wrong.
///
/// # Errors
/// A file cannot be made, or [`RunError::Cancelled`].
pub(super) fn assemble(
    plan: &Plan,
    parts: &[FinishedPart],
    dir: &Path,
    threads: usize,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Result<u64, BTreeMap<PartNumber, String>>, RunError> {
    let mut pieces: Vec<Vec<ShardPiece<'_>>> = plan.shards.iter().map(|_| Vec::new()).collect();
    for part in parts {
        part.pieces(plan).into_iter().for_each(|(shard, piece)| pieces[shard].push(piece));
    }
    observer.reading("checking what the parts made", plan.shards.iter().map(|shard| shard.data_len()).sum());
    let (next, copied) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (spoilt, failure) = (Mutex::new(BTreeMap::new()), Mutex::new(None));
    threads::on_each(threads.min(pieces.len()), || {
        loop {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            let Some(pieces) = pieces.get(shard) else { break };
            let made = match pieces.as_slice() {
                [whole] if whole.is_whole => link(plan, shard, whole, dir, cancel, observer),
                pieces => copy(plan, shard, pieces, dir, cancel, observer),
            };
            match made {
                Ok(bytes) => {
                    copied.fetch_add(bytes, Ordering::Relaxed);
                    observer.shard_finished(&plan.shards[shard].file_name);
                }
                // All that is spoilt is found, so that one more round of parts mends it.
                Err(Unusable::Spoilt(part, what)) => {
                    spoilt.lock().unwrap_or_else(PoisonError::into_inner).entry(part).or_insert(what);
                }
                Err(Unusable::Failed(error)) => {
                    next.store(plan.shards.len(), Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let spoilt = spoilt.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !spoilt.is_empty() {
        return Ok(Err(spoilt));
    }
    sync_dir(dir)?;
    Ok(Ok(copied.into_inner()))
}

/// Gives a shard that a part has made whole a second name in `dir`, once its bytes are compared. Returns the bytes that
/// had to be copied, which are none unless the file system has no second names.
fn link(
    plan: &Plan,
    shard: usize,
    piece: &ShardPiece<'_>,
    dir: &Path,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<u64, Unusable> {
    let name = &plan.shards[shard].file_name;
    piece.read(plan, shard, None, cancel, observer)?;
    match fs::hard_link(piece.part.dir.join(name), dir.join(name)) {
        Ok(()) => Ok(0),
        Err(_) => copy(plan, shard, std::slice::from_ref(piece), dir, cancel, &()),
    }
}

/// Writes a shard from its pieces into `dir`, its header last. Returns the bytes that were copied.
fn copy(
    plan: &Plan,
    shard: usize,
    pieces: &[ShardPiece<'_>],
    dir: &Path,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<u64, Unusable> {
    let layout = &plan.shards[shard];
    let path = dir.join(&layout.file_name);
    let failed = |action| {
        let path = path.clone();
        move |error| Unusable::Failed(RunError::file(action, &path)(error))
    };
    let file = create_new(&path, 0o666).map_err(failed("create"))?;
    file.set_len(layout.size).map_err(failed("write"))?;
    for piece in pieces {
        piece.read(plan, shard, Some((&file, &path)), cancel, observer)?;
    }
    file.write_all_at(&layout.header, 0).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    Ok(layout.size)
}
