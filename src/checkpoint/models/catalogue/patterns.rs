//! The patterns of a family's file: their places in it, and the names that each is held against.

use std::collections::BTreeSet;

use serde::Serialize;

use super::family::FamilyFile;
use super::name_pattern::NamePattern;

/// A pattern of a family's file.
pub struct PlacedPattern<'a> {
    /// The place in the file, as a JSON Pointer: `/parts/audio/0`.
    pub pointer: String,
    pub pattern: &'a NamePattern,
    pub takes: Takes,
}

/// The names that a pattern is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Those of modules that have a tensor, and of the matrices that a stack of experts is split into.
    Modules,
    /// Those of modules that hold others.
    Parents,
    /// Those of tensors, whole.
    Tensors,
    /// Those of what a block may lack: it is right that they are nowhere.
    Absent,
}

impl FamilyFile {
    /// Every pattern over names of modules.
    pub fn patterns(&self) -> Vec<PlacedPattern<'_>> {
        let mut lists: Vec<(String, &[NamePattern], Takes)> = Vec::new();
        let mut modules = |pointer: String, patterns| lists.push((pointer, patterns, Takes::Modules));
        self.parts.iter().for_each(|(part, it)| modules(format!("/parts/{}", word_of(part)), it));
        self.layers.iter().for_each(|(kind, it)| modules(format!("/layers/{}", word_of(kind)), it));
        self.stored_fused.iter().for_each(|(what, it)| modules(format!("/stored_fused/{}", word_of(what)), it));
        for (at, it) in self.asked.iter().enumerate() {
            modules(format!("/asked/{at}/on_disk"), &it.on_disk);
        }
        for (at, it) in self.next_tokens.asked.iter().enumerate() {
            modules(format!("/next_tokens/asked/{at}/on_disk"), &it.on_disk);
        }
        for (at, it) in self.not_loaded.iter().enumerate() {
            modules(format!("/not_loaded/{at}/layers"), &it.layers);
        }
        for (at, it) in self.config_keys.iter().enumerate() {
            modules(format!("/config_keys/{at}/layers"), &it.layers);
        }
        modules("/cut_rows".to_owned(), &self.cut_rows);
        modules("/always_quantized".to_owned(), &self.always_quantized);
        modules("/replicated".to_owned(), &self.replicated);
        lists.push(("/may_lack".to_owned(), &self.may_lack, Takes::Absent));
        let within = self.fused.iter().enumerate();
        lists.extend(within.map(|(at, it)| (format!("/fused/{at}/within"), &it.within[..], Takes::Parents)));
        let mut all = Vec::new();
        for (list, patterns, takes) in lists {
            let placed = |(at, pattern)| PlacedPattern { pointer: format!("{list}/{at}"), pattern, takes };
            all.extend(patterns.iter().enumerate().map(placed));
        }
        for (at, stack) in self.stacks.iter().enumerate() {
            let at = |key: &str| format!("/stacks/{at}/{key}");
            all.push(PlacedPattern { pointer: at("on_disk"), pattern: &stack.on_disk, takes: Takes::Modules });
            let bias = stack.bias.as_ref();
            all.extend(bias.map(|pattern| PlacedPattern { pointer: at("bias"), pattern, takes: Takes::Tensors }));
        }
        all
    }

    /// The patterns by the list that they stand in, whatever their places there.
    pub fn patterns_by_list(&self) -> BTreeSet<(String, &str)> {
        self.patterns().into_iter().map(|placed| (placed.list(), placed.pattern.text())).collect()
    }
}

impl PlacedPattern<'_> {
    /// The keys above the pattern: `parts: audio`, `asked: on_disk`.
    pub fn list(&self) -> String {
        keys_of(&self.pointer)
    }
}

/// Returns the keys of a place in a file, without the positions in lists: `fused: within` of `/fused/0/within/1`.
pub fn keys_of(pointer: &str) -> String {
    let keys = pointer.split('/').filter(|key| !key.is_empty() && key.parse::<usize>().is_err());
    keys.collect::<Vec<_>>().join(": ")
}

/// The word that files have for a member of an enumeration.
pub(super) fn word_of(member: impl Serialize) -> String {
    serde_json::to_value(member).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
