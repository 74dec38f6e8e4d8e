//! The catalogue of models: a file per family under `models/`, built into the binary.

mod added;
mod cache;
mod family;
mod family_text;
mod fault;
mod faults;
mod fused;
mod name_pattern;
mod patterns;
mod server;
mod stack;
mod stored_fused;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

pub use added::{add_by_command, add_by_recipe, added};
pub use cache::KnownCache;
pub use family::{
    AskedName, ConfigKey, FamilyFile, FirstVersions, KnownKind, KnownScales, ListFormat, NextTokens, NotLoaded,
    NotLoadedLevel, ServedPrefix,
};
pub use family_text::{FamilyError, parse};
pub use fault::FamilyFault;
pub use fused::KnownFused;
pub use name_pattern::NamePattern;
pub use patterns::{PlacedPattern, Takes, keys_of};
pub use server::server_name;
pub use stack::{KnownStack, StackLayout, StackNames};
pub use stored_fused::StoredFused;

/// The name of the file that holds for all models.
pub const COMMON: &str = "common";

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../models/", $name, ".yaml")))),*]
    };
}

/// The files of `models/` by name, without the ending; a test compares them with the folder.
pub const FILES: &[(&str, &str)] = built_in![
    "common",
    "afmoe",
    "albert",
    "apertus",
    "apertus1p5_text",
    "arcee",
    "aria",
    "aria_text",
    "audioflamingo3",
    "axk1",
    "axk2",
    "aya_vision",
    "bailing_hybrid",
    "bailing_moe",
    "bamba",
    "bart",
    "beam",
    "bert",
    "biogpt",
    "bitnet",
    "blip_2",
    "blt",
    "bloom",
    "canary",
    "chameleon",
    "clip",
    "codegen",
    "cohere",
    "cohere2",
    "cohere2_moe",
    "cohere2_vision",
    "cohere_asr",
    "cohere_compass",
    "cohere_compass_text",
    "cosmos3_edge",
    "cosmos3_omni",
    "ctrl",
    "cwm",
    "data2vec_text",
    "dbrx",
    "deberta",
    "deepseek_ocr2",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "deepseek_vl",
    "deepseek_vl_hybrid",
    "diffllama",
    "diffusion_gemma",
    "distilbert",
    "doge",
    "dory",
    "dots1",
    "electra",
    "embedding_gemma2",
    "emu3",
    "ernie4_5",
    "ernie4_5_moe",
    "ernie4_5_vl_moe",
    "eurobert",
    "exaone",
    "exaone4",
    "exaone4_5",
    "exaone_moe",
    "falcon",
    "falcon_h1",
    "falcon_mamba",
    "fast_vlm",
    "flex_olmo",
    "flint",
    "fun_asr_nano",
    "fuyu",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_bare",
    "gemma3n",
    "gemma4",
    "gemma4_assistant",
    "gemma4_unified",
    "gemma4_unified_text",
    "glm",
    "glm4",
    "glm46v",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "glm5_next",
    "glm_moe_dsa",
    "glm_ocr",
    "glmasr",
    "got_ocr2",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gpt_neox_japanese",
    "gpt_oss",
    "gptj",
    "granite",
    "granite4_vision",
    "granite_docling",
    "granite_speech",
    "granite_swa",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "gte",
    "helium",
    "hrm_text",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "hunyuan_vl",
    "hy_v3",
    "hy_v4",
    "hy_v4_vl",
    "hyperclovax",
    "hyperclovax_vision_v2",
    "idefics",
    "idefics2",
    "idefics3",
    "inkling2",
    "inkling_text",
    "instructblip",
    "internlm3",
    "internvl",
    "iquestcoder",
    "jais2",
    "jamba",
    "jetmoe",
    "kimi_k25",
    "kimi_linear",
    "kolibri1",
    "kosmos2",
    "laguna",
    "lara_mini",
    "lfm2",
    "lfm2_moe",
    "lfm2_vl",
    "lfm3",
    "lfm3_vl",
    "lighton_ocr",
    "llama",
    "llama4",
    "llama_bare",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "longcat_flash",
    "mamba",
    "mamba2",
    "mellum",
    "mimo",
    "mimo_v2_flash",
    "minicpm3",
    "minicpmv4_6",
    "minimax",
    "minimax_m2",
    "minimax_m3_vl",
    "minimax_m3_vl_text",
    "ministral",
    "ministral3",
    "mistral",
    "mistral3",
    "mistral4",
    "mistral_bare",
    "mixtral",
    "mllama",
    "modernbert",
    "modernbert_decoder",
    "molmo2",
    "molmo2_text",
    "moonshine",
    "moshi",
    "moss_transcribe_diarize",
    "mpnet",
    "mpt",
    "muse_glimmer",
    "muse_spark",
    "musicflamingo",
    "nanochat",
    "nemotron",
    "nemotron_h",
    "nemotron_h_omni",
    "nomic_bert",
    "olmo",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "olmoe",
    "openai_gpt",
    "openai_privacy_filter",
    "opt",
    "ovis2",
    "paddleocr_vl",
    "paligemma",
    "persimmon",
    "phi",
    "phi3",
    "phi4_multimodal",
    "phimoe",
    "pi0",
    "qianfan_ocr",
    "qwen2",
    "qwen2_5_omni",
    "qwen2_5_vl",
    "qwen2_audio",
    "qwen2_bare",
    "qwen2_moe",
    "qwen2_vl",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_asr",
    "qwen3_bare",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_omni_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen4_exp",
    "roberta",
    "roberta_prelayernorm",
    "roberta_tokens",
    "rwkv",
    "sarvam_mla",
    "sarvam_moe",
    "seed_oss",
    "smollm3",
    "smolvlm",
    "solar_open",
    "stablelm",
    "starcoder2",
    "step3p5",
    "step3p7",
    "t5",
    "t5gemma",
    "t5gemma2",
    "trocr",
    "unlimited_ocr",
    "vaultgemma",
    "video_llava",
    "vipllava",
    "voxtral",
    "voxtral_realtime",
    "whisper",
    "xglm",
    "xlm_roberta_xl",
    "xlstm",
    "youtu",
    "zamba2",
    "zaya",
];

