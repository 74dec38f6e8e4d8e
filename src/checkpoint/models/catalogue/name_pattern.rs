//! Patterns over the dotted names of modules, as the catalogue writes them.

use std::borrow::Cow;

use super::fault::FamilyFault;
use crate::text::shown;

/// A pattern over a dotted name: `*` is any text within one part, `**` any number of parts.
///
/// `**.mlp.gate` takes `model.layers.3.mlp.gate`, and `**.visual.**` every name with a part `visual`. Recipes have
/// globs, whose `*` crosses dots; here a part counts as a whole, so that `**.gate` never takes `down_gate`. Compiling a
/// glob for each would take longer than planning a small model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(from = "String", into = "String")]
pub struct NamePattern {
    text: String,
}

impl NamePattern {
    /// Reports whether the pattern takes the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.captures(name).is_some()
    }

    /// Returns the name that `template` makes of `name`: each `*` and `**` of the template, which are whole parts, stands
    /// for what the pattern's wildcard of the same place took; `on` is added to the first number of a `*`. `None` where the
    /// pattern does not take the name.
    pub fn rewrite(&self, name: &str, template: &str, on: u64) -> Option<String> {
        let mut captures = self.captures(name)?.into_iter();
        let mut on = Some(on).filter(|on| *on > 0);
        let mut parts: Vec<Cow<'_, str>> = Vec::new();
        for part in template.split('.') {
            let taken = if matches!(part, "*" | "**") { captures.next().unwrap_or_default() } else { vec![part] };
            match (part, &taken[..]) {
                ("*", [only]) if on.is_some() && only.parse::<u64>().is_ok() => {
                    let counted = only.parse::<u64>().ok().zip(on.take()).map(|(number, on)| number.saturating_add(on));
                    parts.extend(counted.map(|number| Cow::Owned(number.to_string())));
                }
                _ => parts.extend(taken.into_iter().map(Cow::Borrowed)),
            }
        }
        Some(parts.join("."))
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reports whether the ends of the name fit, and its middle holds a part of the pattern; false for nearly all names that the
    /// pattern does not take, and in a small part of the time that tells it for sure.
    fn may_take(&self, name: &str) -> bool {
        let fits = |wanted: Option<&str>, part: Option<&str>| match (wanted, part) {
            (Some(wanted), Some(part)) => wanted == "**" || part_matches(wanted, part),
            _ => false,
        };
        fits(self.text.rsplit('.').next(), name.rsplit('.').next())
            && fits(self.text.split('.').next(), name.split('.').next())
            && self.text.split('.').filter(|part| !part.contains('*')).all(|part| name.contains(part))
    }

    /// Returns what is wrong with the pattern, which stands at `pointer`: no name of a module can match it, or it means
    /// something else in another tool.
    pub(super) fn fault(&self, pointer: &str) -> Option<FamilyFault> {
        const WANTED: &str =
            "a pattern is a module's name, in which `*` is any text within one part and `**` any number of parts";
        let text = self.text();
        let said = shown(text);
        let (reason, meant) = if text.is_empty() {
            (format!("it is empty: {WANTED}"), None)
        } else if let Some(regex) = text.strip_prefix("re:") {
            (format!("{said} is a regex: {WANTED}"), of_regex(regex))
        } else if let Some(odd) = text.chars().find(|c| c.is_whitespace() || NO_PART_OF_NAMES.contains(*c)) {
            (format!("{said} has a `{}`, which no name has: {WANTED}", odd.escape_debug()), of_regex(text))
        } else if let Some(module) = text.strip_suffix(".weight") {
            (format!("{said} ends in `.weight`: {WANTED}, without the tensor's own"), Some(module.to_owned()))
        } else if text.split('.').any(str::is_empty) {
            let parts: Vec<&str> = text.split('.').filter(|part| !part.is_empty()).collect();
            (format!("{said} has an empty part: {WANTED}"), Some(parts.join(".")))
        } else if text.split('.').any(|part| part.contains("**") && part != "**") {
            let parts =
                text.split('.').map(|part| if part == "**" { part.to_owned() } else { part.replace("**", "*") });
            let mut meant = parts.collect::<Vec<_>>().join(".");
            if let Some(rest) = text.strip_prefix("**").filter(|rest| !rest.starts_with('.')) {
                meant = format!("**.{}", rest.replace("**", "*"));
            }
            (format!("`**` of {said} is no whole part: {WANTED}"), Some(meant))
        } else {
            return None;
        };
        let meant = meant.filter(|meant| *meant != text && Self::from(meant.clone()).fault(pointer).is_none());
        Some(FamilyFault::new(pointer, reason).meant(meant.as_deref()))
    }

    /// Returns the parts that each wildcard which is a whole part took, in order; `None` where the name does not match.
    ///
    /// The time is the product of both lengths at most: after a failure only the last `**` can take one more part.
    fn captures<'n>(&self, name: &'n str) -> Option<Vec<Vec<&'n str>>> {
        if !self.may_take(name) {
            return None;
        }
        let pattern: Vec<&str> = self.text.split('.').collect();
        let parts: Vec<&str> = name.split('.').collect();
        let (mut at, mut from) = (0, 0);
        let mut captures: Vec<Vec<&str>> = Vec::new();
        // The last `**`: its place, the number of captures up to it, and the part behind what it took.
        let mut last = None;
        while from < parts.len() {
            match pattern.get(at) {
                Some(&"**") => {
                    captures.push(Vec::new());
                    last = Some((at, captures.len(), from));
                    at += 1;
                }
                Some(wanted) if part_matches(wanted, parts[from]) => {
                    if *wanted == "*" {
                        captures.push(vec![parts[from]]);
                    }
                    (at, from) = (at + 1, from + 1);
                }
                _ => {
                    let (star, count, behind) = last?;
                    captures.truncate(count);
                    captures.last_mut()?.push(parts[behind]);
                    last = Some((star, count, behind + 1));
                    (at, from) = (star + 1, behind + 1);
                }
            }
        }
        let rest = &pattern[at..];
        captures.extend(rest.iter().map(|_| Vec::new()));
        rest.iter().all(|part| *part == "**").then_some(captures)
    }
}

