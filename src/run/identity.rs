//! The identity of a job: everything that decides the bytes of its output.
//!
//! Two runs of one identity write the same bytes, and only they may share shards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::adapter::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
use crate::checkpoint::checksum::hexadecimal;
use crate::checkpoint::source::Stamp;
use crate::checkpoint::text::{exact, shown};
use crate::delta::OpenDelta;
use crate::plan::{Job, Plan};
use crate::run::error::RunError;

/// Number of differences that a message lists.
const MAX_DIFFERENCES: usize = 8;

/// The tool, the recipe, the schemes' versions, the plan and the input files.
//
// Thread count, memory and instruction set are left out, since they change no byte: an interrupted run may be resumed
// with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    tool: String,
    /// SHA-256 of the recipe's text.
    recipe: String,
    /// The version of each scheme that writes a tensor, by name.
    //
    // Without it a shard of a scheme whose arithmetic has changed, under the same name and options, would be resumed.
    schemes: BTreeMap<String, u32>,
    /// SHA-256 of the layouts, the action per tensor with its scheme's options, and the documents.
    plan: String,
    /// The commit of a source on the hub, or what stands for one elsewhere, in place of the times and inodes that it does not
    /// have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// SHA-256 of the table of contents of a delta that is put on, in place of a recipe and a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delta: Option<String>,
    inputs: Vec<InputIdentity>,
    /// The files of adapters that are merged, by adapter and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<InputIdentity>,
}

/// An input file in the state in which the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputIdentity {
    pub(super) name: String,
    pub(super) size: u64,
    /// Time of the last change in seconds and nanoseconds.
    modified: (i64, i64),
    inode: u64,
    /// SHA-256 of a shard's header; `None` for other files.
    pub(super) header: Option<String>,
}

impl Identity {
    /// Returns the identity of the plan's job.
    ///
    /// # Errors
    /// The source changed since it was planned for, or cannot be read.
    pub(super) fn of(plan: &Plan) -> Result<Self, RunError> {
        let mut inputs = Vec::new();
        for shard in &plan.checkpoint.shards {
            // Unchanged, its header is the one that was planned for. Of the header alone: a digest of all bytes would read
            // the source once more. Size, time and inode stand for the rest, or the commit.
            shard.open()?;
            inputs.push(InputIdentity::new(&shard.name, shard.stamp, Some(shard.header.clone())));
        }
        for file in &plan.checkpoint.side_files {
            inputs.push(InputIdentity::new(&file.name, file.stamp, None));
        }
        let mut adapters = Vec::new();
        for (number, adapter) in plan.checkpoint.adapters.iter().enumerate() {
            adapter.weights.open()?;
            let name = |file: &str| format!("{}/{file}", number + 1);
            adapters.push(InputIdentity::new(&name(ADAPTER_CONFIG), adapter.config, None));
            let header = Some(adapter.weights.header.clone());
            adapters.push(InputIdentity::new(&name(ADAPTER_WEIGHTS), adapter.weights.stamp, header));
        }
        Ok(Self {
            adapters,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: sha256(plan.recipe_text().as_bytes()),
            schemes: scheme_versions(plan),
            plan: plan_digest(plan),
            commit: plan.checkpoint.repository.as_ref().map(|repository| repository.state().to_owned()),
            delta: None,
            inputs,
        })
    }

    /// Returns the identity of the job that puts `delta` on `base`.
    pub(super) fn of_delta(delta: &OpenDelta, base: &Checkpoint) -> Self {
        let shards = base.shards.iter().map(|shard| (&shard.name, shard.stamp, Some(shard.header.clone())));
        let side_files = base.side_files.iter().map(|file| (&file.name, file.stamp, None));
        let inputs = shards.chain(side_files).map(|(name, stamp, header)| InputIdentity::new(name, stamp, header));
        Self {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: String::new(),
            schemes: BTreeMap::new(),
            plan: String::new(),
            commit: None,
            delta: Some(delta.digest.clone()),
            inputs: inputs.collect(),
            adapters: Vec::new(),
        }
    }

    /// Returns the identity as it is on every machine that sees the same files: inodes are left out.
    //
    // The time of a file is that of its file system, whatever the clocks of the machines say.
    pub(super) fn across_machines(&self) -> Self {
        let mut identity = self.clone();
        identity.inputs.iter_mut().chain(&mut identity.adapters).for_each(|input| input.inode = 0);
        identity
    }

    /// Returns the versions of the schemes, by name.
    pub(super) fn schemes(&self) -> &BTreeMap<String, u32> {
        &self.schemes
    }

    /// Returns the input files: shards, then side files.
    pub(super) fn inputs(&self) -> &[InputIdentity] {
        &self.inputs
    }

