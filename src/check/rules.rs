//! The rules that `lint` and `verify` check, one file or folder for each family of codes.
//!
//! Each rule's code, texts and check stand together. A rule is a `static` in its family's file and a line in
//! [`RULES`]; the check takes what the passes have read and decoded, and pushes findings. Where one pass over the
//! data answers several rules, the pass stays one and calls each of them.

pub(crate) mod q0_container;
pub(crate) mod q1_config;
pub(crate) mod q2_ignore_list;
pub(crate) mod q2_targets;
pub(crate) mod q3_tensors;
pub(crate) mod q4_cache;
pub(crate) mod q4_values;
pub(crate) mod q5_source;
mod subject;

use crate::report::LintRule;
use q3_tensors::{auxiliary, scales, siblings, weights};
use q5_source::{folder, reference, tensors, threshold};

pub(crate) use subject::Subject;

/// Every rule, in the order of the codes.
pub static RULES: &[&LintRule] = &[
    // Q0: the container.
    &q0_container::CONTAINER,
    &q0_container::TOTAL_SIZE,
    &q0_container::STRAY_SHARD,
    &q0_container::FILE_BESIDE_INDEX,
    // Q1: `quantization_config`.
    &q1_config::NO_CONFIG,
    &q1_config::UNKNOWN_METHOD,
    &q1_config::NOTHING_QUANTIZED,
    &q1_config::BAD_CONFIG,
    &q1_config::ODD_CONFIG,
    &q1_config::LISTS_DIFFER,
    &q1_config::UNQUANTIZED,
    // Q2: the ignore list and the targets.
    &q2_ignore_list::LISTED_QUANTIZED,
    &q2_ignore_list::UNLISTED_PLAIN,
    &q2_ignore_list::PREFIX_ENTRY,
    &q2_ignore_list::REGEX_ENTRY,
    &q2_ignore_list::REGEX_MISSES,
    &q2_ignore_list::UNKNOWN_ENTRY,
    &q2_ignore_list::FUSED_DISAGREE,
    &q2_ignore_list::ENTRY_HITS_QUANTIZED,
    &q2_ignore_list::BAD_ENTRY,
    &q2_targets::UNTARGETED,
    &q2_targets::VISION_QUANTIZED,
    &q2_ignore_list::READERS_DIFFER,
    // Q3: names, shapes and dtypes of tensors.
    &scales::NO_SCALE,
    &scales::ORPHAN_SCALE,
    &scales::SCALE_NAME,
    &scales::SCALE_SHAPE,
    &scales::SCALE_DTYPE,
    &weights::WEIGHT_DTYPE,
    &scales::LEFTOVER,
    &weights::WEIGHT_RANK,
    &weights::RAGGED_BLOCK,
    &siblings::NO_HEAD,
    &siblings::FUSED_MISSING,
    &siblings::LAYERS_MISSING,
    &auxiliary::NO_PART,
    &auxiliary::PART_FORM,
    &auxiliary::WEIGHT_SHAPE,
    // Q4: values of scales and codes.
    &q4_values::SCALE_VALUE,
    &q4_values::WEIGHT_NAN,
    &q4_values::NON_FINITE_KEPT,
    &q4_values::ZERO_POINT,
    &q4_values::GLOBAL_SCALES,
    &q4_values::NO_POWER_OF_TWO,
    &q4_values::SCALE_TOO_LARGE,
    // Q5: against the source.
    &tensors::BYTES_DIFFER,
    &reference::OUTSIDE_STEP,
    &tensors::LOST,
    &tensors::EXTRA,
    &tensors::CHANGED_FORM,
    &reference::SCALE_ALTERED,
    &reference::SCALE_RULE,
    &folder::CONFIG_CHANGED,
    &folder::SIDE_FILE_LOST,
    &folder::SIDE_FILE_DIFFERS,
    &threshold::THRESHOLD,
    &folder::SIDE_FILE_ADDED,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn rules_have_codes_in_order_and_names_of_their_own() {
        assert!(RULES.windows(2).all(|pair| pair[0].code < pair[1].code));
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(RULES.iter().all(|rule| rule.code.len() == 4 && rule.strict <= rule.severity));
    }

    #[test]
    fn rules_are_told_in_whole_sentences() {
        for rule in RULES {
            for text in [rule.title, rule.why] {
                let is_sentence = text.ends_with('.') && text.len() > 12;
                assert!(is_sentence && !text.contains('\n') && !text.contains("  "), "{}: {text}", rule.code);
            }
        }
    }

    /// Finds the codes in the sources below a folder.
    fn codes(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let after = |line: &str| Some(line.trim().strip_prefix("code: \"")?.get(..4)?.to_owned());
                found.extend(text.lines().filter_map(after));
            }
        }
    }

    #[test]
    fn every_rule_of_the_folder_is_in_the_list() {
        let mut found = Vec::new();
        codes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rules"), &mut found);
        found.sort_unstable();
        assert_eq!(found, RULES.iter().map(|rule| rule.code).collect::<Vec<_>>());
    }
}
