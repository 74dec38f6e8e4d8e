//! The words of a pattern, and for each that occurs in no name the nearest one that does.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::checkpoint::pattern::Pattern;
use crate::recipe::suggest::nearest_word;

/// The number of different words that are kept of a checkpoint's names; a real model has a few dozen.
const VOCABULARY: usize = 2_000;
/// The number of words of a pattern that are looked up.
const LOOKED_UP: usize = 16;

/// Words for the same part of a model in different families: where one of them is in no name, another may be.
const SYNONYMS: [&[&str]; 9] = [
    &["visual", "vision_tower", "vision_model", "vision_encoder", "vit"],
    &["self_attn", "self_attention", "attention", "attn"],
    &["mlp", "feed_forward", "ffn"],
    &["q_proj", "query", "wq"],
    &["k_proj", "key", "wk"],
    &["v_proj", "value", "wv"],
    &["o_proj", "out_proj", "wo"],
    &["embed_tokens", "tok_embeddings", "word_embeddings", "wte"],
    &["lm_head", "output_layer", "embed_out"],
];

/// The words of a pattern that are taken for right.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Right {
    /// Those that stand in a name, if only as a part of a word.
    Parts,
    /// Those that are a word of a name.
    Words,
}

/// Returns the text of `pattern` with the nearest word of the names in place of each that is not right; `None` where all
/// are, or nothing is near to the others.
pub(super) fn with_known_words(pattern: &Pattern, modules: &[&str], right: Right) -> Option<String> {
    let text = pattern.text();
    let vocabulary = vocabulary(modules);
    let is_right = |word: &str| match right {
        Right::Parts => modules.iter().any(|name| name.contains(word)),
        Right::Words => vocabulary.contains(&word),
    };
    let mut replaced = text.to_owned();
    // From the back, so that the ranges stay right.
    for word in words(pattern).into_iter().take(LOOKED_UP).rev().filter(|word| !is_right(&text[word.clone()])) {
        if let Some(known) = known_word(&text[word.clone()], &vocabulary) {
            replaced.replace_range(word, known);
        }
    }
    (replaced != text).then_some(replaced)
}

/// Returns the words of the names that are near to `word`, the nearest first.
pub fn near_words<'a>(word: &str, modules: &[&'a str]) -> Vec<&'a str> {
    let most = (word.len() / 3).max(1);
    let known = vocabulary(modules).into_iter().filter(|known| known.len().abs_diff(word.len()) <= most);
    let mut near: Vec<(usize, &str)> = known.map(|known| (strsim::damerau_levenshtein(word, known), known)).collect();
    near.retain(|(distance, _)| *distance <= most);
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().map(|(_, known)| known).collect()
}

/// Reports whether a word is one of the names' words.
pub(super) fn is_word(word: &str, modules: &[&str]) -> bool {
    vocabulary(modules).contains(&word)
}

fn known_word<'a>(word: &str, vocabulary: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let mut alike = SYNONYMS.iter().filter(|words| words.contains(&lower.as_str())).flat_map(|words| words.iter());
    alike
        .find_map(|synonym| vocabulary.iter().copied().find(|known| known == synonym))
        .or_else(|| nearest_word(word, vocabulary.iter().copied()))
}

/// Returns the parts of the names between dots, then what underscores divide these into, each once and none a number.
fn vocabulary<'a>(modules: &[&'a str]) -> Vec<&'a str> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut all = Vec::new();
    let is_word = |word: &&str| word.len() > 1 && !word.bytes().all(|byte| byte.is_ascii_digit());
    for part in modules.iter().flat_map(|name| name.split('.')).filter(is_word) {
        if all.len() < VOCABULARY && seen.insert(part) {
            all.push(part);
        }
    }
    let divided: Vec<&str> = all.iter().flat_map(|part| part.split('_')).filter(is_word).collect();
    all.extend(divided.into_iter().filter(|part| seen.insert(part)));
    all
}

/// The places of the words in a pattern: runs of letters, digits and underscores that stand for themselves.
fn words(pattern: &Pattern) -> Vec<Range<usize>> {
    let text = pattern.text();
    let bytes = text.as_bytes();
    let is_regex = matches!(pattern, Pattern::Regex { .. });
    let mut at = if is_regex { "re:".len() } else { 0 };
    let mut words = Vec::new();
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            // What is escaped stands for something else, or divides words.
            b'\\' => at += 2,
            b'[' => at = past(bytes, at, b"]"),
            b'{' if is_regex => at = past(bytes, at, b"}"),
            b'(' if is_regex && bytes.get(at + 1) == Some(&b'?') => at = past(bytes, at, b":=!>)"),
            byte if is_of_word(byte) => {
                at += bytes[at..].iter().take_while(|byte| is_of_word(**byte)).count();
                words.push(trimmed(text, start..at));
            }
            _ => at += 1,
        }
    }
    // A tensor's last part is no word of its module's name, and not mistyped.
    let is_parameter = |word: &str| matches!(word, "weight" | "bias");
    words.retain(|word| {
        let word = &text[word.clone()];
        word.len() > 1 && !is_parameter(word) && !word.bytes().all(|byte| byte.is_ascii_digit())
    });
    words
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The position behind the first of these bytes after `at`, or the end.
fn past(bytes: &[u8], at: usize, ends: &[u8]) -> usize {
    bytes[at + 1..].iter().position(|byte| ends.contains(byte)).map_or(bytes.len(), |found| at + found + 2)
}

/// Without underscores at the ends: `(q|k)_proj` has the word `proj`.
fn trimmed(text: &str, word: Range<usize>) -> Range<usize> {
    let inner = text[word.clone()].trim_matches('_');
    let before = text[word.clone()].len() - text[word.clone()].trim_start_matches('_').len();
    word.start + before..word.start + before + inner.len()
}
