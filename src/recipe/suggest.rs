//! "Did you mean": the nearest of a few known words, schemes among them.

pub use crate::checkpoint::text::nearest_word;
use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::foreign_schemes::{Meant, meant, with_suffix};

/// `a`, `b` and `c`, in backticks.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((word, [])) => word.clone(),
        Some((word, rest)) => format!("{} {last} {word}", rest.join(", ")),
        None => String::new(),
    }
}

/// The diagnostic for a scheme that is not linked in, without its place.
pub(super) fn unknown_scheme<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("no scheme is called `{}`", unquoted(name)));
    scheme_help(name, known).into_iter().fold(diagnostic, Diagnostic::help)
}

/// Help for a name that no scheme has, one line each: the scheme that was meant, or where they are listed.
pub fn scheme_help<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let did_you_mean = |near: &str| format!("did you mean `{near}`?");
    if let Some(same) = known.clone().find(|known| known.eq_ignore_ascii_case(name)) {
        return vec![did_you_mean(same)];
    }
    // `INT4` is one letter from `INT8`, and means something else.
    if let Some(Meant { scheme, note }) = meant(name, known.clone()) {
        return std::iter::once(did_you_mean(&scheme)).chain(note.map(str::to_owned)).collect();
    }
    match nearest_word(name, known.clone()).or_else(|| with_suffix(name, known.clone())) {
        Some(near) => vec![did_you_mean(near)],
        None => vec![list_of_schemes(known)],
    }
}

/// A sentence that names a few schemes, or says where they are listed.
pub(super) fn list_of_schemes<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    match names.clone().count() {
        0..=6 => format!("the schemes are {}", list(names, "and")),
        _ => "`qwen-fp8 schemes` lists the schemes of this build".to_owned(),
    }
}
