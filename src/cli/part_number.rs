//! The part that `--part` names, or that the engine which started this process tells in the environment.

use std::str::FromStr;

use crate::checkpoint::text::shown;
use crate::run::PartNumber;

/// What `--part` was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartArgument {
    Number(PartNumber),
    /// As the environment says; of so many parts, where the number is given.
    Auto(Option<usize>),
}

/// The part of this process, and the variables that tell it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TakenPart {
    pub(super) part: PartNumber,
    /// The variables with their values; `None` where the part was named.
    pub(super) from: Option<String>,
}

const FORM: &str = "a part is K/N, such as 3/8, `auto`, or `auto/N`";

impl FromStr for PartArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().map_err(|_| FORM.to_owned());
        let in_range = |of: usize| match of {
            1..=PartNumber::MOST => Ok(of),
            _ => Err(format!("there are 1 to {} parts", PartNumber::MOST)),
        };
        match text.split_once('/') {
            None if text == "auto" => Ok(Self::Auto(None)),
            None => Err(FORM.to_owned()),
            Some(("auto", of)) => Ok(Self::Auto(Some(in_range(number(of)?)?))),
            Some((part, of)) => {
                let (part, of) = (number(part)?, in_range(number(of)?)?);
                let part = PartNumber::new(part, of);
                part.map(Self::Number).ok_or_else(|| format!("parts are counted from 1 to {of}"))
            }
        }
    }
}

impl PartArgument {
    /// Returns the part, given the environment.
    ///
    /// # Errors
    /// A line that says what is missing or contradicts itself.
    pub(super) fn take(self, environment: impl Fn(&str) -> Option<String>) -> Result<TakenPart, String> {
        let given = match self {
            Self::Number(part) => return Ok(TakenPart { part, from: None }),
            Self::Auto(given) => given,
        };
        let environment = Environment(&environment);
        for engine in [slurm, kubernetes, ranks] {
            if let Some(taken) = engine(environment, given)? {
                return Ok(taken);
            }
        }
        let looked_for = "SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and RANK are not set";
        Err(format!("`--part auto` finds nothing that tells the part: {looked_for}"))
    }
}

/// The environment of a process.
#[derive(Clone, Copy)]
struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// Returns the number in a variable; `None` where it is not set.
    fn number(self, name: &str) -> Result<Option<usize>, String> {
        let Some(text) = (self.0)(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| format!("{name} is {}, which is no number", shown(&text)))
    }
}

/// Returns the part of this index, from 0, which the variable tells in its own way of counting.
fn taken(
    (variable, value): (&str, usize),
    index: Option<usize>,
    of: usize,
    of_variable: Option<&str>,
) -> Result<Option<TakenPart>, String> {
    let part = index.and_then(|index| PartNumber::new(index.saturating_add(1), of));
    let part = part.ok_or_else(|| format!("{variable}={value} is none of {of} parts"))?;
    let count = of_variable.map_or_else(String::new, |name| format!(" and {name}={of}"));
    Ok(Some(TakenPart { part, from: Some(format!("{variable}={value}{count}")) }))
}

/// An array of Slurm: its tasks are the parts, in order.
fn slurm(environment: Environment<'_>, given: Option<usize>) -> Result<Option<TakenPart>, String> {
    const ID: &str = "SLURM_ARRAY_TASK_ID";
    const COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
    let Some(id) = environment.number(ID)? else { return Ok(None) };
    let (count, least) = (environment.number(COUNT)?, environment.number("SLURM_ARRAY_TASK_MIN")?);
    let (most, step) = (environment.number("SLURM_ARRAY_TASK_MAX")?, environment.number("SLURM_ARRAY_TASK_STEP")?);
    let step = step.unwrap_or(1).max(1);
    // The tasks that are submitted again after a failure are an array of their own, and are numbered as before.
    let is_whole = match (count, least, most) {
        (Some(count), Some(least), Some(most)) => {
            least <= 1 && most.checked_sub(least).is_some_and(|span| span / step + 1 == count)
        }
        _ => false,
    };
    match given {
        None if !is_whole => Err(format!(
            "{ID}={id} is a task of an array that is not numbered from 0 or 1 on without a gap: give `--part auto/N`, of N parts"
        )),
        None => {
            let least = least.unwrap_or_default();
            taken((ID, id), id.checked_sub(least).map(|index| index / step), count.unwrap_or_default(), Some(COUNT))
        }
        Some(of) => {
            let first = if is_whole && count == Some(of) { least.unwrap_or(1) } else { 1 };
            let step = if is_whole && count == Some(of) { step } else { 1 };
            taken((ID, id), id.checked_sub(first).map(|index| index / step), of, None)
        }
    }
}

