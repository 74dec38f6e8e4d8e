//! The speed at which a source can be read, measured on a sample of it.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::checklist::ChecklistLine;
use crate::checkpoint::source::SourceError;
use crate::checkpoint::text::human;
use crate::checkpoint::{Shard, ShardFile};

/// The bytes of one piece of the sample.
const PIECE: u64 = 4 << 20;
/// The bytes of one read, about as many as a task of a run reads.
const READ: u64 = 2 << 20;
/// The alignment of reads past the page cache.
const ALIGN: u64 = 4096;
/// The most pieces, 256 MiB in all.
const PIECES: u64 = 64;
/// The time after which no further read begins.
const LIMIT: Duration = Duration::from_secs(1);
/// The most threads that read.
const THREADS: usize = 16;
/// The least that says something of a disk.
const LEAST: u64 = 16 << 20;
/// Bytes of a second below which a source counts as slow.
const SLOW: f64 = 200e6;

/// The sample that was read, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadSample {
    pub bytes: u64,
    pub seconds: f64,
    pub threads: usize,
    pub cache: PageCache,
}

/// The part that the page cache had in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageCache {
    /// Reads went past it, as those of a run do where it does not hold the data; so many of the pieces are in it.
    Passed { cached: usize, pieces: usize },
    /// The file system has no such reads. None of the pieces that were read was in it; so many were, and were left out.
    LeftOut { cached: usize, pieces: usize },
    /// The file system has no such reads, and all that was looked at is in it.
    All,
    /// The file system has no such reads, and does not tell.
    Unknown,
}

/// A piece of the sample.
#[derive(Clone, Copy, Debug)]
struct SamplePiece {
    shard: usize,
    offset: u64,
    len: u64,
}

impl ReadSample {
    /// Reads pieces that are spread over the shards, with as many threads as a run has.
    ///
    /// # Errors
    /// A shard cannot be read, or has changed.
    //
    // Past the page cache where that can be, as a run does: through it the same disk was measured at a third of its speed.
    // Else what the cache holds is left out, and what was read for this is thrown out of it again. Nothing else is, which
    // would slow the run that follows.
    pub fn measure(shards: &[Shard], threads: usize) -> Result<Self, SourceError> {
        let files = shards.iter().map(SampledShard::open).collect::<Result<Vec<_>, _>>()?;
        let pieces = pieces(shards);
        let states: Vec<Option<bool>> =
            pieces.iter().map(|piece| is_cached(&files[piece.shard].buffered, piece)).collect();
        let uncached: Vec<SamplePiece> =
            pieces.iter().zip(&states).filter(|(_, state)| **state == Some(false)).map(|(piece, _)| *piece).collect();
        let cached = states.iter().filter(|state| **state == Some(true)).count();
        let number = pieces.len();
        let (measured, cache) = if files.iter().all(|file| file.direct.is_some()) {
            (&pieces, PageCache::Passed { cached, pieces: number })
        } else if states.iter().any(Option::is_none) {
            (&pieces, PageCache::Unknown)
        } else if uncached.is_empty() {
            (&pieces, PageCache::All)
        } else {
            (&uncached, PageCache::LeftOut { cached, pieces: number })
        };
        let threads = threads.clamp(1, THREADS).min(measured.len().max(1));
        let (bytes, seconds) = read(&files, measured, threads)?;
        for piece in &uncached {
            // Advice that is not taken costs memory that the system takes back when it needs it.
            if let Some(file) = files[piece.shard].buffered.file() {
                let _ = fadvise(file, piece.offset, NonZeroU64::new(piece.len), Advice::DontNeed);
            }
        }
        Ok(Self { bytes, seconds, threads, cache })
    }

