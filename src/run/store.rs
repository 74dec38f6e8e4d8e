//! A run whose output is a prefix of an object store.
//!
//! Shards first, each of which becomes an object when all of its parts are there; then the other files, the index, and
//! `config.json` last, with which the output is loadable. Nothing is put over what somebody else has written, and a
//! journal under the prefix says whose it is, so that two runs cannot mix.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;

use crate::checkpoint::layout::INDEX_FILE;
use crate::checkpoint::store::{OutputStore, UploadPart};
use crate::plan::Plan;
use crate::run::block_order;
use crate::run::completion::Completion;
use crate::run::crew::{self, Outcome};
use crate::run::error::RunError;
use crate::run::identity::Identity;
use crate::run::observer::{LeftBehind, Observer, Phase};
use crate::run::options::RunOptions;
use crate::run::outputs::Outputs;
use crate::run::plan_check;
use crate::run::recorder::Recorder;
use crate::run::report::{Clocks, RunFigures, RunReport};
use crate::run::self_check::WrittenShards;
use crate::run::share::{Share, ToWrite};
use crate::run::state::RunState;
use crate::run::store::journal::{CONFIG, StoreJournal, UploadedShard};
use crate::run::store::uploads::{ShardUploads, part_bytes, uploaders};
use crate::run::work::Work;

mod journal;
mod uploads;

/// Shards of an output that are looked at at a time before it is published: each answer is waited for.
const CHECKED_AT_ONCE: usize = 16;

/// Carries out `plan` and publishes the result in `store`, where nothing may lie but what an interrupted run of the same job has
/// left: it is resumed. The objects are the files that [`run`](crate::run::run) writes, byte for byte.
///
/// Files in `scratch` hold what is on its way: parts of shards, as many as are under way, and the small files.
///
/// # Errors
/// The first thing that went wrong. The output is then not loadable.
pub fn run_to_store(
    plan: &Plan,
    store: &dyn OutputStore,
    scratch: &Path,
    options: &RunOptions<'_>,
    observer: &dyn Observer,
) -> Result<RunReport, RunError> {
    let clocks = Clocks::start();
    observer.phase(Phase::Preparing);
    plan_check::check_slots(plan)?;
    check_apart(plan, store.address())?;
    // As on every machine: the next run may be on another one.
    let identity = Identity::of(plan)?.across_machines();
    let made = tempfile::Builder::new().prefix("qwen-fp8-").tempdir_in(scratch);
    let scratch = made.map_err(RunError::file("make a directory in", scratch))?;
    let (uploaders, max_memory) = uploaders(options.max_memory);
    let options = &RunOptions { max_memory, ..*options };
    let journal = StoreJournal::claim(store, &identity, options.restart)?;
    let (identity, scratch, journal) = (&identity, scratch.path(), &journal);
    let run = RunToStore { plan, identity, store, scratch, journal, options, observer, uploaders };
    run.carry_out(&clocks).inspect_err(|error| {
        let shards = journal.leave(error.leaves_use());
        if shards > 0 {
            observer.left_behind(&LeftBehind { staging: store.address().into(), shards });
        }
    })
}

/// Checks that neither of source and output lies in the other.
fn check_apart(plan: &Plan, address: &str) -> Result<(), RunError> {
    let Some(repository) = &plan.checkpoint.repository else { return Ok(()) };
    let source = repository.address();
    let lies_in = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if lies_in(address, source) || lies_in(source, address) {
        let (address, source_address) = (address.to_owned(), source.to_owned());
        return Err(RunError::StoreInSource { address, source_address });
    }
    Ok(())
}

/// A run that has claimed its prefix.
struct RunToStore<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    store: &'a dyn OutputStore,
    scratch: &'a Path,
    journal: &'a StoreJournal<'a>,
    options: &'a RunOptions<'a>,
    observer: &'a dyn Observer,
    /// Parts that are uploaded at a time.
    uploaders: usize,
}

