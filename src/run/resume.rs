//! Verification of the shards that an earlier run finished: each is read again and checked before it is resumed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::checkpoint::checksum::{Crc64, parts_of, whole};
use crate::checkpoint::layout::ShardLayout;
use crate::run::checksums::Checksums;
use crate::run::error::RunError;
use crate::run::journal::FinishedShard;
use crate::run::observer::Observer;
use crate::run::threads;

/// Returns for each layout the finished shard that is still good, and puts its checksums into `checksums`.
///
/// # Errors
/// [`RunError::Cancelled`].
//
// The journal alone is no proof: since it was written, the disk may have lost the bytes or somebody may have edited
// them.
pub(super) fn verified(
    past: &[FinishedShard],
    dir: &Path,
    layouts: &[ShardLayout],
    checksums: &Checksums<'_>,
    threads: usize,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<Vec<Option<FinishedShard>>, RunError> {
    let found = Mutex::new(vec![None; layouts.len()]);
    let next = AtomicUsize::new(0);
    let line_of = |layout: &ShardLayout| past.iter().find(|finished| finished.shard == layout.file_name);
    if !past.is_empty() {
        let bytes = layouts.iter().filter(|layout| line_of(layout).is_some()).map(|layout| layout.size).sum();
        observer.reading("checking the finished shards", bytes);
    }
    let advanced = |bytes| {
        observer.advanced(bytes);
        if cancel.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    threads::on_each(threads.min(past.len()), || {
        while !cancel.load(Ordering::Relaxed) {
            let shard = next.fetch_add(1, Ordering::Relaxed);
            let Some(layout) = layouts.get(shard) else { break };
            let Some(line) = line_of(layout) else { continue };
            let Some(tensors) = tensors_of(line, dir, layout, advanced) else { continue };
            checksums.set(shard, &tensors);
            found.lock().unwrap_or_else(PoisonError::into_inner)[shard] = Some(line.clone());
        }
    });
    if cancel.load(Ordering::Relaxed) {
        return Err(RunError::Cancelled);
    }
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the checksums of the shard's tensors; `None` if the file differs from the journal or the plan in anything,
/// or cannot be read. It is then written again.
fn tensors_of(
    line: &FinishedShard,
    dir: &Path,
    layout: &ShardLayout,
    advanced: impl FnMut(u64) -> io::Result<()>,
) -> Option<Vec<Crc64>> {
    let file = open(&dir.join(&layout.file_name))?;
    if file.metadata().ok()?.len() != layout.size || line.size != layout.size {
        return None;
    }
    let lengths: Vec<u64> =
        std::iter::once(layout.header.len() as u64).chain(layout.tensors.iter().map(|placed| placed.len)).collect();
    let sums = parts_of(&file, &lengths, advanced).ok()?;
    let is_whole = whole(sums.iter().copied().zip(lengths)) == line.crc64;
    (is_whole && sums[0] == Crc64::of(&layout.header)).then(|| sums[1..].to_vec())
}

/// Opens a regular file that has no other name.
//
// A second hard link would let somebody change the bytes of the output after it was published.
pub(super) fn open(path: &Path) -> Option<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.nlink() == 1).then_some(file)
}