/// An Indexed Job of Kubernetes, which tells its pods no number of completions.
fn kubernetes(environment: Environment<'_>, given: Option<usize>) -> Result<Option<TakenPart>, String> {
    const INDEX: &str = "JOB_COMPLETION_INDEX";
    const COUNT: &str = "JOB_COMPLETIONS";
    let Some(index) = environment.number(INDEX)? else { return Ok(None) };
    match (given, environment.number(COUNT)?) {
        (Some(of), _) => taken((INDEX, index), Some(index), of, None),
        (None, Some(of)) => taken((INDEX, index), Some(index), of, Some(COUNT)),
        (None, None) => Err(format!(
            "{INDEX}={index} is set and {COUNT} is not: set it to the job's `completions`, or give `--part auto/N`"
        )),
    }
}

/// Ranks, as torchrun, MPI launchers and others set them.
fn ranks(environment: Environment<'_>, given: Option<usize>) -> Result<Option<TakenPart>, String> {
    const RANK: &str = "RANK";
    const SIZE: &str = "WORLD_SIZE";
    let Some(rank) = environment.number(RANK)? else { return Ok(None) };
    match (given, environment.number(SIZE)?) {
        (Some(of), _) => taken((RANK, rank), Some(rank), of, None),
        (None, Some(of)) => taken((RANK, rank), Some(rank), of, Some(SIZE)),
        (None, None) => Err(format!("{RANK}={rank} is set and {SIZE} is not: set it, or give `--part auto/N`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(argument: &str, variables: &[(&str, &str)]) -> Result<(String, String), String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let taken = argument.parse::<PartArgument>()?.take(find)?;
        Ok((taken.part.to_string(), taken.from.unwrap_or_default()))
    }

    fn array(id: &'static str, [least, most, step, count]: [&'static str; 4]) -> Vec<(&'static str, &'static str)> {
        vec![
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_MIN", least),
            ("SLURM_ARRAY_TASK_MAX", most),
            ("SLURM_ARRAY_TASK_STEP", step),
            ("SLURM_ARRAY_TASK_COUNT", count),
        ]
    }

    #[test]
    fn a_part_is_named_from_1_on() {
        assert_eq!(take("3/8", &[]).unwrap().0, "3/8");
        for (wrong, why) in [
            ("0/8", "from 1 to 8"),
            ("9/8", "from 1 to 8"),
            ("1/0", "1 to 10000 parts"),
            ("1/10001", "1 to 10000 parts"),
            ("auto/0", "1 to 10000 parts"),
            ("3", "K/N"),
            ("-1/8", "K/N"),
            ("3/8/9", "K/N"),
            ("automatic", "K/N"),
        ] {
            let error = take(wrong, &[]).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_array_of_slurm_tells_the_part() {
        for (id, of, part) in [
            ("0", ["0", "7", "1", "8"], "1/8"),
            ("7", ["0", "7", "1", "8"], "8/8"),
            ("8", ["1", "8", "1", "8"], "8/8"),
            ("5", ["1", "7", "2", "4"], "3/4"),
        ] {
            let taken = take("auto", &array(id, of)).unwrap();
            assert_eq!(taken.0, part);
            assert!(taken.1.starts_with(&format!("SLURM_ARRAY_TASK_ID={id} and ")), "{}", taken.1);
        }
    }

    #[test]
    fn a_task_that_is_submitted_again_is_the_same_part() {
        let again = array("3", ["3", "3", "1", "1"]);
        assert!(take("auto", &again).unwrap_err().contains("auto/N"));
        assert_eq!(take("auto/8", &again).unwrap().0, "3/8");
        assert_eq!(take("auto/8", &array("8", ["3", "8", "1", "2"])).unwrap().0, "8/8");
        assert_eq!(take("auto/8", &array("0", ["0", "7", "1", "8"])).unwrap().0, "1/8");
        assert!(take("auto/8", &array("9", ["9", "9", "1", "1"])).unwrap_err().contains("none of 8 parts"));
    }

    #[test]
    fn a_job_of_kubernetes_and_ranks_tell_the_part() {
        let index = ("JOB_COMPLETION_INDEX", "3");
        assert_eq!(take("auto/8", &[index]).unwrap().0, "4/8");
        assert_eq!(take("auto", &[index, ("JOB_COMPLETIONS", "4")]).unwrap().0, "4/4");
        assert!(take("auto", &[index]).unwrap_err().contains("JOB_COMPLETIONS is not"));
        assert!(take("auto/3", &[index]).unwrap_err().contains("none of 3 parts"));
        assert_eq!(take("auto", &[("RANK", "0"), ("WORLD_SIZE", "2")]).unwrap().0, "1/2");
        assert!(take("auto", &[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err().contains("none of 2 parts"));
        assert!(take("auto", &[("RANK", "two"), ("WORLD_SIZE", "2")]).unwrap_err().contains("`two`"));
    }

    #[test]
    fn without_an_engine_the_message_says_what_was_looked_for() {
        let error = take("auto", &[("SLURM_ARRAY_TASK_ID", "")]).unwrap_err();
        for variable in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "RANK"] {
            assert!(error.contains(variable), "{error}");
        }
    }
}