    /// Judges the speed for a source of so many bytes.
    pub fn line(&self, source: u64) -> ChecklistLine {
        const SUBJECT: &str = "reading";
        if self.bytes < LEAST {
            let fact = format!("{} were read: too little to tell the disk's speed", human(self.bytes));
            return ChecklistLine::ok(SUBJECT, fact);
        }
        let speed = self.bytes as f64 / self.seconds.max(1e-9);
        let sample = format!("{} in {:.2} s with {} at once", human(self.bytes), self.seconds, self.threads);
        let all = match source as f64 / speed {
            seconds if seconds < 1.0 => "less than a second".to_owned(),
            seconds if seconds < 120.0 => format!("about {seconds:.0} s"),
            seconds => format!("about {:.0} min", seconds / 60.0),
        };
        let said = format!("{}/s ({sample}): all {} in {all}", human(speed as u64), human(source));
        let fact = match self.cache {
            PageCache::All => {
                let fact =
                    format!("{said}; all that was looked at is in the page cache, so that this is memory's speed");
                return ChecklistLine::ok(SUBJECT, fact);
            }
            PageCache::Passed { cached: 0, .. } | PageCache::LeftOut { cached: 0, .. } => said,
            PageCache::Passed { cached, pieces } => {
                format!("{said}; {cached} of {pieces} samples are in the page cache, from which a run reads faster")
            }
            PageCache::LeftOut { cached, pieces } => {
                format!("{said}; {cached} of {pieces} samples were in the page cache and were left out")
            }
            PageCache::Unknown => {
                format!("{said}; some of it may come from the page cache, which the file system does not tell")
            }
        };
        if speed < SLOW {
            let advice = "an SSD of this machine reads 500 MB/s and more: copy the source there, or wait";
            ChecklistLine::note(SUBJECT, fact, advice)
        } else {
            ChecklistLine::ok(SUBJECT, fact)
        }
    }
}

/// Returns pieces at equal distances over all shards.
fn pieces(shards: &[Shard]) -> Vec<SamplePiece> {
    let total: u64 = shards.iter().map(|shard| shard.size).sum();
    let number = (total / PIECE).clamp(1, PIECES);
    let at = |index: u64| {
        let mut place = (u128::from(total) * u128::from(index) / u128::from(number)) as u64;
        for (shard, Shard { size, .. }) in shards.iter().enumerate() {
            if place < *size {
                return Some(SamplePiece { shard, offset: place, len: (size - place).min(PIECE) });
            }
            place -= size;
        }
        None
    };
    (0..number).filter_map(at).collect()
}

/// Reports whether the page cache holds a piece, judged by one byte of it; `None` where the file system does not tell.
//
// The byte is asked for in another page each time: asking for it has it fetched.
fn is_cached(file: &ShardFile, piece: &SamplePiece) -> Option<bool> {
    let page = u64::from(std::process::id()) * 4096 % piece.len.max(1);
    let answer = preadv2(file.file()?, &mut [IoSliceMut::new(&mut [0])], piece.offset + page, ReadWriteFlags::NOWAIT);
    match answer {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// A shard, open for both kinds of reads.
struct SampledShard {
    buffered: ShardFile,
    /// The same file for reads past the page cache, where its file system has them.
    direct: Option<File>,
    size: u64,
}

impl SampledShard {
    fn open(shard: &Shard) -> Result<Self, SourceError> {
        let buffered = shard.open()?;
        let direct = buffered.direct();
        Ok(Self { buffered, direct, size: shard.size })
    }

    /// Reads at least once from `offset` on, `len` bytes as far as the file goes, and returns their number. `buffer` has room
    /// for as many and for the alignment.
    fn read(&self, buffer: &mut [u8], offset: u64, len: u64) -> Result<u64, SourceError> {
        let len = len.min(self.size.saturating_sub(offset));
        if let Some(direct) = &self.direct {
            let skip = buffer.as_ptr().align_offset(ALIGN as usize);
            let blocks = buffer.get_mut(skip..skip + READ as usize);
            let from = offset - offset % ALIGN;
            if let Some(Ok(read @ 1..)) = blocks.map(|blocks| direct.read_at(blocks, from)) {
                return Ok(read as u64);
            }
        }
        // Where the disk wants a coarser alignment too.
        self.buffered.read_exact_at(&mut buffer[..len as usize], offset).map(|()| len)
    }
}

/// Reads pieces until all are read or the time is up; the bytes that were read, and the seconds.
fn read(files: &[SampledShard], pieces: &[SamplePiece], threads: usize) -> Result<(u64, f64), SourceError> {
    let (next, bytes, began) = (AtomicUsize::new(0), AtomicU64::new(0), Instant::now());
    let reader = || -> Result<(), SourceError> {
        let mut buffer = vec![0; (READ + ALIGN) as usize];
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            for from in (0..piece.len).step_by(READ as usize) {
                if began.elapsed() > LIMIT {
                    return Ok(());
                }
                let read = files[piece.shard].read(&mut buffer, piece.offset + from, READ.min(piece.len - from))?;
                bytes.fetch_add(read, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, reader).ok()).collect();
        let own = reader();
        let joined = others.into_iter().map(|other| other.join().unwrap_or(Ok(())));
        joined.fold(own, Result::and)
    })?;
    Ok((bytes.load(Ordering::Relaxed), began.elapsed().as_secs_f64()))
}
