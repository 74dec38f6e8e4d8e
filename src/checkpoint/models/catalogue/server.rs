//! The servers that a family's file may name.

use super::fault::FamilyFault;
use crate::text::{nearest_word, shown};

/// The servers that are known, as people write them.
const SERVERS: [&str; 3] = ["vLLM", "SGLang", "transformers"];

/// Returns the server of a text such as `vLLM 0.33`, without its version.
pub fn server_name(text: &str) -> &str {
    text.split_once(' ').map_or(text, |(name, _)| name)
}

/// Returns the fault of a text that names no server; a version may stand behind the name where `has_version`.
pub(super) fn server_fault(pointer: &str, text: &str, has_version: bool) -> Option<FamilyFault> {
    let name = server_name(text);
    let version = text.strip_prefix(name).unwrap_or_default();
    let is_version =
        |text: &str| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let is_known = SERVERS.contains(&name);
    if is_known && (version.is_empty() || has_version && version.strip_prefix(' ').is_some_and(is_version)) {
        return None;
    }
    let expected = if has_version { ", with the version that was looked at or without" } else { "" };
    let reason = format!("{} is none of the servers `vLLM`, `SGLang` and `transformers`{expected}", shown(text));
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit() || ".-_=:v".contains(c));
    let near =
        SERVERS.into_iter().find(|known| known.eq_ignore_ascii_case(word)).or_else(|| nearest_word(word, SERVERS));
    let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).collect();
    let meant = near.map(|near| match has_version && is_version(&digits) {
        true => format!("{near} {digits}"),
        false => near.to_owned(),
    });
    Some(FamilyFault::new(pointer, reason).meant(meant.as_deref()))
}
