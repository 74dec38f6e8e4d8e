//! Names that differ only in numbers, written as one: `model.layers.[0-35].mlp.up_proj.weight`.

use std::collections::BTreeMap;

use thiserror::Error;

/// The most names that one text stands for: ten times those of the largest mixture of experts.
const MOST_NAMES: usize = 4 << 20;

/// Ranges of names that stand for none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameRangesError {
    #[error("{0} is no set of numbers such as [0-35] or [0-2,5]")]
    Set(String),
    #[error("{0} stands for more than {MOST_NAMES} names")]
    TooMany(String),
}

/// Writes names, each once, as few texts in which a part `[0-2,5]` stands for each of these numbers.
pub fn compressed<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut forms: BTreeMap<Vec<&str>, Vec<Vec<u32>>> = BTreeMap::new();
    for name in names {
        let mut numbers = Vec::new();
        let form = name.split('.').map(|part| match number(part) {
            Some(number) => {
                numbers.push(number);
                ""
            }
            None => part,
        });
        forms.entry(form.collect()).or_default().push(numbers);
    }
    let mut texts = Vec::new();
    for (form, mut numbers) in forms {
        numbers.sort_unstable();
        for sets in products(&numbers.iter().map(Vec::as_slice).collect::<Vec<_>>()) {
            let mut sets = sets.iter();
            let parts = form.iter().map(|part| match (part, sets.len()) {
                (&"", 1..) => sets.next().map(|set| set_text(set)).unwrap_or_default(),
                (part, _) => (*part).to_owned(),
            });
            texts.push(parts.collect::<Vec<_>>().join("."));
        }
    }
    texts
}

/// Returns the names that a text of [`compressed`] stands for.
///
/// # Errors
/// A set of numbers is none, or the names are more than any model has.
pub fn expanded(text: &str) -> Result<Vec<String>, NameRangesError> {
    let mut names = vec![String::new()];
    for (index, part) in text.split('.').enumerate() {
        let values = match part.strip_prefix('[').and_then(|part| part.strip_suffix(']')) {
            Some(set) => numbers_of(set).ok_or_else(|| NameRangesError::Set(part.to_owned()))?,
            None => vec![part.to_owned()],
        };
        if names.len().saturating_mul(values.len()) > MOST_NAMES {
            return Err(NameRangesError::TooMany(text.to_owned()));
        }
        let dot = if index == 0 { "" } else { "." };
        let longer = names.iter().flat_map(|name| values.iter().map(move |value| format!("{name}{dot}{value}")));
        names = longer.collect();
    }
    Ok(names)
}

/// The number that a part of a name is, if it would be written in this way.
fn number(part: &str) -> Option<u32> {
    part.parse().ok().filter(|number: &u32| number.to_string() == part)
}

/// Sets of numbers, one for each place, whose products are together these rows; the rows are sorted.
fn products(rows: &[&[u32]]) -> Vec<Vec<Vec<u32>>> {
    if rows.first().is_none_or(|row| row.is_empty()) {
        return vec![Vec::new()];
    }
    let mut of_rest: BTreeMap<Vec<Vec<Vec<u32>>>, Vec<u32>> = BTreeMap::new();
    for rows in rows.chunk_by(|a, b| a[0] == b[0]) {
        let rest: Vec<&[u32]> = rows.iter().map(|row| &row[1..]).collect();
        of_rest.entry(products(&rest)).or_default().push(rows[0][0]);
    }
    let mut all: Vec<Vec<Vec<u32>>> = of_rest
        .into_iter()
        .flat_map(|(rest, first)| {
            rest.into_iter().map(move |sets| std::iter::once(first.clone()).chain(sets).collect::<Vec<_>>())
        })
        .collect();
    all.sort_unstable();
    all
}

/// `7`, `[0-2]` or `[0-2,5]`.
fn set_text(set: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in set {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let texts =
        runs.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    match (texts.collect::<Vec<_>>(), set) {
        (_, [only]) => only.to_string(),
        (texts, _) => format!("[{}]", texts.join(",")),
    }
}

fn numbers_of(set: &str) -> Option<Vec<String>> {
    let mut numbers = Vec::new();
    for run in set.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || (last - first) as usize >= MOST_NAMES - numbers.len() {
            return None;
        }
        numbers.extend((first..=last).map(|number| number.to_string()));
    }
    Some(numbers)
}
