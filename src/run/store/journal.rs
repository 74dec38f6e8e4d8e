//! The journal of a run whose output is a store: an object under the output's prefix, which says whose the prefix is.
//!
//! Every change replaces it on condition that it is the one that this run has written last. A store has no lock that a dead
//! run would leave behind; this one passes to whoever wrote the journal last, and the run before finds that out with
//! its next change, before it publishes anything.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::store::{ObjectState, OutputStore, StoredObject};
use crate::run::error::RunError;
use crate::run::identity::Identity;
use crate::run::journal::{FinishedShard, content, line};

/// Name of the journal below the output's prefix. A prefix that holds one was begun by this program.
pub(super) const JOURNAL: &str = "qwen-fp8-journal";

/// The object whose presence makes a checkpoint loadable.
pub(super) const CONFIG: &str = "config.json";

/// A line of the journal behind the first one, which is the identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum JournalLine {
    /// A random name of the run that has written it, by which no two runs write the same bytes.
    Run(String),
    Upload(UploadBegun),
    Shard(Box<UploadedShard>),
}

/// An upload that was begun, and has not become an object yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadBegun {
    object: String,
    id: String,
}

/// A shard that is an object of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadedShard {
    pub(super) finished: FinishedShard,
    pub(super) state: ObjectState,
    /// The checksum of each tensor, which a later run does not compute again.
    pub(super) tensors: Vec<Crc64>,
}

/// What an earlier run has left.
struct PastJournal {
    identity: Option<Identity>,
    uploads: Vec<UploadBegun>,
    shards: Vec<UploadedShard>,
}

/// The journal of the run in progress.
pub(super) struct StoreJournal<'a> {
    store: &'a dyn OutputStore,
    first: String,
    content: Mutex<JournalContent>,
}

struct JournalContent {
    /// The object as this run has written it last.
    object: ObjectState,
    uploads: Vec<UploadBegun>,
    shards: Vec<UploadedShard>,
    /// What an earlier run of the job has put there beside shards.
    others: Vec<StoredObject>,
}

impl<'a> StoreJournal<'a> {
    /// Makes the prefix that of this run, and returns its journal with the shards that an earlier run of the same job has
    /// finished and that are still there. Other shards are removed and, of another job, everything else too.
    ///
    /// # Errors
    /// Something lies there that is not of such a run, or another run is quicker; the prefix is then as it was.
    pub(super) fn claim(store: &'a dyn OutputStore, identity: &Identity, restart: bool) -> Result<Self, RunError> {
        let failed = |error| RunError::store(error, store.address());
        let objects = store.list().map_err(failed)?;
        let run = JournalLine::Run(format!("{:016x}", RandomState::new().hash_one(std::process::id())));
        let first = line(identity) + &line(&run);
        let Some((text, before)) = store.read(JOURNAL).map_err(failed)? else {
            if let Some(found) = objects.first() {
                let (address, found) = (store.address().to_owned(), found.name.clone());
                return Err(RunError::StoreOccupied { address, found });
            }
            let object = store.put(JOURNAL, first.as_bytes(), None).map_err(failed)?;
            let content = JournalContent { object, uploads: Vec::new(), shards: Vec::new(), others: Vec::new() };
            let journal = Self { store, first, content: Mutex::new(content) };
            journal.check_conditions()?;
            return Ok(journal);
        };
        if let Some(config) = objects.iter().find(|object| object.name == CONFIG) {
            // Published by a run that was killed right behind it.
            store.remove(JOURNAL).map_err(failed)?;
            let (address, found) = (store.address().to_owned(), config.name.clone());
            return Err(RunError::StoreOccupied { address, found });
        }
        let past = PastJournal::read(&text);
        let (mut shards, mut others) = (Vec::new(), objects);
        others.retain(|object| object.name != JOURNAL);
        if !restart {
            let differences = match &past.identity {
                Some(past) => past.differences(identity),
                None => vec!["the version of this program, whose journal this one cannot read".to_owned()],
            };
            if !differences.is_empty() {
                let staging = format!("{}/{JOURNAL}", store.address()).into();
                return Err(RunError::Different { staging, differences });
            }
            shards = past.shards;
            shards.retain(|shard| others.iter().any(|object| shard.is(object)));
            others.retain(|object| !shards.iter().any(|shard| shard.is(object)));
        }
        let content = JournalContent { object: before, uploads: past.uploads, shards, others };
        let journal = Self { store, first, content: Mutex::new(content) };
        journal.hold()?;
        journal.tidy_up(restart)?;
        Ok(journal)
    }

    /// Returns the shards that are finished.
    pub(super) fn shards(&self) -> Vec<UploadedShard> {
        self.lock().shards.clone()
    }

    /// Begins an upload, and notes it before a byte of it is sent.
    ///
    /// # Errors
    /// The store does not take it, or the prefix is another run's by now.
    pub(super) fn begin(&self, object: &str) -> Result<String, RunError> {
        let id = self.store.begin(object).map_err(|error| RunError::store(error, self.store.address()))?;
        let mut content = self.lock();
        content.uploads.push(UploadBegun { object: object.to_owned(), id: id.clone() });
        self.write(&mut content)?;
        Ok(id)
    }

