//! The GPUs of the machine, as `nvidia-smi` names them.

use std::ffi::OsStr;
use std::time::Duration;

use super::ask::{ProgramAnswer, ask, find_program};
use super::checklist::ChecklistLine;
use crate::checkpoint::text::{count, grouped, memory, unquoted};
use crate::fit::{Fit, FitRequest, FitSubject, GpuKernels};

/// The time that `nvidia-smi` is waited for; a driver that wakes up takes seconds.
const LIMIT: Duration = Duration::from_secs(20);
/// The folder that WSL puts the driver's programs into.
const WSL_FOLDER: &str = "/usr/lib/wsl/lib";
/// The least driver for CUDA 13, with which vLLM 0.33 is built.
const DRIVER: u64 = 580;

/// The answer of `nvidia-smi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuFacts {
    Found(Vec<FoundGpu>),
    /// There is no `nvidia-smi`.
    None,
    /// It is there and does not answer.
    Silent(String),
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundGpu {
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    pub driver: String,
    /// Compute capability: 8.9 is (8, 9).
    pub capability: Option<(u32, u32)>,
}

impl GpuFacts {
    /// Asks the `nvidia-smi` of the path, or WSL's.
    pub fn ask(path: &OsStr) -> Self {
        let found = find_program("nvidia-smi", path).or_else(|| find_program("nvidia-smi", OsStr::new(WSL_FOLDER)));
        let Some(program) = found else { return Self::None };
        let query = ["--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"];
        Self::of(&ask(&program, &query, LIMIT))
    }

    /// Reads the answer of `nvidia-smi`.
    pub fn of(answer: &ProgramAnswer) -> Self {
        let first = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").to_owned();
        match answer {
            ProgramAnswer::Said(text) => {
                let found: Vec<FoundGpu> = text.lines().filter_map(FoundGpu::parse).collect();
                if found.is_empty() { Self::Silent(first(text)) } else { Self::Found(found) }
            }
            ProgramAnswer::Failed(text) => Self::Silent(first(text)),
            ProgramAnswer::NotStarted(error) => Self::Silent(error.clone()),
            ProgramAnswer::TooLate => Self::Silent(format!("no answer within {} s", LIMIT.as_secs())),
        }
    }

    /// Judges the GPUs for what is to be served, if anything is; `recipe` is its recipe as a shell takes it.
    pub fn lines(&self, subject: Option<&FitSubject<'_>>, recipe: &str) -> Vec<ChecklistLine> {
        const SUBJECT: &str = "gpu";
        match self {
            Self::None => vec![ChecklistLine::note(
                SUBJECT,
                "none of NVIDIA's is found: there is no `nvidia-smi`",
                "nothing, to convert: that needs no GPU; to serve, move the result to a machine with one",
            )],
            Self::Silent(said) => vec![ChecklistLine::note(
                SUBJECT,
                format!(
                    "`nvidia-smi` names no GPU: {}",
                    if said.is_empty() { "it says nothing".into() } else { unquoted(said).to_string() }
                ),
                "nothing, to convert: that needs no GPU; to serve, mend the driver first",
            )],
            Self::Found(gpus) => {
                let mut lines: Vec<ChecklistLine> =
                    alike(gpus).into_iter().map(|(gpu, number)| gpu.line(number)).collect();
                lines.extend(driver_line(&gpus[0].driver));
                lines.extend(subject.and_then(|subject| serving_line(gpus, subject, recipe)));
                lines
            }
        }
    }
}

impl FoundGpu {
    /// Reads a line such as `NVIDIA GeForce RTX 4080, 16376 MiB, 550.54.14, 8.9`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.rsplitn(4, ',').map(str::trim);
        let (capability, driver, memory, name) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let mebibytes: u64 = memory.strip_suffix("MiB")?.trim().parse().ok()?;
        let capability = capability.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let driver = driver.to_owned();
        Some(Self { name: name.to_owned(), memory: mebibytes.checked_mul(1 << 20)?, driver, capability })
    }

    fn line(&self, number: usize) -> ChecklistLine {
        const SUBJECT: &str = "gpu";
        let times = if number > 1 { format!("{number} × ") } else { String::new() };
        let generation = self.capability.map(|(major, minor)| {
            let generation = GpuKernels::generation(major, minor).map_or_else(String::new, |name| format!(" ({name})"));
            format!(", compute capability {major}.{minor}{generation}")
        });
        let fact = format!(
            "{times}{}, {}{}, driver {}",
            unquoted(&self.name),
            memory(self.memory),
            generation.unwrap_or_default(),
            unquoted(&self.driver)
        );
        match self.capability {
            Some((major, minor)) if GpuKernels::generation(major, minor).is_none() => {
                let advice =
                    "serve the result on a GPU of Turing (RTX 20, T4) or later: vLLM has no kernels for this one";
                ChecklistLine::note(SUBJECT, fact, advice)
            }
            _ => ChecklistLine::ok(SUBJECT, fact),
        }
    }
}

/// GPUs that are alike, with their number.
fn alike(gpus: &[FoundGpu]) -> Vec<(&FoundGpu, usize)> {
    gpus.chunk_by(|a, b| a == b).filter_map(|alike| Some((alike.first()?, alike.len()))).collect()
}

/// Judges the driver.
fn driver_line(driver: &str) -> Option<ChecklistLine> {
    let major: u64 = driver.split('.').next()?.parse().ok()?;
    (major < DRIVER).then(|| {
        ChecklistLine::note(
            "driver",
            format!("driver {}: vLLM 0.33 is built with CUDA 13, which needs {DRIVER} or later", unquoted(driver)),
            "update the driver (under WSL, that of Windows), or take a build of vLLM for CUDA 12",
        )
    })
}

/// Judges whether the GPUs serve the subject: on one, or else on all of them.
fn serving_line(gpus: &[FoundGpu], subject: &FitSubject<'_>, recipe: &str) -> Option<ChecklistLine> {
    const SUBJECT: &str = "serving";
    let largest = gpus.iter().max_by_key(|gpu| gpu.memory)?;
    let request =
        FitRequest { vram: largest.memory, gpus: 1, context: None, concurrency: None, cache_dtype: Default::default() };
    let fit = Fit::of(subject, &request, "OUTPUT");
    let runs = largest.capability.and_then(|(major, minor)| fit.runs_on(major, minor));
    let kernels = runs.map_or_else(String::new, |runs| format!("; vLLM runs {runs}"));
    let command = format!("`qwen-fp8 fit {recipe} --vram {}MiB`", largest.memory >> 20);
    Some(if fit.fits {
        let requests = count(usize::try_from(fit.requests).unwrap_or(usize::MAX), "request");
        let context = grouped(fit.context);
        ChecklistLine {
            advice: Some(format!("{command} names the line that serves it")),
            ..ChecklistLine::ok(
                SUBJECT,
                format!("fits {}: {context} tokens of context, {requests} at once{kernels}", gpu_of(largest)),
            )
        }
    } else {
        let more = if gpus.len() > 1 {
            format!(", and `--tensor-parallel {}` asks for all", gpus.len())
        } else {
            String::new()
        };
        let fact = format!("does not fit {}{kernels}", gpu_of(largest));
        ChecklistLine::note(SUBJECT, fact, format!("{command} says what would{more}"))
    })
}

fn gpu_of(gpu: &FoundGpu) -> String {
    format!("a GPU of {}", memory(gpu.memory))
}
