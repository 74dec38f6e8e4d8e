//! The events of a command, for programs that show its progress: a line of JSON each.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value;

use super::pace::Pace;

/// The least time between two events of the progress of one work.
const PACE: Duration = Duration::from_millis(200);

/// The beginning of a file of events.
const BEGINNING: &[u8] = br#"{"event":"started","#;

/// A line of the events: an object with `event`.
///
/// The first is `started`, the last `ended`. Between them, `work` begins a piece of work, and each `progress` belongs to the
/// `work` before it; `done_bytes` never falls, and the last `progress` of a work that succeeds is of all its bytes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Event<'a> {
    /// The command begins.
    Started {
        /// The version of the events and outputs: it rises when a field goes or changes its meaning.
        schema_version: u32,
        /// The command's name: `apply`.
        command: &'a str,
    },
    /// A run enters a phase.
    Phase { phase: PhaseName },
    /// A run resumes an earlier one.
    Resumed {
        /// The shards that are finished already.
        resumed: u64,
        shards: u64,
    },
    /// Work begins that will deal with so many bytes.
    Work {
        /// The work, such as `converting`, `comparing with the source` or `measuring what each scheme loses`.
        what: &'a str,
        total_bytes: u64,
    },
    /// So much of the work is done.
    Progress {
        done_bytes: u64,
        total_bytes: u64,
        /// The mean since the work began; null before anything is done.
        bytes_per_second: Option<u64>,
        /// At that rate; null before anything is done.
        seconds_left: Option<f64>,
        /// The tensor or file that the work came to last; null where the work does not say.
        at: Option<&'a str>,
    },
    /// A shard of the output is complete and durable: a later run need not write it again.
    Shard { file: &'a str },
    /// The command ends.
    Ended {
        /// The exit code of the process.
        exit_code: u8,
        /// The message of what failed; null where nothing did.
        error: Option<&'a str>,
    },
}

/// The phases of a run.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum PhaseName {
    /// The destination is checked, and what an earlier run left.
    Preparing,
    /// Tensors are read, converted and written.
    Converting,
    /// Side files, index and config are written, and the output gets its name.
    Publishing,
}

/// The place that events are written to.
#[derive(Debug)]
pub(super) struct EventLog {
    lines: Mutex<EventLines>,
}

#[derive(Debug)]
struct EventLines {
    /// `None` once a reader has gone away, or the last event is written.
    to: Option<EventSink>,
    /// The time of the last progress of the work under way.
    told: Option<Instant>,
    /// Set once that progress was of all bytes.
    is_at_end: bool,
}

#[derive(Debug)]
enum EventSink {
    Stderr,
    File(File),
}

impl EventLog {
    /// Opens the file, or standard error for `-`. Events that are there are replaced; a named pipe waits for its reader.
    ///
    /// # Errors
    /// The file cannot be written, or holds something else.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let to = if path == Path::new("-") { EventSink::Stderr } else { EventSink::File(opened(path)?) };
        Ok(Self { lines: Mutex::new(EventLines { to: Some(to), told: None, is_at_end: false }) })
    }

    /// Reports whether people would read these lines on standard error.
    pub(super) fn is_on_stderr(&self) -> bool {
        matches!(self.lines().to, Some(EventSink::Stderr))
    }

    /// Writes an event. Events are whole lines, in the order in which this is called.
    pub(super) fn write(&self, event: &Event<'_>) {
        let mut lines = self.lines();
        if matches!(event, Event::Work { .. }) {
            (lines.told, lines.is_at_end) = (None, false);
        }
        lines.write(event);
        if matches!(event, Event::Ended { .. }) {
            lines.to = None;
        }
    }

    /// Writes how far the work is, if the last time is long enough ago or all of `total` is done.
    ///
    /// The pace is asked for under the lock, so that of several workers none reports less than another before it.
    pub(super) fn progress(&self, pace: impl FnOnce() -> Pace, total: u64, at: &Mutex<String>) {
        let mut lines = self.lines();
        let pace = pace();
        let is_at_end = pace.done >= total;
        if lines.is_at_end || !is_at_end && lines.told.is_some_and(|told| told.elapsed() < PACE) {
            return;
        }
        lines.told = Some(Instant::now());
        lines.is_at_end = is_at_end;
        let at = at.lock().unwrap_or_else(PoisonError::into_inner);
        lines.write(&Event::Progress {
            done_bytes: pace.done,
            total_bytes: pace.total,
            bytes_per_second: pace.bytes_per_second().map(|speed| speed as u64),
            seconds_left: pace.left().map(|left| left.as_secs_f64()),
            at: Some(at.as_str()).filter(|at| !at.is_empty()),
        });
    }

    fn lines(&self) -> MutexGuard<'_, EventLines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLines {
    fn write(&mut self, event: &Event<'_>) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let written = match &mut self.to {
            None => return,
            Some(EventSink::Stderr) => io::stderr().lock().write_all(&line),
            Some(EventSink::File(file)) => file.write_all(&line),
        };
        // A reader that went away is no error: the command's work is another's.
        if written.is_err() {
            self.to = None;
        }
    }
}

/// Opens the file to write events from its beginning.
//
// A mistyped `--events recipe.yaml` must not cost a recipe.
fn opened(path: &Path) -> io::Result<File> {
    let has_content = path.metadata().is_ok_and(|found| found.is_file() && found.len() > 0);
    if !has_content {
        return OpenOptions::new().write(true).create(true).truncate(true).open(path);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut head = [0; BEGINNING.len()];
    if file.read_exact(&mut head).is_err() || head != *BEGINNING {
        return Err(io::Error::other("it holds something else; name a file that does not exist yet"));
    }
    file.set_len(0)?;
    file.rewind()?;
    Ok(file)
}

/// The JSON Schema of a line.
pub(super) fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Event<'_>>().to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "A line of `qwen-fp8 --events`".into());
    }
    schema
}
