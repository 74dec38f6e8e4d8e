//! The machine: instruction set, processors, memory and system.

use std::fs;
use std::path::Path;

use super::cgroup;
use super::checklist::ChecklistLine;
use crate::checkpoint::text::{count, memory};

/// The processors, the memory and the system that this process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineFacts {
    /// The instruction set that kernels take.
    pub simd: &'static str,
    /// Threads that may run at once: what affinity and quota leave.
    pub threads: usize,
    /// Processors that are there; `None` where the system does not say.
    pub processors: Option<usize>,
    pub memory: Option<MemoryFacts>,
    /// The kernel's release, such as `6.6.87.2-microsoft-standard-WSL2`.
    pub kernel: Option<String>,
}

/// The memory of the machine, and what of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFacts {
    pub total: u64,
    pub available: u64,
    /// The bytes that a container or a job may still take; `None` without a limit.
    pub left_by_limit: Option<u64>,
}

/// A version of the Windows Subsystem for Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wsl {
    One,
    Two,
}

impl MachineFacts {
    /// Reads what the system says below `root`, which is `/`.
    pub fn read(root: &Path, simd: &'static str, threads: usize) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let online = text("sys/devices/system/cpu/online");
        Self {
            simd,
            threads,
            processors: online.and_then(|ranges| number_in(ranges.trim())),
            memory: text("proc/meminfo").and_then(|meminfo| MemoryFacts::parse(&meminfo, cgroup::memory_left(root))),
            kernel: text("proc/sys/kernel/osrelease").map(|release| release.trim().to_owned()),
        }
    }

    /// The version of WSL that the kernel is of.
    pub fn wsl(&self) -> Option<Wsl> {
        let kernel = self.kernel.as_ref()?.to_ascii_lowercase();
        match kernel.contains("microsoft") {
            true if kernel.contains("wsl2") || kernel.contains("microsoft-standard") => Some(Wsl::Two),
            true => Some(Wsl::One),
            false => None,
        }
    }

    /// Judges the machine for a run that takes so many bytes of memory.
    pub fn lines(&self, needed: u64) -> Vec<ChecklistLine> {
        [Some(self.instruction_set()), Some(self.threads_line()), self.memory_line(needed), self.system_line()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn instruction_set(&self) -> ChecklistLine {
        const SUBJECT: &str = "processor";
        let fact = format!("instruction set {}", self.simd);
        match self.simd {
            "portable" => ChecklistLine::note(
                SUBJECT,
                format!("{fact}: the processor has none of those that kernels are made for"),
                "nothing, if the disk is slower; a processor with AVX2 or NEON converts several times as fast",
            ),
            _ => ChecklistLine::ok(SUBJECT, fact),
        }
    }

    fn threads_line(&self) -> ChecklistLine {
        const SUBJECT: &str = "threads";
        let threads = count(self.threads, "thread");
        match self.processors {
            Some(processors) if processors > self.threads => ChecklistLine::note(
                SUBJECT,
                format!("{threads} of {processors} processors: a quota or an affinity leaves no more"),
                "give the container or the job more processors where the processor bounds a run (`apply --timings` says)",
            ),
            _ => ChecklistLine::ok(SUBJECT, format!("{threads}, one for each processor")),
        }
    }

    fn memory_line(&self, needed: u64) -> Option<ChecklistLine> {
        const SUBJECT: &str = "memory";
        let facts = self.memory?;
        let left = facts.left();
        let of = match facts.left_by_limit {
            Some(limit) if limit < facts.available => {
                format!("{} left by the limit of the container or job", memory(limit))
            }
            _ => format!("{} of {} available", memory(facts.available), memory(facts.total)),
        };
        let fact = format!("{of}; a run takes less than {}, whatever the model's size", memory(needed));
        Some(if left < needed {
            let advice = "end other programs, or `apply --threads 1 --max-memory 16MiB`, which is slower";
            ChecklistLine::problem(SUBJECT, fact, advice)
        } else {
            ChecklistLine::ok(SUBJECT, fact)
        })
    }

    fn system_line(&self) -> Option<ChecklistLine> {
        const SUBJECT: &str = "system";
        let kernel = self.kernel.as_ref()?;
        Some(match self.wsl() {
            Some(Wsl::One) => ChecklistLine::note(
                SUBJECT,
                format!("Linux {kernel}: WSL 1, where every file is one of Windows, and no GPU is seen"),
                "`wsl --set-version DISTRIBUTION 2` in Windows moves it to WSL 2",
            ),
            Some(Wsl::Two) => ChecklistLine::ok(SUBJECT, format!("Linux {kernel}: WSL 2")),
            None => ChecklistLine::ok(SUBJECT, format!("Linux {kernel}")),
        })
    }
}

impl MemoryFacts {
    /// Reads the text of `/proc/meminfo`.
    pub fn parse(meminfo: &str, left_by_limit: Option<u64>) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { total: bytes("MemTotal")?, available: bytes("MemAvailable")?, left_by_limit })
    }

    /// The bytes that a process can take.
    pub fn left(&self) -> u64 {
        self.left_by_limit.map_or(self.available, |limit| limit.min(self.available))
    }
}

/// The number of processors in ranges such as `0-3,8`.
fn number_in(ranges: &str) -> Option<usize> {
    ranges.split(',').try_fold(0usize, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}