    /// Describes the differences of `now` for a message; none when both would write the same bytes.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.tool != now.tool {
            found.push(format!("version {} of this program, now {}", shown(&self.tool), shown(&now.tool)));
        }
        if self.recipe != now.recipe {
            found.push("the recipe".to_owned());
        }
        if self.delta != now.delta {
            found.push("the delta".to_owned());
        }
        // A scheme that only one of the two uses shows in the recipe or the plan.
        for (name, now) in &now.schemes {
            if let Some(past) = self.schemes.get(name).filter(|past| *past != now) {
                found.push(format!("version {past} of the scheme {}, now {now}", shown(name)));
            }
        }
        match (&self.commit, &now.commit) {
            (Some(past), Some(now)) if past != now => found.push(format!("commit {}, now {}", shown(past), shown(now))),
            (Some(_), None) => found.push("a source elsewhere, now one on a disk".to_owned()),
            (None, Some(_)) => found.push("a source on a disk, now one elsewhere".to_owned()),
            _ => {}
        }
        found.extend(file_differences("input", &self.inputs, &now.inputs));
        found.extend(file_differences("file of an adapter", &self.adapters, &now.adapters));
        if found.is_empty() && self.plan != now.plan {
            found.push("the plan: options of the command, or config.json".to_owned());
        }
        // The order of the inputs follows from the checkpoint; nothing but an edited journal has another one.
        if found.is_empty() && self != now {
            found.push("the order of the inputs".to_owned());
        }
        let more = found.len().saturating_sub(MAX_DIFFERENCES);
        found.truncate(MAX_DIFFERENCES);
        if more > 0 {
            found.push(format!("{more} more"));
        }
        found
    }
}

impl InputIdentity {
    fn new(name: &str, stamp: Stamp, header: Option<String>) -> Self {
        Self { name: name.to_owned(), size: stamp.size, modified: stamp.modified, inode: stamp.inode, header }
    }

    /// Describes how the file, which is `what`, differs from what it is now.
    fn difference(&self, what: &str, now: &Self) -> Option<String> {
        let how = if self.size != now.size {
            format!("had {}, now {}", exact(self.size), exact(now.size))
        } else if self.header != now.header {
            "has another header".to_owned()
        } else if self.modified != now.modified {
            "was written to since".to_owned()
        } else if self.inode != now.inode {
            "was replaced by another file".to_owned()
        } else {
            return None;
        };
        Some(format!("the {what} {} {how}", shown(&self.name)))
    }
}

/// Describes how files, each of which is `what`, differ from those that there are now.
fn file_differences(what: &str, past: &[InputIdentity], now: &[InputIdentity]) -> Vec<String> {
    let mut found = Vec::new();
    for file in now {
        match past.iter().find(|past| past.name == file.name) {
            None => found.push(format!("the {what} {} is new", shown(&file.name))),
            Some(past) => found.extend(past.difference(what, file)),
        }
    }
    for past in past {
        if !now.iter().any(|file| file.name == past.name) {
            found.push(format!("the {what} {} is gone", shown(&past.name)));
        }
    }
    found
}

/// Returns the SHA-256 of `bytes` as hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::digest(bytes).as_slice())
}

/// Returns the version of each scheme that quantizes or decodes a tensor of the plan, by name.
fn scheme_versions(plan: &Plan) -> BTreeMap<String, u32> {
    let used = (0..plan.jobs.len()).filter_map(|tensor| plan.registration(tensor));
    used.map(|registration| (registration.name.to_owned(), registration.version)).collect()
}

/// Returns the SHA-256 of everything in the plan that decides a byte of the output.
//
// Of the plan rather than of its causes alone: whatever the command line, config.json or the planner of another build
// change in the output shows here.
fn plan_digest(plan: &Plan) -> String {
    let mut digest = FieldDigest(Sha256::new());
    digest.field(if plan.keeps_non_finite() { b"Keep" } else { b"Error" });
    for shard in &plan.shards {
        digest.field(shard.file_name.as_bytes());
        digest.field(&shard.header);
        digest.number(shard.size);
    }
    for (index, (input, job)) in plan.inputs.iter().zip(&plan.jobs).enumerate() {
        digest.field(input.name.as_bytes());
        digest.field(format!("{:?} {:?} {:?}", input.dtype, input.shape, input.data).as_bytes());
        if !input.merged.is_empty() {
            digest.field(format!("{:?}", input.merged).as_bytes());
        }
        digest.number(input.len);
        match job {
            Job::Copy { to } => {
                digest.field(b"copy");
                [to.shard, to.tensor].into_iter().for_each(|number| digest.number(number as u64));
            }
            Job::Dequantize { to } => {
                digest.field(b"dequantize");
                [to.shard, to.tensor].into_iter().for_each(|number| digest.number(number as u64));
            }
            Job::PassThrough { to, scales } => {
                digest.field(b"pass through");
                digest.field(format!("{scales:?}").as_bytes());
                to.iter().flat_map(|slot| [slot.shard, slot.tensor]).for_each(|number| digest.number(number as u64));
            }
            Job::Quantize { rule, outputs } => {
                digest.field(plan.registration(index).map_or("", |registration| registration.name).as_bytes());
                if let Some(scheme) = plan.scheme(*rule) {
                    let options = (scheme.weights(), scheme.input_activations(), scheme.storage_format());
                    digest.field(format!("{options:?} {:?}", scheme.amax_scope()).as_bytes());
                }
                for (spec, slot) in outputs {
                    digest.field(format!("{spec:?}").as_bytes());
                    [slot.shard, slot.tensor].into_iter().for_each(|number| digest.number(number as u64));
                }
            }
        }
    }
    for (name, bytes) in &plan.documents {
        digest.field(name.as_bytes());
        digest.field(bytes);
    }
    hexadecimal(digest.0.finalize().as_slice())
}

/// A SHA-256 of fields.
//
// Each field is preceded by its length: a name that is longer and a header that is shorter by the same bytes would
// otherwise have the same digest.
struct FieldDigest(Sha256);

impl FieldDigest {
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }
}
