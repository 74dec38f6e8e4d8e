//! What is wrong with a family's file beyond its schema: patterns that take no name, parts that contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::family::{AskedName, FamilyFile};
use super::fault::FamilyFault;
use super::name_pattern::wildcards;
use super::patterns::word_of;
use super::server::server_fault;
use crate::pattern::Pattern;
use crate::text::{nearest_word, shown};

impl FamilyFile {
    /// Returns every mistake in the file that its schema does not tell.
    pub fn faults(&self) -> Vec<FamilyFault> {
        let mut faults: Vec<FamilyFault> = self.names().chain(self.servers()).collect();
        faults.extend(self.patterns().iter().filter_map(|placed| placed.pattern.fault(&placed.pointer)));
        faults.extend(self.stacks.iter().enumerate().filter_map(|(at, stack)| stack.fault(&format!("/stacks/{at}"))));
        self.twice_in_parts(&mut faults);
        self.fused_parts(&mut faults);
        let asked = self.asked.iter().enumerate().map(|(at, asked)| (format!("/asked/{at}"), asked));
        let further = self.next_tokens.asked.iter().enumerate();
        let further = further.map(|(at, asked)| (format!("/next_tokens/asked/{at}"), asked));
        faults.extend(asked.chain(further).filter_map(|(pointer, asked)| template(&pointer, asked)));
        faults.extend(self.served.iter().enumerate().filter(|(_, served)| served.on_disk.contains('*')).map(
            |(at, _)| {
                FamilyFault::new(
                    format!("/served/{at}/on_disk"),
                    "`on_disk` is the beginning of a name, in which `*` means nothing",
                )
                .help("`asked` has patterns")
            },
        ));
        faults.extend(self.listed_patterns.iter().enumerate().filter_map(|(at, text)| listed(at, text)));
        faults
    }

    /// Classes and model types that no config.json has.
    fn names(&self) -> impl Iterator<Item = FamilyFault> {
        let is_class = |name: &str| !name.contains(char::is_whitespace) && !name.contains(['/', '*', '.', ':']);
        let is_type = |name: &str| !name.contains(char::is_whitespace) && !name.contains(['/', '*']);
        let classes = self.architectures.iter().enumerate().map(move |(at, name)| {
            ("architectures", at, name, is_class(name), "is no name of a class, such as `Qwen3ForCausalLM`")
        });
        let types = self.model_types.iter().enumerate().map(move |(at, name)| {
            ("model_types", at, name, is_type(name), "is no `model_type` of config.json, such as `qwen3_moe`")
        });
        let faults = classes.chain(types).filter_map(|(key, at, name, is_fit, what)| {
            let before = if key == "architectures" { &self.architectures } else { &self.model_types };
            let reason = match before.iter().position(|other| other == name) {
                _ if !is_fit => format!("{} {what}", shown(name)),
                Some(first) if first < at => format!("{} stands here twice", shown(name)),
                _ => return None,
            };
            Some(FamilyFault::new(format!("/{key}/{at}"), reason))
        });
        faults.collect::<Vec<_>>().into_iter()
    }

    fn servers(&self) -> impl Iterator<Item = FamilyFault> {
        let not_loaded = self.not_loaded.iter().enumerate();
        let not_loaded = not_loaded.map(|(at, not)| (format!("/not_loaded/{at}/server"), &not.server, true));
        let unserved = self.unserved.iter().enumerate();
        let unserved = unserved.map(|(at, server)| (format!("/unserved/{at}"), server, false));
        not_loaded
            .chain(unserved)
            .filter_map(|(pointer, server, has_version)| server_fault(&pointer, server, has_version))
    }

    /// Patterns that stand under two parts or two kinds, of which the later means nothing.
    fn twice_in_parts(&self, faults: &mut Vec<FamilyFault>) {
        let parts = self.parts.iter().map(|(part, patterns)| ("parts", word_of(part), patterns));
        let kinds = self.layers.iter().map(|(kind, patterns)| ("layers", word_of(kind), patterns));
        let mut owners: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for (key, word, patterns) in parts.chain(kinds) {
            for (at, pattern) in patterns.iter().enumerate() {
                match owners.get(&(key, pattern.text())) {
                    Some(owner) => faults.push(FamilyFault::new(
                        format!("/{key}/{word}/{at}"),
                        format!("{} stands under `{owner}` already", shown(pattern.text())),
                    )),
                    None => {
                        owners.insert((key, pattern.text()), word.clone());
                    }
                }
            }
        }
    }

    fn fused_parts(&self, faults: &mut Vec<FamilyFault>) {
        for (at, fused) in self.fused.iter().enumerate() {
            let mut seen = BTreeSet::new();
            for (number, part) in fused.parts.iter().enumerate() {
                let pointer = format!("/fused/{at}/parts/{number}");
                if part.split('.').any(str::is_empty) || part.contains(|c: char| c == '*' || c.is_whitespace()) {
                    let reason =
                        format!("{} is no name of a part: it is the last part of a module's name", shown(part));
                    faults.push(FamilyFault::new(pointer, reason).help("such as `q_proj`; `within` has patterns"));
                } else if !seen.insert(part) {
                    faults.push(FamilyFault::new(pointer, format!("{} stands here twice", shown(part))));
                }
            }
            for (number, part) in fused.needed_together.iter().enumerate() {
                if !fused.parts.contains(part) {
                    let pointer = format!("/fused/{at}/needed_together/{number}");
                    let near = nearest_word(part, fused.parts.iter().map(String::as_str));
                    let reason = format!("{} is none of the `parts`", shown(part));
                    faults.push(FamilyFault::new(pointer, reason).meant(near));
                }
            }
        }
    }
}

/// The fault of a name that is made of another one's wildcards.
fn template(pointer: &str, asked: &AskedName) -> Option<FamilyFault> {
    let pointer = format!("{pointer}/asked");
    if asked.asked.is_empty() || asked.asked.contains(char::is_whitespace) {
        return Some(FamilyFault::new(pointer, format!("{} is no name of a module", shown(&asked.asked))));
    }
    let short = asked.on_disk.iter().find(|pattern| wildcards(pattern.text()) < wildcards(&asked.asked))?;
    Some(FamilyFault::new(pointer, format!("`asked` has more wildcards than {} on disk", shown(short.text()))))
}

fn listed(at: usize, text: &str) -> Option<FamilyFault> {
    let pointer = format!("/listed_patterns/{at}");
    if !text.starts_with("re:") {
        let reason = format!("{} is no regex that begins with `re:`", shown(text));
        return Some(FamilyFault::new(pointer, reason).help("names on disk are listed without being named here"));
    }
    let error = Pattern::parse_upstream(text).err()?;
    Some(FamilyFault::new(pointer, format!("{} is no regex: {error}", shown(text))))
}
