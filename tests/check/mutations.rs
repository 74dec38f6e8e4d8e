//! Every way to spoil a good result that we could think of, and the rule that must notice.

mod config;
mod few_bits;
mod files;
mod tensors;
mod values;

use std::fs;
use std::path::Path;

use qwen_fp8::check::{Finding, Severity, Verdict, lint, verify};
use serde_json::{Value, json};

use crate::support::folder::{Base, Folder, INDEX, Tensor, source};

const Q: &str = "model.language_model.layers.0.self_attn.q_proj";
const K: &str = "model.language_model.layers.0.self_attn.k_proj";
const V: &str = "model.language_model.layers.0.self_attn.v_proj";
const O: &str = "model.language_model.layers.0.self_attn.o_proj";
const UP: &str = "model.language_model.layers.0.mlp.up_proj";
const DOWN: &str = "model.language_model.layers.1.mlp.down_proj";
const NORM: &str = "model.language_model.norm.weight";
const QKV: &str = "model.visual.blocks.0.attn.qkv";

/// A way to spoil a result.
struct Mutation {
    name: &'static str,
    base: Base,
    /// The rule that must notice.
    code: &'static str,
    /// Whether `lint`, which reads no weight and knows no source, must notice as well.
    by_lint: bool,
    spoil: Spoil,
}

enum Spoil {
    /// What is in the files; headers and index follow.
    Content(fn(&mut Folder)),
    /// The files themselves.
    Files(fn(&Path)),
}

use Spoil::{Content, Files};

fn weight(module: &str) -> String {
    format!("{module}.weight")
}

fn scale_inv(module: &str) -> String {
    format!("{module}.weight_scale_inv")
}

fn scale(module: &str) -> String {
    format!("{module}.weight_scale")
}

/// The first element that is not zero, nor the largest, from the middle on.
fn some_element(tensor: &Tensor) -> usize {
    let middle = tensor.bytes.len() / 2;
    let found = tensor.bytes[middle..].iter().position(|code| (0x20..0x70).contains(&(code & 0x7F)));
    middle + found.unwrap()
}

fn set_scale(folder: &mut Folder, value: f32) {
    folder.tensor(&scale_inv(UP)).bytes[4..6].copy_from_slice(&half_bits(value));
}

/// BF16 by truncation.
fn half_bits(value: f32) -> [u8; 2] {
    ((value.to_bits() >> 16) as u16).to_le_bytes()
}

/// Replaces the entries of the vision tower.
fn list_vision_as(folder: &mut Folder, entry: &str) {
    folder.edit_list(|list| {
        list.retain(|name| !name.as_str().unwrap().contains("visual"));
        list.push(json!(entry));
    });
}

fn edit_json(path: &Path, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn first_shard(dir: &Path) -> std::path::PathBuf {
    let mut shards: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    shards.sort();
    shards.swap_remove(0)
}

fn edit_bytes(path: &Path, edit: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const fn content(
    name: &'static str,
    base: Base,
    code: &'static str,
    by_lint: bool,
    spoil: fn(&mut Folder),
) -> Mutation {
    Mutation { name, base, code, by_lint, spoil: Content(spoil) }
}

const fn files(name: &'static str, code: &'static str, by_lint: bool, spoil: fn(&Path)) -> Mutation {
    Mutation { name, base: Base::Block, code, by_lint, spoil: Files(spoil) }
}

const STRUCTURE: bool = true;
const CONTENT: bool = false;

/// Every one.
fn mutations() -> impl Iterator<Item = &'static Mutation> {
    [values::MUTATIONS, tensors::MUTATIONS, config::MUTATIONS, files::MUTATIONS, few_bits::MUTATIONS]
        .into_iter()
        .flatten()
}

/// Faults that are said and do not fail, each with the verdict: nothing that a server loads as weights is wrong.
const HARMLESS: [(&str, Verdict); 4] = [
    ("Q002", Verdict::Proven),
    ("Q206", Verdict::Proven),
    ("Q510", Verdict::PartlyProven),
    ("Q512", Verdict::PartlyProven),
];

#[test]
fn every_mutation_is_caught() {
    for mutation in mutations() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::read(mutation.base.dir());
        if let Content(spoil) = mutation.spoil {
            spoil(&mut folder);
        }
        folder.write(dir.path());
        if let Files(spoil) = mutation.spoil {
            spoil(dir.path());
        }
        let name = mutation.name;
        let verification = verify(dir.path(), Some(&source()), &[], &()).unwrap();
        let found = codes(&verification.findings);
        assert!(found.contains(&mutation.code), "{name}: verify found {found:?}: {:#?}", verification.findings);
        let harmless = HARMLESS.iter().find(|(code, _)| *code == mutation.code);
        let verdict = harmless.map_or(Verdict::AtFault, |(_, verdict)| *verdict);
        assert_eq!(verification.verdict, verdict, "{name}: {:#?}", verification.findings);
        let linted = lint(dir.path(), &()).unwrap();
        verification.findings.iter().chain(&linted).for_each(|finding| counts_agree(&finding.message));
        assert_eq!(codes(&linted).contains(&mutation.code), mutation.by_lint, "{name}: lint found {linted:#?}");
    }
}