/// The names of the families that are built in, as `like` has them.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name).filter(|name| *name != COMMON)
}

/// Returns the files that are built in and have classes or model types of this family: those that a file of the user comes
/// before.
pub fn built_in_like(family: &FamilyFile) -> Vec<FamilyFile> {
    let has = |names: &[String], other: &[String]| names.iter().any(|name| other.contains(name));
    let claims = |other: &FamilyFile| {
        has(&family.architectures, &other.architectures) || has(&family.model_types, &other.model_types)
    };
    let all = FILES.iter().filter(|(name, _)| *name != COMMON).filter_map(|(name, text)| built_in(name, text));
    all.filter(claims).collect()
}

/// Returns the patterns that files built in have where a file of the user has them too, by their lists: those of the families
/// that it comes before or is called like. They are for all checkpoints of a family, and a copy of one has them all.
pub fn built_in_patterns(family: &FamilyFile) -> BTreeSet<(String, String)> {
    let namesake = stem(family).and_then(built_in_file);
    let files = built_in_like(family).into_iter().chain(namesake);
    files.flat_map(|file| file.patterns_by_list().into_iter().map(owned).collect::<Vec<_>>()).collect()
}

fn owned((list, text): (String, &str)) -> (String, String) {
    (list, text.to_owned())
}

/// Returns the facts that hold for all models.
pub(super) fn common() -> &'static FamilyFile {
    static COMMON_FACTS: OnceLock<FamilyFile> = OnceLock::new();
    COMMON_FACTS.get_or_init(|| named_file(COMMON).unwrap_or_else(|| unreachable!("{COMMON} is built in")))
}

/// Returns every family that is known: those of the user first, then those that are built in, in order of file name. A
/// family that is built in is left out where files of the user name all of its classes and model types.
pub fn families() -> Vec<FamilyFile> {
    let mut all = added();
    let names = |family: &FamilyFile| family.architectures.iter().chain(&family.model_types).cloned().collect();
    let named: BTreeSet<String> = all.iter().flat_map::<Vec<String>, _>(names).collect();
    let built_in = FILES.iter().filter(|(name, _)| *name != COMMON).filter_map(|(name, text)| built_in(name, text));
    all.extend(built_in.filter(|family| !names(family).iter().all(|name| named.contains(name))));
    all
}

/// Returns the file of this name: the user's, else the binary's own.
fn named_file(name: &str) -> Option<FamilyFile> {
    added().into_iter().find(|family| stem(family) == Some(name)).or_else(|| built_in_file(name))
}

/// Returns the binary's own file of this name.
fn built_in_file(name: &str) -> Option<FamilyFile> {
    let (_, text) = FILES.iter().find(|(file, _)| *file == name)?;
    built_in(name, text)
}

/// The name of a family's file, as others are like it.
pub fn stem(family: &FamilyFile) -> Option<&str> {
    Path::new(&family.origin).file_stem()?.to_str()
}

fn built_in(name: &str, text: &str) -> Option<FamilyFile> {
    let family = parse(&format!("models/{name}.yaml"), text).ok()?;
    Some(FamilyFile { is_built_in: true, ..family })
}

/// Returns the family of these classes, else of this model type, with those that it is like, nearest first.
///
/// A file that is built in is parsed only where it names one of them.
pub(super) fn find(architectures: &[String], model_type: Option<&str>) -> Vec<FamilyFile> {
    let by_class = architectures.iter().find_map(|class| naming(class).find(|file| file.architectures.contains(class)));
    let by_type =
        || model_type.and_then(|model| naming(model).find(|file| file.model_types.iter().any(|m| m == model)));
    with_ancestors(by_class.or_else(by_type))
}

fn naming(wanted: &str) -> impl Iterator<Item = FamilyFile> {
    let mentions = FILES.iter().filter(move |(_, text)| text.contains(wanted));
    // A file of the user may be called like one that is built in and have other classes.
    added().into_iter().chain(mentions.filter_map(|(name, text)| built_in(name, text)))
}

fn with_ancestors(first: Option<FamilyFile>) -> Vec<FamilyFile> {
    let mut files: Vec<FamilyFile> = Vec::new();
    let mut next = first;
    while let Some(file) = next {
        // A circle of the user's files ends where it closes; a test sees that no circle is built in.
        if files.iter().any(|seen| (&seen.origin, seen.is_built_in) == (&file.origin, file.is_built_in)) {
            break;
        }
        next = file.like.as_deref().and_then(|like| match stem(&file) == Some(like) {
            true => built_in_file(like),
            false => named_file(like),
        });
        files.push(file);
    }
    files
}
