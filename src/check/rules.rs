//! The rules by their codes: what `lint` and `verify` look for, and how much each weighs.

use serde::{Serialize, Serializer};

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A server refuses the checkpoint or computes with wrong numbers.
    Error,
    /// It works with some readers, or costs something.
    Warning,
    /// Something could not be checked.
    Note,
}

/// A rule that a checkpoint can break.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Never changes its meaning once released.
    pub code: &'static str,
    /// The code in words, as SARIF viewers show it.
    pub name: &'static str,
    /// What it weighs to `lint`, which judges anybody's checkpoint.
    pub severity: Severity,
    /// What it weighs to `verify`, which holds a result to the promise that everything in it is accounted for.
    pub strict: Severity,
    /// What is wrong when it is broken, and what comes of it.
    pub summary: &'static str,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

macro_rules! rules {
    ($($id:ident $code:literal $name:literal $severity:ident $strict:ident $summary:literal)*) => {
        $(
            #[doc = $summary]
            pub(super) static $id: Rule = Rule {
                code: $code,
                name: $name,
                severity: Severity::$severity,
                strict: Severity::$strict,
                summary: $summary,
            };
        )*
        /// Every rule, in the order of the codes.
        pub static RULES: &[&Rule] = &[$(&$id),*];
    };
}

