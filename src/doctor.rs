//! Doctor: the checklist of a machine, a source and an output, before a run; each line is a fact, a verdict and advice.
//!
//! Facts are read in one place of each file and judged in another, so that a made-up `/proc` or the words of another
//! machine's tools can be judged as well.

mod ask;
mod cgroup;
mod checklist;
mod gpu;
mod machine;
mod mounts;
mod package_version;
mod place;
mod python;
mod reading;
mod servers;

pub use ask::{ProgramAnswer, ask, find_program};
pub use checklist::{Checklist, ChecklistLine, Judgement};
pub use gpu::{FoundGpu, GpuFacts};
pub use machine::{MachineFacts, MemoryFacts, Wsl};
pub use mounts::{FileSystemClass, Mount};
pub use package_version::PackageVersion;
pub use place::{OutputPlace, source_place};
pub use python::{PythonEnvironment, PythonFacts};
pub use reading::{PageCache, ReadSample};
pub use servers::server_lines;