impl RunToStore<'_> {
    fn carry_out(&self, clocks: &Clocks) -> Result<RunReport, RunError> {
        let Self { plan, options, observer, .. } = *self;
        let recorder = Recorder::new(plan);
        let resumed = self.resumed(&recorder);
        let finished: Vec<bool> = resumed.iter().map(Option::is_some).collect();
        let shards_resumed = finished.iter().filter(|&&finished| finished).count();
        if shards_resumed > 0 {
            observer.resumed(shards_resumed, plan.shards.len());
        }
        let memory = block_order::memory_for_work(plan, options);
        let work = Work::new(plan, &Share::of_run(plan, &finished), options.threads(), memory)?;
        let outcome = self.write_shards(&work, &recorder, &finished)?;
        let workers = work.workers;
        let completion = Completion {
            plan,
            identity: self.identity,
            recorder: &recorder,
            options,
            observer,
            workers,
            threads_of_check: CHECKED_AT_ONCE,
        };
        let address = PathBuf::from(self.store.address());
        let shards = ShardsInStore { plan, store: self.store, shards: self.journal.shards() };
        let output_bytes = completion.carry_out(&shards, self.scratch, &address)?;
        self.publish()?;
        let written_before: u64 = resumed.iter().flatten().map(|shard| shard.finished.size).sum();
        let figures = RunFigures {
            workers,
            bytes_read: outcome.stages.bytes_read,
            bytes_written: output_bytes - written_before,
            output_bytes,
            shards_resumed,
            shards: plan.shards.len(),
            outcome,
        };
        Ok(clocks.report(plan, 0..plan.jobs.len(), &recorder, options, figures))
    }

    /// Returns for each shard the object that an earlier run has made of it, and puts into `recorder` what that run met.
    fn resumed(&self, recorder: &Recorder<'_>) -> Vec<Option<UploadedShard>> {
        let plan = self.plan;
        let mut past = self.journal.shards();
        let resumed: Vec<Option<UploadedShard>> = plan
            .shards
            .iter()
            .map(|layout| {
                let at = past.iter().position(|past| {
                    past.finished.shard == layout.file_name
                        && past.finished.size == layout.size
                        && past.tensors.len() == layout.tensors.len()
                })?;
                Some(past.swap_remove(at))
            })
            .collect();
        let finished: Vec<bool> = resumed.iter().map(Option::is_some).collect();
        for (number, shard) in resumed.iter().enumerate() {
            let Some(UploadedShard { finished: shard, tensors, .. }) = shard else { continue };
            recorder.checksums.set(number, tensors);
            recorder.resume(plan, shard, &finished);
        }
        resumed
    }

    /// Makes and uploads the shards that are not finished.
    fn write_shards(&self, work: &Work, recorder: &Recorder<'_>, finished: &[bool]) -> Result<Outcome, RunError> {
        let Self { plan, options, observer, store, .. } = *self;
        let to_write = |&finished: &bool| if finished { ToWrite::Nothing } else { ToWrite::Whole };
        let to_write: Vec<ToWrite> = finished.iter().map(to_write).collect();
        let uploads = ShardUploads::new(store, plan, &to_write, self.journal, options.cancel);
        let address = PathBuf::from(store.address());
        let outputs = Outputs::uploaded(&address, &plan.shards, to_write, self.scratch, &uploads);
        observer.phase(Phase::Converting);
        observer.started(work.bytes);
        let read_ahead = block_order::read_ahead(plan, work, options)?;
        let state = RunState::new(plan, work, &outputs, recorder, read_ahead, options, observer);
        let enter = |shard: usize, state| {
            let layout = &plan.shards[shard];
            let tensors = (0..layout.tensors.len()).map(|tensor| recorder.checksums.tensor(shard, tensor)).collect();
            self.journal.add(UploadedShard { finished: recorder.finished_shard(plan, shard), state, tensors })?;
            observer.shard_finished(&layout.file_name);
            Ok(())
        };
        let outcome = thread::scope(|scope| {
            // Not behind a panic either: the threads would wait for ever, and the scope for them.
            let mut end = EndOfUploads(Some(&uploads));
            for number in 0..self.uploaders {
                match thread::Builder::new().spawn_scoped(scope, || uploads.upload(&enter)) {
                    Err(source) if number == 0 => {
                        return Err(RunError::NoThread { workers: self.uploaders, source });
                    }
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            let outcome = crew::carry_out(state, &|_| Ok(()))?;
            // What is left goes first; the scope waits for it.
            uploads.close();
            end.0 = None;
            Ok(outcome)
        });
        drop(outputs);
        if options.cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled);
        }
        uploads.into_failure().map_or(outcome, Err)
    }

    /// Uploads the other files, the index behind them, and `config.json` last.
    fn publish(&self) -> Result<(), RunError> {
        let mut names = files_in(self.scratch).map_err(RunError::file("list", self.scratch))?;
        names.retain(|name| name != CONFIG && name != INDEX_FILE);
        for name in &names {
            if self.options.cancel.load(Ordering::Relaxed) {
                return Err(RunError::Cancelled);
            }
            self.put(name)?;
        }
        self.journal.check()?;
        // Nothing that loads comes before this.
        for name in [INDEX_FILE, CONFIG] {
            if self.scratch.join(name).exists() {
                self.put(name)?;
            }
        }
        // It is published: a journal that is left is removed by whoever looks next.
        let _ = self.journal.close();
        Ok(())
    }

    /// Uploads a file of the scratch directory.
    fn put(&self, name: &str) -> Result<(), RunError> {
        let path = self.scratch.join(name);
        let size = fs::metadata(&path).map_err(RunError::file("stat", &path))?.len();
        let failed = |error| RunError::store(error, self.store.address());
        let part = part_bytes(size);
        if size <= part {
            let bytes = fs::read(&path).map_err(RunError::file("read", &path))?;
            self.store.put(name, &bytes, self.journal.left_before(name).as_ref()).map_err(failed)?;
            return Ok(());
        }
        let file = fs::File::open(&path).map_err(RunError::file("open", &path))?;
        let id = self.journal.begin(name)?;
        let mut tags = Vec::new();
        for offset in (0..size).step_by(part as usize) {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&file, part.min(size - offset)), &mut bytes)
                .map_err(RunError::file("read", &path))?;
            let part = UploadPart { number: tags.len(), offset, bytes };
            tags.push(self.store.put_part(name, &id, part).map_err(failed)?);
        }
        self.store.complete(name, &id, &tags, size, &[]).map_err(failed)?;
        Ok(())
    }
}