// Q0: the container. Q1: `quantization_config`. Q2: the list of what stays. Q3: tensors. Q4: values. Q5: against the source.
rules! {
    CONTAINER "Q001" "container" Error Error
        "shards, headers, index or config.json contradict each other or cannot be read: different readers load different tensors, or none"
    TOTAL_SIZE "Q002" "index-total-size" Warning Warning
        "`metadata.total_size` of the index is not the size of the tensors"
    STRAY_SHARD "Q003" "stray-shard" Warning Error
        "a safetensors file lies beside the checkpoint and is no part of it: some loaders read every file of the folder"

    NO_CONFIG "Q101" "no-quantization-config" Error Error
        "tensors are quantized and config.json has no `quantization_config`: FP8 bytes would be loaded as weights"
    UNKNOWN_METHOD "Q102" "unknown-method" Note Error
        "the quantization method or number format is not one that is checked"
    NOTHING_QUANTIZED "Q103" "nothing-quantized" Error Error
        "config.json declares a quantization and no tensor is quantized"
    BAD_CONFIG "Q104" "bad-quantization-config" Error Error
        "a value that servers need in `quantization_config` is missing or not what they take"
    ODD_CONFIG "Q105" "odd-quantization-config" Warning Warning
        "a value in `quantization_config` that some servers do not take"
    LISTS_DIFFER "Q106" "lists-differ" Error Error
        "`ignored_layers` and `modules_to_not_convert` differ: vLLM and transformers would build different models"
    UNQUANTIZED "Q107" "unquantized" Note Note
        "nothing is quantized and nothing says so: there is nothing to check but the container"

    LISTED_QUANTIZED "Q201" "listed-but-quantized" Error Error
        "a module is listed as unquantized and is quantized: vLLM refuses its scale"
    UNLISTED_PLAIN "Q202" "unquantized-but-not-listed" Error Error
        "a linear layer is not quantized and not listed: vLLM casts it to FP8 without a scale, without an error, or finds no codes"
    PREFIX_ENTRY "Q203" "prefix-entry" Warning Error
        "a list entry is a prefix of names; vLLM compares whole names, so that it lists nothing"
    REGEX_ENTRY "Q204" "regex-not-read" Warning Error
        "a list entry is a regex, and this method compares names only, so that it lists nothing"
    REGEX_MISSES "Q205" "regex-misses" Warning Error
        "a regex matches names as the file spells them and not as vLLM does, which anchors it at the start of `visual.` and `language_model.`"
    UNKNOWN_ENTRY "Q206" "entry-matches-nothing" Warning Error
        "a list entry names no module of the checkpoint"
    FUSED_DISAGREE "Q207" "fused-parts-disagree" Error Error
        "parts that a server merges into one layer are not all quantized, or not all listed"
    ENTRY_HITS_QUANTIZED "Q208" "entry-hits-quantized" Warning Warning
        "transformers or SGLang, which match list entries as prefixes, would read the codes of a module as weights"
    BAD_ENTRY "Q209" "bad-entry" Error Error
        "a list entry is no text, or a regex that does not parse or never ends"
    UNTARGETED "Q210" "quantized-but-not-targeted" Error Error
        "a module is quantized and no config group targets it, or servers never build it quantized"
    VISION_QUANTIZED "Q211" "vision-quantized" Warning Warning
        "the vision tower is quantized: SGLang loads its codes without their scales"

    NO_SCALE "Q301" "no-scale" Error Error
        "a quantized weight has no scale: vLLM loads it with an uninitialised one, without an error"
    ORPHAN_SCALE "Q302" "scale-without-weight" Error Error
        "a scale belongs to no quantized weight"
    SCALE_NAME "Q303" "scale-name" Error Error
        "the scale has the name of the other format: `weight_scale_inv` belongs to `fp8` with blocks, `weight_scale` to all else"
    SCALE_SHAPE "Q304" "scale-shape" Error Error
        "the shape of a scale does not follow from its weight and config.json"
    SCALE_DTYPE "Q305" "scale-dtype" Error Error
        "a scale has a dtype that its format does not have"
    WEIGHT_DTYPE "Q306" "weight-dtype" Error Error
        "a linear weight has a dtype that config.json does not declare"
    LEFTOVER "Q307" "leftover-tensor" Error Error
        "a module has a quantization tensor that its format does not know: vLLM refuses it"
    WEIGHT_RANK "Q308" "weight-rank" Error Error
        "a quantized weight is not a matrix"
    RAGGED_BLOCK "Q309" "ragged-block" Warning Warning
        "a block is cut short: vLLM fails on columns that no block divides, transformers reads such rows wrong"
    NO_HEAD "Q310" "no-head" Error Error
        "the embeddings are not tied and `lm_head.weight` is missing: vLLM loads an uninitialised head, without an error"
    FUSED_MISSING "Q311" "fused-part-missing" Error Error
        "one of the parts that a server merges into one layer is missing"
    LAYERS_MISSING "Q312" "layers-missing" Error Error
        "a layer has no tensors, or lacks one that most of its siblings have"
    NO_PART "Q313" "part-missing" Error Error
        "a quantized weight lacks its shape, its zero points or its global scale: servers load what is uninitialised, or refuse it"
    PART_FORM "Q314" "part-dtype-or-shape" Error Error
        "the shape, the zero points or the global scale of a weight has a dtype or shape that does not follow from config.json"
    WEIGHT_SHAPE "Q315" "weight-shape" Error Error
        "`weight_shape` says a shape that the packed integers do not have"

    SCALE_VALUE "Q401" "scale-value" Error Error
        "a scale is NaN, infinite, zero or negative"
    WEIGHT_NAN "Q402" "weight-nan" Error Error
        "a quantized weight holds NaN, or an integer of more bits than config.json declares"
    KEPT "Q403" "non-finite-kept" Note Note
        "a weight has NaN or infinite scales and codes, and the manifest says that its source holds such numbers and that they were kept"
    ZERO_POINT "Q404" "zero-point" Error Error
        "a zero point is no integer of as many bits as the weights"
    GLOBAL_SCALES "Q405" "global-scales-differ" Warning Warning
        "parts that a server merges into one layer have different global scales: vLLM takes one for all of them, and the others lose accuracy"

    BYTES_DIFFER "Q501" "bytes-differ" Error Error
        "a tensor that is not quantized differs from the source"
    OUTSIDE_STEP "Q502" "outside-half-step" Error Error
        "weights decode to values further from the source than rounding explains"
    LOST "Q503" "tensor-lost" Error Error
        "a tensor of the source is missing"
    EXTRA "Q504" "tensor-extra" Error Error
        "a tensor is not in the source and belongs to no quantized weight"
    CHANGED_FORM "Q505" "dtype-or-shape-changed" Error Error
        "a tensor has another dtype or shape than in the source"
    SCALE_ALTERED "Q506" "scale-altered" Error Error
        "most scales follow from the weights of their group, and these do not; or they were looked for, and no search comes to them"
    SCALE_RULE "Q507" "scale-rule" Warning Warning
        "scales do not follow from the weights of their group, as another observer makes them, or a search that no manifest tells of"
    CONFIG_CHANGED "Q508" "config-changed" Error Error
        "a key of config.json other than `quantization_config` is lost or has another value than in the source"
    SIDE_FILE_LOST "Q509" "side-file-lost" Error Error
        "a file of the source that servers need is missing"
    SIDE_FILE_DIFFERS "Q510" "side-file-differs" Warning Warning
        "a file is not the one of the source"
    THRESHOLD "Q511" "threshold" Error Error
        "a figure of a tensor is beyond what `--fail-if` allows"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_unique_and_in_order() {
        assert!(RULES.windows(2).all(|pair| pair[0].code < pair[1].code));
        let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(RULES.iter().all(|rule| rule.code.len() == 4 && rule.strict <= rule.severity));
    }
}
