//! The join: all parts held against the plan, put together, and published.

use std::path::Path;

use crate::plan::Plan;
use crate::run::completion::Completion;
use crate::run::crew::Outcome;
use crate::run::deal::deal;
use crate::run::destination::Destination;
use crate::run::error::RunError;
use crate::run::identity::Identity;
use crate::run::manifest_size;
use crate::run::observer::{Observer, Phase};
use crate::run::options::RunOptions;
use crate::run::parts::assembly::{FinishedPart, assemble};
use crate::run::parts::number::PartNumber;
use crate::run::parts::place::Place;
use crate::run::parts::published::is_published;
use crate::run::parts::record::{FoundRecord, PartRecord};
use crate::run::plan_check;
use crate::run::publishing::publish;
use crate::run::recorder::Recorder;
use crate::run::report::{Clocks, RunFigures, RunReport};
use crate::run::self_check::ShardsInDirectory;
use crate::run::share::{ToWrite, WrittenBytes, to_write};

/// Number of parts that a message names.
const MAX_NAMED: usize = 8;

/// The end of a join that succeeded.
#[derive(Debug)]
pub enum Joined {
    Joined(Box<RunReport>),
    /// The output had been published before.
    Published,
}

/// Joins the parts of what `plan` writes and publishes the result as the directory `output`: the same bytes as those
/// of [`run`](crate::run::run).
///
/// # Errors
/// [`RunError::Unjoinable`] names the parts that are missing, another job's, or spoilt. Nothing is then published.
pub fn join(plan: &Plan, output: &Path, options: &RunOptions<'_>, observer: &dyn Observer) -> Result<Joined, RunError> {
    let clocks = Clocks::start();
    observer.phase(Phase::Preparing);
    plan_check::check_slots(plan)?;
    let destination = Destination::of_plan(output, plan)?;
    let identity = Identity::of(plan)?;
    let place = Place::of(&destination);
    // What a join leaves that ends right after it has published, or that publishes while another one is at work here.
    let published = || {
        if place.is_there().unwrap_or(false) {
            place.remove();
        }
        Joined::Published
    };
    if is_published(plan, &identity, &destination) {
        return Ok(published());
    }
    destination.check_free()?;
    let joiner = Joiner { plan, identity: &identity, destination: &destination, place: &place, options, observer };
    match joiner.join(&clocks) {
        // Another join was first.
        Err(error) if !matches!(error, RunError::Cancelled) && is_published(plan, &identity, &destination) => {
            drop(error);
            Ok(published())
        }
        joined => joined.map(|report| Joined::Joined(Box::new(report))),
    }
}

struct Joiner<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    destination: &'a Destination,
    place: &'a Place,
    options: &'a RunOptions<'a>,
    observer: &'a dyn Observer,
}