/// Ends the threads that upload at once when it is dropped, unless they are to end by themselves.
struct EndOfUploads<'a>(Option<&'a ShardUploads<'a>>);

impl Drop for EndOfUploads<'_> {
    fn drop(&mut self) {
        if let Some(uploads) = self.0 {
            uploads.end();
        }
    }
}

/// The shards as they lie in the store.
struct ShardsInStore<'a> {
    plan: &'a Plan,
    store: &'a dyn OutputStore,
    shards: Vec<UploadedShard>,
}

impl ShardsInStore<'_> {
    fn find(&self, shard: usize) -> Result<&UploadedShard, RunError> {
        let name = &self.plan.shards[shard].file_name;
        let found = self.shards.iter().find(|shard| shard.finished.shard == *name);
        found.ok_or_else(|| RunError::inconsistent(name, "it was not uploaded"))
    }
}

impl WrittenShards for ShardsInStore<'_> {
    fn path(&self, shard: usize) -> PathBuf {
        Path::new(self.store.address()).join(&self.plan.shards[shard].file_name)
    }

    fn size(&self, shard: usize) -> Result<u64, RunError> {
        // Whether the object has it is looked at before `config.json` comes.
        Ok(self.find(shard)?.finished.size)
    }

    fn read(&self, shard: usize, offset: u64, len: u64) -> Result<Vec<u8>, RunError> {
        let UploadedShard { finished, state, .. } = self.find(shard)?;
        let mut bytes = vec![0; len as usize];
        let read = self.store.read_exact_at(&finished.shard, state, &mut bytes, offset);
        read.map_err(|error| RunError::store(error, self.store.address()))?;
        Ok(bytes)
    }
}

/// Returns the files in a directory and in folders of it, by path with `/` between its parts, in order.
fn files_in(dir: &Path) -> io::Result<Vec<String>> {
    let (mut names, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            // Names come from the plan, and are text.
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() { folders.push(name + "/") } else { names.push(name) }
        }
    }
    names.sort_unstable();
    Ok(names)
}
