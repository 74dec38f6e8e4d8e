//! The making of one part.

use std::path::Path;

use crate::plan::Plan;
use crate::run::block_order;
use crate::run::crew;
use crate::run::deal::deal;
use crate::run::destination::Destination;
use crate::run::error::RunError;
use crate::run::files::sync_dir;
use crate::run::identity::Identity;
use crate::run::observer::{Observer, Phase};
use crate::run::options::RunOptions;
use crate::run::outputs::Outputs;
use crate::run::parts::assembly::FinishedPart;
use crate::run::parts::number::PartNumber;
use crate::run::parts::place::Place;
use crate::run::parts::published::is_published;
use crate::run::parts::record::{FoundRecord, PartRecord};
use crate::run::plan_check;
use crate::run::recorder::Recorder;
use crate::run::report::{Clocks, RunFigures, RunReport};
use crate::run::share::{Share, ToWrite, WrittenBytes, to_write};
use crate::run::state::RunState;
use crate::run::work::Work;

/// Name of a record before it counts.
const UNPUBLISHED: &str = "record";

/// The end of a part that succeeded.
#[derive(Debug)]
pub enum MadePart {
    Made(Box<RunReport>),
    /// It had been made before, or was meanwhile by another machine, and its files are good.
    MadeBefore,
    /// The parts have been joined, and the output bears its name.
    Published,
}

/// Makes one part of what `plan` writes to `output`, and leaves it for [`join`](super::join()).
///
/// It may run at the same time as any other part, and as itself on another machine.
///
/// # Errors
/// The first thing that went wrong. The part is then as it was before.
pub fn make_part(
    plan: &Plan,
    output: &Path,
    part: PartNumber,
    options: &RunOptions<'_>,
    observer: &dyn Observer,
) -> Result<MadePart, RunError> {
    let clocks = Clocks::start();
    observer.phase(Phase::Preparing);
    plan_check::check_slots(plan)?;
    let destination = Destination::of_plan(output, plan)?;
    let identity = Identity::of(plan)?;
    if is_published(plan, &identity, &destination) {
        return Ok(MadePart::Published);
    }
    destination.check_free()?;
    let share = deal(plan, part.of())?.swap_remove(part.index());
    let written = share.written(plan)?;
    let place = Place::of(&destination);
    place.make()?;
    let maker = Maker { plan, identity: &identity, part, share: &share, written: &written, place, options, observer };
    let spoilt = match maker.found()? {
        Some(finished) if !options.restart => {
            if finished.is_good(plan, options.cancel, observer)? {
                return Ok(MadePart::MadeBefore);
            }
            Some(finished.record.attempt)
        }
        // What is there is replaced, whatever it is.
        _ => maker.replaceable()?,
    };
    match maker.make(&clocks, &destination, spoilt.as_deref()) {
        // Whoever else has made the part may have removed what this attempt had come to, and so may the join.
        Err(error) if !matches!(error, RunError::Cancelled | RunError::MadeTwice { .. }) => {
            if is_published(plan, &identity, &destination) {
                return Ok(MadePart::Published);
            }
            match maker.found() {
                Ok(Some(finished)) if Some(&finished.record.attempt) != spoilt.as_ref() => Ok(MadePart::MadeBefore),
                _ => Err(error),
            }
        }
        made => made,
    }
}

/// One attempt at a part.
struct Maker<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    part: PartNumber,
    share: &'a Share,
    written: &'a [WrittenBytes],
    place: Place,
    options: &'a RunOptions<'a>,
    observer: &'a dyn Observer,
}

