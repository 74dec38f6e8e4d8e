//! `apply --slurm N`: submits the parts of a run to Slurm, and their join, and waits until they have ended.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::args::{ApplyArgs, Sha256Files};
use super::error::CommandError;
use super::interrupt::Interrupt;
use super::screen::Screen;
use crate::checkpoint::text::shown;
use crate::run::parts_made;

/// The script that submits, for people too.
const SUBMIT: &str = include_str!("../../deploy/slurm/submit");

/// The time between two questions to Slurm, which answers everybody.
const PACE: Duration = Duration::from_secs(5);

/// Questions in a row that Slurm may leave without an answer while it is restarted.
const MOST_UNANSWERED: u32 = 60;

/// Submits the parts and their join, and returns when neither is in Slurm's queue any more, however they ended.
///
/// # Errors
/// Slurm does not take them, or does not answer; or a signal ends the waiting, and the jobs go on.
pub(super) fn run_parts(
    args: &ApplyArgs,
    parts: usize,
    output: &Path,
    interrupt: &Interrupt,
    screen: &Screen,
) -> Result<(), CommandError> {
    let jobs = submit(args, parts, output)?;
    let [array, join] = &jobs;
    screen.say(&format!("submitted: job {array} for {parts} parts, job {join} to join them"));
    let (mut told, mut unanswered) = (0, 0);
    loop {
        let made = parts_made(output, parts);
        if made > told {
            screen.say(&format!("{made} of {parts} parts are made"));
            told = made;
        }
        match is_queued(&jobs) {
            Ok(true) => unanswered = 0,
            Ok(false) => return Ok(()),
            Err(error) => {
                unanswered += 1;
                if unanswered > MOST_UNANSWERED {
                    let message = format!("Slurm no longer says how jobs {array} and {join} are: {error}");
                    return Err(CommandError::Run(message));
                }
            }
        }
        let asked = Instant::now();
        while asked.elapsed() < PACE {
            if interrupt.cancel.load(Ordering::Relaxed) {
                let message = format!("jobs {array} and {join} go on without this command, and publish the output");
                let failure = CommandError::Interrupted(message, interrupt.exit_code());
                return Err(failure.with_help(&[format!("`scancel {array} {join}` ends them")]));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Submits both jobs and returns their numbers.
fn submit(args: &ApplyArgs, parts: usize, output: &Path) -> Result<[String; 2], CommandError> {
    let failed = |what: String| {
        let help = ["`deploy/slurm/submit` of the repository is the script that was run".to_owned()];
        CommandError::Run(format!("the parts cannot be submitted: {what}")).with_help(&help)
    };
    // Another one where the nodes have theirs elsewhere.
    let program = std::env::var_os("QWEN_FP8").map_or_else(std::env::current_exe, |program| Ok(program.into()));
    let program = program.map_err(|error| failed(format!("cannot find this program: {error}")))?;
    let (common, of_join) = words(args, output)?;
    let done = Command::new("bash")
        .args(["-c", SUBMIT, "submit"])
        .arg(parts.to_string())
        .args(common)
        .arg("--")
        .args(of_join)
        .env("QWEN_FP8", program)
        .output()
        .map_err(|error| failed(format!("cannot run `bash`: {error}")))?;
    if !done.status.success() {
        return Err(failed(last_line(&done)));
    }
    let said = String::from_utf8_lossy(&done.stdout);
    match said.split_whitespace().collect::<Vec<_>>()[..] {
        [array, join] => Ok([array.to_owned(), join.to_owned()]),
        _ => Err(failed(format!("sbatch said {}", shown(said.trim())))),
    }
}

/// Returns the words of the command that parts and join have in common, and those of the join alone. Paths are absolute,
/// since nodes have a working directory of their own.
fn words(args: &ApplyArgs, output: &Path) -> Result<(Vec<OsString>, Vec<OsString>), CommandError> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map(PathBuf::into_os_string)
            .map_err(|error| CommandError::Run(format!("cannot tell the whole path of {}: {error}", path.display())))
    };
    if args.source.recipe.as_os_str() == "-" {
        let message = "`--slurm` takes no recipe from standard input, which the nodes do not have".to_owned();
        return Err(CommandError::Usage(message));
    }
    let mut common = vec![absolute(&args.source.recipe)?, "--output".into(), absolute(output)?];
    let mut add = |option: &str, value: Option<OsString>| {
        if let Some(value) = value {
            let mut word = OsString::from(format!("--{option}="));
            word.push(value);
            common.push(word);
        }
    };
    let model = args.source.model.as_ref().map(|model| match Path::new(model) {
        directory if directory.is_dir() => absolute(directory),
        id => Ok(id.as_os_str().to_owned()),
    });
    add("model", model.transpose()?);
    add("smoke", args.source.smoke.map(|layers| layers.to_string().into()));
    add("threads", args.threads.map(|threads| threads.to_string().into()));
    add("max-memory", args.max_memory.map(|bytes| bytes.to_string().into()));
    add("simd", args.simd.clone().map(OsString::from));
    if let Some(lock) = &args.locked.locked {
        match lock {
            Some(file) => add("locked", Some(absolute(file)?)),
            None => common.push("--locked".into()),
        }
    }
    let mut of_join: Vec<OsString> = Vec::new();
    if args.verify {
        of_join.push("--verify".into());
    }
    if args.manifest.no_manifest {
        of_join.push("--no-manifest".into());
    }
    if let Some(report) = &args.report {
        of_join.extend(["--report".into(), absolute(report)?]);
    }
    of_join.extend(args.manifest.sha256.map(|files| {
        OsString::from(match files {
            Sha256Files::Output => "--sha256=output",
            Sha256Files::Source => "--sha256=source",
            Sha256Files::All => "--sha256=all",
        })
    }));
    Ok((common, of_join))
}

/// Returns whether Slurm still has one of the jobs to run.
fn is_queued(jobs: &[String; 2]) -> Result<bool, String> {
    let asked = Command::new("squeue").args(["--noheader", "--jobs", &jobs.join(",")]).output();
    let asked = asked.map_err(|error| error.to_string())?;
    if asked.status.success() {
        return Ok(!asked.stdout.trim_ascii().is_empty());
    }
    // Some time after their end it knows nothing of them any more.
    let said = last_line(&asked);
    if said.contains("Invalid job id") { Ok(false) } else { Err(said) }
}

/// Returns the last line that a program wrote to its standard error.
fn last_line(done: &Output) -> String {
    let said = String::from_utf8_lossy(&done.stderr);
    said.lines().last().map_or_else(|| format!("{}", done.status), |line| shown(line.trim()).to_string())
}