    /// Enters a finished shard.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn add(&self, shard: UploadedShard) -> Result<(), RunError> {
        let mut content = self.lock();
        content.uploads.retain(|upload| upload.object != shard.finished.shard);
        content.shards.push(shard);
        self.write(&mut content)
    }

    /// Checks that the prefix is still this run's.
    ///
    /// # Errors
    /// It is another run's, or the store does not tell.
    pub(super) fn hold(&self) -> Result<(), RunError> {
        self.write(&mut self.lock())
    }

    /// Checks that the prefix is still this run's, and that its shards are those that it has uploaded.
    ///
    /// # Errors
    /// They are not.
    pub(super) fn check(&self) -> Result<(), RunError> {
        let mut content = self.lock();
        self.write(&mut content)?;
        let objects = self.store.list().map_err(|error| RunError::store(error, self.store.address()))?;
        if content.shards.iter().all(|shard| objects.iter().any(|object| shard.is(object))) {
            return Ok(());
        }
        Err(RunError::StoreTaken { address: self.store.address().to_owned() })
    }

    /// Returns the state of an object that an earlier run of the job has put there, which this one may put its own over.
    pub(super) fn left_before(&self, name: &str) -> Option<ObjectState> {
        self.lock().others.iter().find(|object| object.name == name).map(|object| object.state.clone())
    }

    /// Gives up what is not finished and, unless finished shards are worth keeping, removes those and the journal too. Returns
    /// the number of shards that are left. What cannot be removed is for the next run.
    pub(super) fn leave(&self, keeps_shards: bool) -> usize {
        let mut content = self.lock();
        let uploads = std::mem::take(&mut content.uploads);
        let mut left = Vec::new();
        for upload in uploads {
            if self.store.abandon(&upload.object, &upload.id).is_err() {
                left.push(upload);
            }
        }
        content.uploads = left;
        // Not a byte more where the prefix is another run's by now.
        if self.write(&mut content).is_err() {
            return 0;
        }
        if keeps_shards && !content.shards.is_empty() {
            return content.shards.len();
        }
        // What is ours and nothing else: somebody else may have put an object there.
        let shards = content.shards.iter().map(|shard| shard.finished.shard.as_str());
        let ours = shards.chain(content.others.iter().map(|object| object.name.as_str()));
        let removed: Vec<_> = ours.map(|name| self.store.remove(name)).collect();
        if content.uploads.is_empty() && removed.iter().all(Result::is_ok) {
            let _ = self.store.remove(JOURNAL);
        }
        0
    }

    /// Removes the journal of an output that is published.
    ///
    /// # Errors
    /// The store does not let it.
    pub(super) fn close(&self) -> Result<(), RunError> {
        self.store.remove(JOURNAL).map_err(|error| RunError::store(error, self.store.address()))
    }

    /// Removes shards that are not finished, or with `all` everything that is left of earlier runs, and uploads that nobody is
    /// to go on with.
    //
    // The other files of the same job stay: the run that has put them may be alive, and about to put `config.json`. Where it
    // does, what it publishes is whole.
    fn tidy_up(&self, all: bool) -> Result<(), RunError> {
        let failed = |error| RunError::store(error, self.store.address());
        let mut content = self.lock();
        let begun = std::mem::take(&mut content.uploads);
        let begun = begun.into_iter().map(|upload| (upload.object, upload.id));
        // Those that were begun and not noted, too, where the store tells.
        for (object, id) in begun.chain(self.store.uploads().map_err(failed)?) {
            self.store.abandon(&object, &id).map_err(failed)?;
        }
        let is_kept = |object: &StoredObject| !all && !object.name.ends_with(".safetensors");
        for object in content.others.iter().filter(|object| !is_kept(object)) {
            self.store.remove(&object.name).map_err(failed)?;
        }
        content.others.retain(is_kept);
        self.write(&mut content)
    }

    /// Checks that the store holds to conditions, without which two runs could mix: it refuses to put a second journal.
    fn check_conditions(&self) -> Result<(), RunError> {
        let address = self.store.address();
        match self.store.put(JOURNAL, b"", None) {
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(RunError::store(error, address)),
            Ok(_) => {
                self.close()?;
                Err(RunError::StoreUnconditional { address: address.to_owned() })
            }
        }
    }

    /// Puts the journal in place of the one that this run has written before.
    fn write(&self, content: &mut JournalContent) -> Result<(), RunError> {
        let mut text = self.first.clone();
        let uploads = content.uploads.iter().cloned().map(JournalLine::Upload);
        let shards = content.shards.iter().cloned().map(|shard| JournalLine::Shard(Box::new(shard)));
        uploads.chain(shards).for_each(|entry| text.push_str(&line(&entry)));
        let put = self.store.put(JOURNAL, text.as_bytes(), Some(&content.object));
        content.object = put.map_err(|error| RunError::store(error, self.store.address()))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, JournalContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadedShard {
    /// Returns whether this is the object that the shard became.
    fn is(&self, object: &StoredObject) -> bool {
        object.name == self.finished.shard && object.size == self.finished.size && object.state.tag == self.state.tag
    }
}

impl PastJournal {
    /// Reads a journal, as far as its checksums hold.
    fn read(text: &[u8]) -> Self {
        let mut lines = text.split_inclusive(|&byte| byte == b'\n').map_while(content);
        let identity = lines.next().and_then(|first| serde_json::from_str(first).ok());
        let mut past = Self { identity, uploads: Vec::new(), shards: Vec::new() };
        for line in lines.map_while(|line| serde_json::from_str(line).ok()) {
            match line {
                JournalLine::Run(_) => {}
                JournalLine::Upload(upload) => past.uploads.push(upload),
                JournalLine::Shard(shard) => past.shards.push(*shard),
            }
        }
        past
    }
}
