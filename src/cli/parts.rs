//! The parts of a run on several machines: `apply --part` and `apply --join`.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::ApplyArgs;
use super::error::CommandError;
use super::part_number::TakenPart;
use super::screen::Screen;
use crate::checkpoint::text::{human, shown_path};
use crate::plan::Plan;
use crate::run::{Joined, MadePart, Observer, PartNumber, RunError, RunOptions, RunReport, join, make_part, run};

/// What is carried out of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole {
    /// All of it.
    Run,
    Part(PartNumber),
    /// The join of its parts.
    Join,
}

/// The end of a command that succeeded.
pub(super) enum Applied {
    Published(Box<RunReport>),
    PublishedBefore,
    PartMade(Box<RunReport>),
    PartMadeBefore,
}

/// The outcome as programs read it.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ApplyOutcome {
    /// The output bears its name.
    Published,
    /// It did so before: an earlier join has published it.
    PublishedBefore,
    /// The part is made.
    PartMade,
    /// It was made before, and is good.
    PartMadeBefore,
}

impl Whole {
    /// Returns what was asked for, and says how the part was found out.
    ///
    /// # Errors
    /// Options that mean nothing for it, or nothing that tells the part.
    pub(super) fn of(args: &ApplyArgs, screen: &Screen) -> Result<Self, CommandError> {
        let Some(argument) = args.parts.part else {
            if args.parts.join && (args.restart || args.resume) {
                return Err(refused(
                    "--join",
                    "--restart` and `--resume",
                    "a join leaves nothing to go on with; give it to the `--part` that is to be made anew",
                ));
            }
            let is_join = args.parts.join || args.parts.slurm.is_some();
            return Ok(if is_join { Self::Join } else { Self::Run });
        };
        let of_whole = [
            (args.verify, "--verify"),
            (args.report.is_some(), "--report"),
            (args.push.is_some(), "--push"),
            (args.manifest.no_manifest, "--no-manifest"),
            (args.manifest.sha256.is_some(), "--sha256"),
        ];
        if let Some((_, option)) = of_whole.into_iter().find(|(is_given, _)| *is_given) {
            return Err(refused("--part", option, "it is about the whole output: give it to `--join`"));
        }
        let TakenPart { part, from } = argument
            .take(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
            .map_err(|error| CommandError::Usage(error).with_help(&["`--part K/N` names the part".to_owned()]))?;
        if let Some(from) = from {
            screen.say(&format!("part {part}, as {from} says"));
        }
        Ok(Self::Part(part))
    }

    /// Returns the part.
    pub(super) fn part(self) -> Option<PartNumber> {
        match self {
            Self::Part(part) => Some(part),
            Self::Run | Self::Join => None,
        }
    }

    /// Carries it out.
    pub(super) fn carry_out(
        self,
        plan: &Plan,
        output: &Path,
        options: &RunOptions<'_>,
        observer: &dyn Observer,
    ) -> Result<Applied, RunError> {
        Ok(match self {
            Self::Run => Applied::Published(Box::new(run(plan, output, options, observer)?)),
            Self::Part(part) => match make_part(plan, output, part, options, observer)? {
                MadePart::Made(report) => Applied::PartMade(report),
                MadePart::MadeBefore => Applied::PartMadeBefore,
                MadePart::Published => Applied::PublishedBefore,
            },
            Self::Join => match join(plan, output, options, observer)? {
                Joined::Joined(report) => Applied::Published(report),
                Joined::Published => Applied::PublishedBefore,
            },
        })
    }
}

impl Applied {
    /// Returns the numbers of what was done; `None` where there was nothing to do.
    pub(super) fn report(&self) -> Option<&RunReport> {
        match self {
            Self::Published(report) | Self::PartMade(report) => Some(report),
            Self::PublishedBefore | Self::PartMadeBefore => None,
        }
    }

    /// Returns the outcome for programs.
    pub(super) fn outcome(&self) -> ApplyOutcome {
        match self {
            Self::Published(_) => ApplyOutcome::Published,
            Self::PublishedBefore => ApplyOutcome::PublishedBefore,
            Self::PartMade(_) => ApplyOutcome::PartMade,
            Self::PartMadeBefore => ApplyOutcome::PartMadeBefore,
        }
    }
}

/// Returns the line that says what became of a part, or of a join that had nothing to do.
pub(super) fn line(whole: Whole, applied: &Applied, plan: &Plan, output: &Path) -> String {
    let output = shown_path(output);
    let part = whole.part().map_or_else(String::new, |part| format!("part {part} of "));
    match applied.report() {
        None if matches!(applied, Applied::PublishedBefore) => {
            format!("{output} is published already, by this recipe and from this source")
        }
        None => format!("{part}{output} is made already, and good"),
        Some(report) => format!(
            "{part}{output}: {} quantized, {} copied, {} of {} in {:.1} s ({}/s)",
            report.tensors_quantized,
            report.tensors_copied + report.tensors_dequantized,
            human(report.output_bytes),
            human(plan.output_bytes()),
            report.wall_seconds,
            human(report.bytes_per_second as u64),
        ),
    }
}

fn refused(option: &str, other: &str, why: &str) -> CommandError {
    CommandError::Usage(format!("`{option}` takes no `{other}`")).with_help(&[why.to_owned()])
}