/// Characters of regexes and of other globs, which no name of a module has.
const NO_PART_OF_NAMES: &str = "?[]{}()|\\^$+,:;!\"'`/";

/// Returns the pattern that a regex comes down to, where it is a plain one.
fn of_regex(regex: &str) -> Option<String> {
    let body = regex.trim_start_matches('^').trim_end_matches('$').replace(r"\..*\.", ".**.");
    let (front, body) = match body.strip_prefix(".*") {
        Some(rest) => ("**.", rest.trim_start_matches(['\\', '.'])),
        None => ("", &body[..]),
    };
    let (body, back) = match body.strip_suffix(".*") {
        Some(rest) => (rest.trim_end_matches(['\\', '.']), ".**"),
        None => (body, ""),
    };
    if body.is_empty() || body.replace(".**.", "").contains(".*") {
        return None;
    }
    let body = body.replace(r"\.", ".").replace(r"\d+", "*").replace("[0-9]+", "*");
    Some(format!("{front}{body}{back}"))
}

/// Counts the wildcards of a pattern that are whole parts, which a name can be made of.
pub(super) fn wildcards(text: &str) -> usize {
    text.split('.').filter(|part| matches!(*part, "*" | "**")).count()
}

/// Reports whether a part of a pattern takes a part of a name; `*` is any text.
fn part_matches(wanted: &str, part: &str) -> bool {
    if !wanted.contains('*') {
        return wanted == part;
    }
    let mut pieces = wanted.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = part.strip_prefix(first) else { return false };
    let Some(end) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(end)
}

