//! Patterns over the dotted names of modules, as the catalogue writes them.

use std::borrow::Cow;

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
