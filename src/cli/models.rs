//! `qwen-fp8 models`: what is known of models, and from where.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::args::ModelsArgs;
use super::editor_schema::{self, EditorSchema};
use super::error::CommandError;
use super::json::JsonOutput;
use super::screen::Screen;
use super::source::open_checkpoint;
use super::table::{Align, TextTable};
use crate::checkpoint::models::Part;
use crate::checkpoint::models::catalogue::{
    FamilyFile, KnownStack, ListFormat, NamePattern, StackLayout, built_in_like, families, stem,
};
use crate::checkpoint::text::{shown, unquoted};
use crate::init::draft_family;
use crate::recipe::nearest_word;

/// The families of models that are known, or the one that was named.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ModelsOutput {
    families: Vec<KnownFamily>,
}

impl JsonOutput for ModelsOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 models --json`";
}

/// A family, and where it is from.
#[derive(Debug, Serialize, JsonSchema)]
struct KnownFamily {
    /// The user's file, or the file in `models/` for a family that is built in.
    origin: String,
    /// The files that are built in and that the user's file comes before, having classes or model types of theirs.
    in_place_of: Vec<String>,
    #[serde(flatten)]
    family: FamilyFile,
}

impl From<FamilyFile> for KnownFamily {
    fn from(family: FamilyFile) -> Self {
        Self { origin: family.origin.clone(), in_place_of: in_place_of(&family), family }
    }
}

pub(super) fn models(args: &ModelsArgs, screen: &Screen) -> Result<(), CommandError> {
    if let Some(model) = &args.draft {
        let checkpoint = open_checkpoint(model)?;
        let text = draft_family(&checkpoint).map_err(|error| CommandError::input(&error).with_help(&error.help()))?;
        let schema = editor_schema::installed(EditorSchema::Model, "file", screen);
        let modeline = schema.map(|schema| format!("# yaml-language-server: $schema={schema}\n#\n"));
        return screen.data(&(modeline.unwrap_or_default() + &text));
    }
    if args.schema {
        return screen.document(&schemars::schema_for!(FamilyFile));
    }
    let known = match &args.name {
        None => families(),
        Some(name) => named(name)?,
    };
    if args.json {
        return screen.json(&ModelsOutput { families: known.into_iter().map(KnownFamily::from).collect() });
    }
    match &args.name {
        None => screen.report(&table(&known)),
        Some(_) => screen.report(&known.iter().map(described).collect::<Vec<_>>().join("\n")),
    }
}

/// Finds the family that is meant, followed by those that it is like.
fn named(name: &str) -> Result<Vec<FamilyFile>, CommandError> {
    let all = families();
    let is_meant = |family: &&FamilyFile| {
        let names = family.architectures.iter().chain(&family.model_types).chain([&family.name]);
        names.into_iter().any(|known| known.eq_ignore_ascii_case(name)) || stem(family) == Some(name)
    };
    if let Some(family) = all.iter().find(is_meant) {
        return Ok(vec![family.clone()]);
    }
    if name.contains('/') || Path::new(name).is_dir() {
        let checkpoint = open_checkpoint(name)?;
        let families = checkpoint.model.families();
        if families.is_empty() {
            let classes = checkpoint.config.architectures().join(", ");
            return Err(CommandError::Input(format!("{} is of no family that is known here", shown(&classes)))
                .with_help(&[UNKNOWN.to_owned()]));
        }
        return Ok(families.to_vec());
    }
    let words = all.iter().flat_map(|family| {
        let names = family.architectures.iter().chain(&family.model_types).chain([&family.name]);
        names.map(String::as_str).chain(stem(family))
    });
    let help = match nearest_word(name, words) {
        Some(near) => format!("did you mean {}?", shown(near)),
        None => UNKNOWN.to_owned(),
    };
    Err(CommandError::Input(format!("no family of models is called {}", shown(name))).with_help(&[help]))
}

const UNKNOWN: &str = "`qwen-fp8 models` lists those that are; a file of your own adds one, which `qwen-fp8 models --draft DIR` drafts: see docs/models.md";

fn table(families: &[FamilyFile]) -> String {
    let mut table = TextTable::new(&[("family", Align::Left), ("classes", Align::Left), ("file", Align::Left)]);
    for family in families {
        let classes = family.architectures.join(", ");
        table.row([family.name.as_str(), &classes, &family.origin].map(|cell| unquoted(cell).to_string()));
    }
    table.render()
}

/// The files that are built in and that this one of the user comes before.
fn in_place_of(family: &FamilyFile) -> Vec<String> {
    let built_in = if family.is_built_in { Vec::new() } else { built_in_like(family) };
    built_in.into_iter().map(|built_in| built_in.origin).collect()
}

/// What a family's file says, in words.
fn described(family: &FamilyFile) -> String {
    let mut text = format!("{} (from {})\n", unquoted(&family.name), unquoted(&family.origin));
    for built_in in in_place_of(family) {
        text.push_str(&format!("  in place of {built_in}, which is built in\n"));
    }
    let mut line = |line: String| {
        text.push_str("  ");
        text.push_str(&line);
        text.push('\n');
    };
    let patterns = |patterns: &[NamePattern]| {
        patterns.iter().map(|pattern| unquoted(pattern.text()).to_string()).collect::<Vec<_>>().join(", ")
    };
    line(format!("classes: {}", unquoted(&family.architectures.join(", "))));
    if !family.model_types.is_empty() {
        line(format!("model types: {}", unquoted(&family.model_types.join(", "))));
    }
    if let Some(like) = &family.like {
        line(format!("otherwise like {}", unquoted(like)));
    }
    for (part, names) in &family.parts {
        let fate = if *part == Part::Decoder { "quantized" } else { "stay unquantized" };
        line(format!("{part}: {} ({fate}: {})", patterns(names), part.why()));
    }
    for (kind, names) in &family.layers {
        line(format!("{}: {}", crate::checkpoint::models::LayerKind::from(*kind), patterns(names)));
    }
    for fused in &family.fused {
        let [layer, parts] = [&fused.layer, &fused.parts.join(", ")].map(|text| unquoted(text).to_string());
        let within = if fused.within.is_empty() { String::new() } else { format!(" in {}", patterns(&fused.within)) };
        line(format!("servers fuse {parts}{within} into {layer}"));
    }
    family.stacks.iter().for_each(|stack| line(described_stack(stack)));
    if !family.may_lack.is_empty() {
        line(format!("missing in some blocks: {}", patterns(&family.may_lack)));
    }
    if family.asks_for_routers {
        line("vLLM asks the list of unquantized layers for routers".to_owned());
    }
    if !family.always_quantized.is_empty() {
        line(format!("cannot stay unquantized: {}", patterns(&family.always_quantized)));
    }
    for served in &family.served {
        line(format!("vLLM calls {} {}", unquoted(&served.on_disk), unquoted(&served.served)));
    }
    for asked in &family.asked {
        let of = match asked.format {
            None => "both lists",
            Some(ListFormat::Fp8) => "the list of `format: fp8`",
            Some(ListFormat::CompressedTensors) => "the list of `format: compressed-tensors`",
        };
        line(format!("vLLM asks {of} for {} in place of {}", unquoted(&asked.asked), patterns(&asked.on_disk)));
    }
    for pattern in &family.listed_patterns {
        line(format!("listed beside the names: {}", unquoted(pattern)));
    }
    for key in &family.config_keys {
        let layers = patterns(&key.layers);
        line(format!("config.json says `{}: {}` where {layers} is FP8", unquoted(&key.key), unquoted(&key.value)));
    }
    for asked in &family.next_tokens.asked {
        let asked_for = unquoted(&asked.asked);
        line(format!(
            "of layers that predict further tokens, vLLM asks for {asked_for} beside {}",
            patterns(&asked.on_disk)
        ));
    }
    if !family.next_tokens.promised_by.is_empty() {
        line(format!("config.json counts such layers by {}", unquoted(&family.next_tokens.promised_by.join(", "))));
    }
    if let Some(since) = &family.since {
        let versions = [("transformers", &since.transformers), ("vLLM", &since.vllm)];
        let known = versions.iter().filter_map(|(name, version)| Some(format!("{name} {}", version.as_ref()?)));
        let known = unquoted(&known.collect::<Vec<_>>().join(" and ")).to_string();
        line(format!("known since {known} ({})", unquoted(&since.source)));
    }
    if !family.unserved.is_empty() {
        line(format!("not served by {}", unquoted(&family.unserved.join(" and "))));
    }
    if let Some(why) = &family.unproven {
        line(format!("nobody has seen vLLM load it: {}", unquoted(why)));
    }
    for not in &family.not_loaded {
        let layers = if not.layers.is_empty() { String::new() } else { format!("{} in ", patterns(&not.layers)) };
        let format = match not.format {
            None => "any format",
            Some(ListFormat::Fp8) => "`format: fp8`",
            Some(ListFormat::CompressedTensors) => "`format: compressed-tensors`",
        };
        let of = if not.is_of_all(family) { String::new() } else { format!(" of {}", not.classes.join(", ")) };
        let of = unquoted(&of).to_string();
        line(format!("{} cannot load {layers}{format}{of}: {}", unquoted(&not.server), unquoted(&not.because)));
    }
    text
}

/// What a stack of experts holds and becomes, in words.
fn described_stack(stack: &KnownStack) -> String {
    let holds = unquoted(&stack.holds.join(", ")).to_string();
    let order = match (stack.holds.len(), stack.interleaved) {
        (1, _) => "",
        (_, true) => " by turns, output for output",
        (_, false) => " one behind the other",
    };
    let stored = match stack.stored {
        StackLayout::Rows => "[experts, outputs, inputs]",
        StackLayout::Columns => "[experts, inputs, outputs]",
        StackLayout::ByShape => "[experts, outputs, inputs] or [experts, inputs, outputs], which the shapes tell",
    };
    let bias =
        stack.bias.as_ref().map_or_else(String::new, |bias| format!(", with biases in {}", unquoted(bias.text())));
    let (on_disk, into) = (unquoted(stack.on_disk.text()), unquoted(&stack.split_into));
    format!("stack of experts {on_disk}: {holds}{order}, stored {stored}{bias}; split into {into}")
}
