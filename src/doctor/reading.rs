//! The speed at which a source can be read, measured on a sample of it.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::checklist::ChecklistLine;
use crate::checkpoint::source::SourceError;
use crate::checkpoint::text::human;
use crate::checkpoint::{Shard, ShardFile};

/// The bytes of one piece of the sample.
const PIECE: u64 = 4 << 20;
/// The bytes of one read.
const READ: u64 = 1 << 20;
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
    /// None of the pieces that were read was in it; so many of all were, and were left out.
    LeftOut { cached: usize, pieces: usize },
    /// All of the source, as far as looked at, is in it.
    All,
    /// The file system does not tell.
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
    // Nothing is thrown out of the page cache for it, which would slow the run that follows: what lies there is left out
    // of the measurement instead.
    pub fn measure(shards: &[Shard], threads: usize) -> Result<Self, SourceError> {
        let files = shards.iter().map(Shard::open).collect::<Result<Vec<_>, _>>()?;
        let pieces = pieces(shards);
        let states: Vec<Option<bool>> = pieces.iter().map(|piece| is_cached(&files[piece.shard], piece)).collect();
        let uncached: Vec<SamplePiece> =
            pieces.iter().zip(&states).filter(|(_, state)| **state == Some(false)).map(|(piece, _)| *piece).collect();
        let (measured, cache) = if states.iter().any(Option::is_none) {
            (&pieces, PageCache::Unknown)
        } else if uncached.is_empty() {
            (&pieces, PageCache::All)
        } else {
            let cached = pieces.len() - uncached.len();
            (&uncached, PageCache::LeftOut { cached, pieces: pieces.len() })
        };
        let threads = threads.clamp(1, THREADS).min(measured.len().max(1));
        let (bytes, seconds) = read(&files, measured, threads)?;
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
            seconds if seconds < 120.0 => format!("{seconds:.0} s"),
            seconds => format!("{:.0} min", seconds / 60.0),
        };
        let said = format!("{}/s ({sample}): all {} in about {all}", human(speed as u64), human(source));
        let fact = match self.cache {
            PageCache::All => {
                let fact =
                    format!("{said}; all that was looked at is in the page cache, so that this is memory's speed");
                return ChecklistLine::ok(SUBJECT, fact);
            }
            PageCache::LeftOut { cached: 0, .. } => said,
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
    let answer = preadv2(file.file(), &mut [IoSliceMut::new(&mut [0])], piece.offset + page, ReadWriteFlags::NOWAIT);
    match answer {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// Reads pieces until all are read or the time is up; the bytes that were read, and the seconds.
fn read(files: &[ShardFile], pieces: &[SamplePiece], threads: usize) -> Result<(u64, f64), SourceError> {
    let (next, bytes, began) = (AtomicUsize::new(0), AtomicU64::new(0), Instant::now());
    let reader = || -> Result<(), SourceError> {
        let mut buffer = vec![0; READ as usize];
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            for from in (0..piece.len).step_by(READ as usize) {
                if began.elapsed() > LIMIT {
                    return Ok(());
                }
                let part = &mut buffer[..READ.min(piece.len - from) as usize];
                files[piece.shard].read_exact_at(part, piece.offset + from)?;
                bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
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