impl From<String> for NamePattern {
    fn from(text: String) -> Self {
        Self { text }
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> Self {
        pattern.text
    }
}

impl schemars::JsonSchema for NamePattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NamePattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "A module's name; `*` is any text within one part, `**` any number of parts: `**.mlp.gate`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_parts_and_double_stars_cross_them() {
        let takes = |pattern: &str, name: &str| NamePattern::from(pattern.to_owned()).matches(name);
        for (pattern, name) in [
            ("**.mlp.gate", "mlp.gate"),
            ("**.mlp.gate", "model.layers.3.mlp.gate"),
            ("**.visual.**", "model.visual.blocks.0.attn.qkv"),
            ("**.visual.**", "visual"),
            ("**.layers.*.gate", "layers.0.gate"),
            ("**.conv*", "model.layers.0.conv1d"),
            ("**.a.**.b", "x.a.a.b.c.b"),
            ("score", "score"),
            ("**", "a.b"),
        ] {
            assert!(takes(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("**.mlp.gate", "model.mlp.gate_proj"),
            ("**.visual.**", "model.audiovisual.x"),
            ("**.layers.*.gate", "layers.0.mlp.gate"),
            ("score", "model.score"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
        ] {
            assert!(!takes(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_takes_no_name_is_a_fault_and_what_was_meant_is_said() {
        let fault = |pattern: &str| NamePattern::from(pattern.to_owned()).fault("/x").map(|fault| fault.help);
        for (pattern, meant) in [
            ("re:.*\\.mlp\\.gate$", Some("**.mlp.gate")),
            ("re:visual\\..*", Some("visual.**")),
            (r"re:^model\.layers\.\d+\..*\.gate$", Some("model.layers.*.**.gate")),
            ("re:a.*b", None),
            ("**.layers.[0-9]+.gate", Some("**.layers.*.gate")),
            ("**.mlp.gate.weight", Some("**.mlp.gate")),
            ("**.mlp..gate", Some("**.mlp.gate")),
            ("visual.", Some("visual")),
            ("**gate", Some("**.gate")),
            ("mlp.**gate", Some("mlp.*gate")),
            ("re:(a|b)", None),
            ("**.{gate,up}_proj", None),
            ("", None),
            ("a b", None),
        ] {
            let meant = meant.map(|meant| format!("did you mean `{meant}`?"));
            assert_eq!(fault(pattern), Some(meant), "{pattern}");
        }
        for pattern in ["**", "score", "**.visual.**", "**.conv*", "a.*.b-c_1"] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_template_takes_what_the_wildcards_took() {
        let rewrite = |pattern: &str, name: &str, template: &str| {
            NamePattern::from(pattern.to_owned()).rewrite(name, template, 0)
        };
        let of = "model.layers.3.mamba.in_proj";
        assert_eq!(
            rewrite("**.mamba.in_proj", of, "**.mixer.in_proj").as_deref(),
            Some("model.layers.3.mixer.in_proj")
        );
        assert_eq!(rewrite("model.layers.*.mamba.*", of, "model.*.mixer.*").as_deref(), Some("model.3.mixer.in_proj"));
        assert_eq!(rewrite("**.in_proj.**", of, "**.x.**").as_deref(), Some("model.layers.3.mamba.x"));
        assert_eq!(rewrite("**.out_proj", of, "x"), None);
        let counted = NamePattern::from("model.layers.*.mamba.*".to_owned()).rewrite(of, "model.*.mixer.*", 24);
        assert_eq!(counted.as_deref(), Some("model.27.mixer.in_proj"));
        // The first place where the rest fits is taken.
        assert_eq!(rewrite("**.a.*.**", "x.a.b.a.c", "**.*.**").as_deref(), Some("x.b.a.c"));
    }

    /// Every list of one to four of these parts.
    fn names(parts: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let mut longest = all.clone();
        for _ in 1..4 {
            longest = longest.iter().flat_map(|name| parts.iter().map(move |part| format!("{name}.{part}"))).collect();
            all.extend_from_slice(&longest);
        }
        all
    }

    /// Matching as the documentation of the type says it.
    fn takes(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], _) => name.is_empty(),
            (["**", rest @ ..], _) => (0..=name.len()).any(|taken| takes(rest, &name[taken..])),
            ([wanted, rest @ ..], [part, behind @ ..]) => {
                let fits = wanted.strip_suffix('*').map_or(wanted == part, |start| part.starts_with(start));
                fits && takes(rest, behind)
            }
            _ => false,
        }
    }

    #[test]
    fn patterns_of_all_shapes_take_what_the_plain_definition_takes() {
        let taken = names(&["a", "b", "ab"]);
        for pattern in names(&["a", "ab", "*", "a*", "**"]) {
            let parts: Vec<&str> = pattern.split('.').collect();
            let ours = NamePattern::from(pattern.clone());
            for name in &taken {
                let plain = takes(&parts, &name.split('.').collect::<Vec<_>>());
                assert_eq!(ours.matches(name), plain, "{pattern} {name}");
            }
        }
    }
}