impl Maker<'_> {
    /// Returns the part as its record tells of it; `None` where there is none.
    ///
    /// # Errors
    /// The record is another job's, or cannot be read; neither is an error where the part is to be made anew.
    fn found(&self) -> Result<Option<FinishedPart>, RunError> {
        let path = self.place.record_of(self.part);
        let record = match FoundRecord::read(&path)? {
            FoundRecord::Record(record) => *record,
            FoundRecord::Nothing => return Ok(None),
            FoundRecord::Unreadable if self.options.restart => return Ok(None),
            FoundRecord::Unreadable => return Err(RunError::Record { path }),
        };
        let differences = record.identity.differences(&self.identity.across_machines());
        if !differences.is_empty() {
            return if self.options.restart {
                Ok(None)
            } else {
                Err(RunError::Different { staging: path, differences })
            };
        }
        let dir = record.dir(&self.place.root).filter(|_| record.is_of(self.plan, self.written));
        let Some(dir) = dir else { return Err(RunError::Record { path }) };
        Ok(Some(FinishedPart { part: self.part, record, written: self.written.to_vec(), dir }))
    }

    /// Returns the name of the attempt whose record is there, of whatever job; an empty one where the record does not
    /// tell, and `None` where there is no record.
    fn replaceable(&self) -> Result<Option<String>, RunError> {
        Ok(match FoundRecord::read(&self.place.record_of(self.part))? {
            FoundRecord::Record(record) => Some(record.attempt),
            FoundRecord::Unreadable => Some(String::new()),
            FoundRecord::Nothing => None,
        })
    }

    /// Makes the part, whose record replaces that of the attempt `spoilt`.
    fn make(&self, clocks: &Clocks, destination: &Destination, spoilt: Option<&str>) -> Result<MadePart, RunError> {
        let Self { plan, options, observer, .. } = *self;
        let attempt = self.place.attempt(&self.part.name())?;
        let recorder = Recorder::new(plan);
        let bytes: u64 = self.written.iter().map(|written| written.bytes.end - written.bytes.start).sum();
        destination.check_room(plan, bytes, None)?;
        let memory = block_order::memory_for_work(plan, options);
        let work = Work::new(plan, self.share, options.threads(), memory)?;
        let kinds = to_write(plan, self.written);
        let shards = kinds.iter().filter(|&&kind| kind != ToWrite::Nothing).count();
        let outputs = Outputs::create(&attempt.dir, &plan.shards, kinds.clone(), options.direct, work.workers)?;

        observer.phase(Phase::Converting);
        observer.started(work.bytes);
        let read_ahead = block_order::read_ahead(plan, &work, options)?;
        let state = RunState::new(plan, &work, &outputs, &recorder, read_ahead, options, observer);
        let outcome = crew::carry_out(state, &|shard| {
            if kinds[shard] == ToWrite::Whole {
                observer.shard_finished(&plan.shards[shard].file_name);
            }
            Ok(())
        })?;
        sync_dir(&attempt.dir)?;

        observer.phase(Phase::Publishing);
        let record = PartRecord::new(plan, self.identity, &attempt.name, self.written, &recorder);
        let path = attempt.dir.join(UNPUBLISHED);
        record.write(&path)?;
        let is_put = spoilt.is_none() && self.place.put_record(self.part, &attempt, &path)?;
        let other = if is_put || spoilt.is_some() { None } else { self.found()? };
        match other {
            Some(other) if other.record.attempt != attempt.name => {
                return match record.difference(&other.record) {
                    None => Ok(MadePart::MadeBefore),
                    Some(tensor) => {
                        Err(RunError::MadeTwice { part: self.part, tensor, path: self.place.record_of(self.part) })
                    }
                };
            }
            // A server that has lost its answer was asked again, and said that the name is taken: by this attempt.
            Some(_) => {}
            None if is_put => {}
            None => self.place.replace_record(self.part, &path)?,
        }
        attempt.keep();
        let figures = RunFigures {
            workers: work.workers,
            bytes_read: outcome.stages.bytes_read,
            bytes_written: bytes,
            output_bytes: bytes,
            shards_resumed: 0,
            shards,
            outcome,
        };
        let report = clocks.report(plan, self.share.inputs.keys().copied(), &recorder, options, figures);
        Ok(MadePart::Made(Box::new(report)))
    }
}