impl Joiner<'_> {
    fn join(&self, clocks: &Clocks) -> Result<RunReport, RunError> {
        let Self { plan, identity, options, observer, .. } = *self;
        if !self.place.is_there()? {
            return Err(self.unjoinable(vec!["no part of it was made".to_owned()]));
        }
        // Made before the parts are listed: a client of a network file system that has changed a directory asks its
        // server what is in it, and does not answer from memory.
        let attempt = self.place.attempt("join")?;
        let parts = self.parts()?;
        let copied: u64 = self.cut_bytes(&parts);
        let small = plan.checkpoint.side_files.iter().map(|file| file.stamp.size).sum::<u64>()
            + plan.documents.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        let manifest = options.manifest.then(|| manifest_size::size(plan, identity, options.sha256).bytes);
        self.destination.check_room(plan, copied + small, manifest)?;

        observer.phase(Phase::Converting);
        let threads = options.threads();
        let assembled = assemble(plan, &parts, &attempt.dir, threads, options.cancel, observer)?;
        let copied = assembled.map_err(|spoilt| {
            self.unjoinable(spoilt.iter().map(|(part, what)| format!("part {part} is spoilt ({what})")).collect())
        })?;
        let recorder = Recorder::new(plan);
        for FinishedPart { record, written, .. } in &parts {
            let sums = written.iter().zip(&record.ranges);
            sums.for_each(|(written, range)| recorder.checksums.add_contribution(written.slot, range.crc64));
            recorder.non_finite.add_all(plan, &record.non_finite);
            recorder.degenerate_scales.add_all(plan, &record.degenerate_scales);
            recorder.lossy_granules.add_all(plan, &record.lossy_granules);
        }
        let completion = Completion {
            plan,
            identity,
            recorder: &recorder,
            options,
            observer,
            workers: threads,
            threads_of_check: 1,
        };
        let shards = ShardsInDirectory { dir: &attempt.dir, layouts: &plan.shards };
        let output_bytes = completion.carry_out(&shards, &attempt.dir, &self.destination.path)?;
        publish(&attempt.dir, self.destination, || self.place.check_alive())?;
        // Nothing of that name is there to be removed any more.
        attempt.keep();
        self.place.remove();
        let data = plan.shards.iter().map(|shard| shard.data_len()).sum();
        let figures = RunFigures {
            outcome: Outcome::default(),
            workers: threads,
            bytes_read: data,
            bytes_written: copied + output_bytes - plan.output_bytes(),
            output_bytes,
            shards_resumed: 0,
            shards: plan.shards.len(),
        };
        Ok(clocks.report(plan, 0..plan.jobs.len(), &recorder, options, figures))
    }

    /// Returns the bytes of the shards that several parts have pieces of.
    fn cut_bytes(&self, parts: &[FinishedPart]) -> u64 {
        let shards = &self.plan.shards;
        let mut whole = vec![false; shards.len()];
        for part in parts {
            for (shard, kind) in to_write(self.plan, &part.written).into_iter().enumerate() {
                whole[shard] |= kind == ToWrite::Whole;
            }
        }
        shards.iter().zip(whole).filter(|(_, whole)| !whole).map(|(shard, _)| shard.size).sum()
    }

    /// Returns all parts.
    ///
    /// # Errors
    /// [`RunError::Unjoinable`].
    fn parts(&self) -> Result<Vec<FinishedPart>, RunError> {
        let recorded = self.place.recorded()?;
        let mut numbers: Vec<usize> = recorded.iter().map(|part| part.of()).collect();
        numbers.dedup();
        let mut found = Vec::new();
        for &of in &numbers {
            let mut parts = Vec::with_capacity(of);
            let before = found.len();
            for (part, share) in PartNumber::all(of).zip(deal(self.plan, of)?) {
                match self.part(part, share.written(self.plan)?) {
                    Ok(part) => parts.push(part),
                    Err(why) => found.push(format!("part {part} {why}")),
                }
            }
            // Parts of another number may lie there too, of a run that was given up.
            if found.len() == before {
                return Ok(parts);
            }
        }
        if numbers.is_empty() {
            found.push("no part of it was made".to_owned());
        }
        Err(self.unjoinable(found))
    }

    /// Returns a part, or why it cannot be joined.
    fn part(&self, part: PartNumber, written: Vec<WrittenBytes>) -> Result<FinishedPart, String> {
        let record: PartRecord = match FoundRecord::read(&self.place.record_of(part)) {
            Ok(FoundRecord::Record(record)) => *record,
            Ok(FoundRecord::Nothing) => return Err("was not made".to_owned()),
            Ok(FoundRecord::Unreadable) => return Err("has a record that cannot be read".to_owned()),
            Err(error) => return Err(format!("has a record that cannot be read: {error}")),
        };
        let differences = record.identity.differences(&self.identity.across_machines());
        if !differences.is_empty() {
            return Err(format!("was made by another job, which differs in: {}", differences.join(", ")));
        }
        let dir = record.dir(&self.place.root).filter(|_| record.is_of(self.plan, &written));
        let dir = dir.ok_or("has a record of other tensors")?;
        Ok(FinishedPart { part, record, written, dir })
    }

    fn unjoinable(&self, mut found: Vec<String>) -> RunError {
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        if more > 0 {
            found.push(format!("{more} more"));
        }
        RunError::Unjoinable { output: self.destination.path.clone(), found }
    }
}