/// No count of one has a noun or a verb of many. Most mutations spoil one thing, so that nearly every message that
/// counts comes by here with a count of one.
fn counts_agree(message: &str) {
    const VERBS_OF_ONE: [&str; 6] = ["is", "does", "matches", "lies", "decodes", "has"];
    const VERBS_OF_MANY: [&str; 6] = ["are", "do", "match", "lie", "decode", "have"];
    let words: Vec<&str> = message.split_whitespace().collect();
    for (at, _) in words.iter().enumerate().filter(|(_, word)| **word == "1") {
        let counted = &words[at + 1..];
        let is_verb = |word: &&&str| VERBS_OF_ONE.contains(word) || VERBS_OF_MANY.contains(word);
        let (noun, verb) = (counted.first(), counted.iter().find(is_verb));
        // `1 of its scales does`: the verb is behind what it counts.
        let is_noun_of_many = noun.is_some_and(|noun| noun.len() > 2 && noun.ends_with('s'));
        assert!(!is_noun_of_many && verb.is_none_or(|verb| !VERBS_OF_MANY.contains(verb)), "{message}");
    }
}

#[test]
fn there_are_enough_mutations_and_each_has_its_name() {
    let mut names: Vec<_> = mutations().map(|mutation| mutation.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), mutations().count());
    assert!(names.len() >= 150, "{}", names.len());
}

#[test]
fn a_good_result_has_no_findings() {
    for base in [Base::Block, Base::BlockF32, Base::Channel] {
        let rewritten = tempfile::tempdir().unwrap();
        Folder::read(base.dir()).write(rewritten.path());
        for dir in [base.dir(), rewritten.path()] {
            let verification = verify(dir, Some(&source()), &[], &()).unwrap();
            assert_eq!(verification.findings, [], "{base:?}");
            assert_eq!(verify(dir, None, &[], &()).unwrap().findings, [], "{base:?}");
            assert_eq!(lint(dir, &()).unwrap(), [], "{base:?}");
            assert_eq!(verification.tensors.len(), 70);
            let quantized = verification.tensors.iter().filter_map(|tensor| tensor.figures);
            assert!(quantized.clone().all(|figures| figures.sqnr_db.unwrap() > 31.0 && figures.cosine > 0.9996));
            assert_eq!(quantized.count(), 14);
        }
    }
}

#[test]
fn nothing_depends_on_the_number_of_threads() {
    let json = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let verification = pool.install(|| verify(Base::Block.dir(), Some(&source()), &[], &()).unwrap());
        serde_json::to_string(&verification).unwrap()
    };
    assert_eq!(json(1), json(7));
}

fn codes(findings: &[Finding]) -> Vec<&'static str> {
    findings
        .iter()
        .filter(|finding| finding.severity != Severity::Note || finding.rule.code == "Q102")
        .map(|finding| finding.rule.code)
        .collect()
}
