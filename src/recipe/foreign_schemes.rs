//! Names that other tools and the hub give to quantizations, each with the scheme that comes nearest.

/// A scheme that a name of another tool comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) scheme: String,
    /// The difference to what the name means elsewhere, where there is one to know of.
    pub(super) note: Option<&'static str>,
}

const METHOD: &str = "the method itself needs calibration data; the scheme stores the same kind of weights without";
const ACTIVATIONS: &str = "activations stand under `input_scale: 1.0` there, for want of calibration data; `NVFP4A16` has the same weights alone";
const GGUF: &str = "GGUF's types are for llama.cpp; the scheme has as many bits, in safetensors for vLLM";
const FOUR_BITS: &str = "servers read integers of 4 bits in this form, with a scale per 128 columns";

/// Names without regard to case and punctuation, and what they come down to.
const NAMES: &[(&str, &str, Option<&str>)] = &[
    ("AUTOROUND", "W4A16", Some(METHOD)),
    ("AWQ", "W4A16_ASYM", Some(METHOD)),
    ("AWQMARLIN", "W4A16_ASYM", Some(METHOD)),
    ("GPTQ", "W4A16", Some(METHOD)),
    ("GPTQMARLIN", "W4A16", Some(METHOD)),
    ("SMOOTHQUANT", "W8A8", Some(METHOD)),
    ("BITSANDBYTES", "W4A16", Some(FOUR_BITS)),
    ("BNB", "W4A16", Some(FOUR_BITS)),
    ("FP4", "NVFP4A16", Some("`MXFP4` and `MXFP4A16` are the other FP4 schemes")),
    ("NF4", "W4A16", Some(FOUR_BITS)),
    ("HQQ", "W4A16", Some(FOUR_BITS)),
    ("INT4ASYM", "W4A16_ASYM", None),
    ("UINT4", "W4A16_ASYM", None),
    ("LLMINT8", "W8A16", None),
    ("NVFP4A4", "NVFP4", Some(ACTIVATIONS)),
    ("W4A4NVFP4", "NVFP4", Some(ACTIVATIONS)),
    ("MODELOPTFP4", "NVFP4", Some(ACTIVATIONS)),
    ("W4A16NVFP4", "NVFP4A16", None),
    ("W4A16FP4", "NVFP4A16", None),
    ("MX4", "MXFP4", None),
    ("MX6", "MXFP6A16", None),
    ("MXFP6", "MXFP6A16", None),
    ("MX8", "MXFP8", None),
    ("FP6", "MXFP6A16", None),
    ("W4A8MXFP4", "MXFP4XFP8", None),
    ("E4M3", "FP8_DYNAMIC", None),
    ("F8E4M3", "FP8_DYNAMIC", None),
    ("FLOAT8", "FP8_DYNAMIC", None),
    ("FP8E4M3", "FP8_DYNAMIC", None),
    ("FP8E4M3FN", "FP8_DYNAMIC", None),
    ("FP8CHANNEL", "FP8_DYNAMIC", None),
    ("FP8PERCHANNEL", "FP8_DYNAMIC", None),
    ("FP8PERTOKEN", "FP8_DYNAMIC", None),
    ("FP8W8A8", "FP8_DYNAMIC", None),
    ("W8A8FP8", "FP8_DYNAMIC", None),
    ("FBGEMMFP8", "FP8_DYNAMIC", None),
    ("PTPCFP8", "FP8_DYNAMIC", None),
    ("FP8BLOCKS", "FP8_BLOCK", None),
    ("FP8BLOCKWISE", "FP8_BLOCK", None),
    ("BLOCKFP8", "FP8_BLOCK", None),
    ("BLOCKWISEFP8", "FP8_BLOCK", None),
    (
        "FP8STATIC",
        "FP8",
        Some("activation scales are computed while the model runs: static ones need calibration data"),
    ),
    ("FP8PERTENSOR", "FP8", None),
    ("FP8TENSOR", "FP8", None),
    ("BF16", "PASSTHROUGH", None),
    ("FP16", "PASSTHROUGH", None),
    ("COPY", "PASSTHROUGH", None),
    ("IGNORE", "PASSTHROUGH", None),
    ("KEEP", "PASSTHROUGH", None),
    ("NONE", "PASSTHROUGH", None),
    ("NOQUANT", "PASSTHROUGH", None),
    ("SKIP", "PASSTHROUGH", None),
    ("UNQUANTIZED", "PASSTHROUGH", None),
];

/// Finds what a name of another tool comes down to, among the schemes of this build.
pub(super) fn meant<'a>(name: &str, mut known: impl Iterator<Item = &'a str>) -> Option<Meant> {
    if name.len() > 100 {
        return None;
    }
    let plain = plain(name);
    let of_table = NAMES.iter().find(|(foreign, ..)| *foreign == plain);
    let (scheme, note) = match of_table {
        Some((_, scheme, note)) => ((*scheme).to_owned(), *note),
        None => of_bits(&plain)?,
    };
    known.any(|known| known == scheme).then_some(Meant { scheme, note })
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// Names that are a number of bits: `INT4`, `UINT3`, `4BIT`, `INT4WO`, and GGUF's `Q4_K_M` and `IQ3_XS`.
fn of_bits(plain: &str) -> Option<(String, Option<&'static str>)> {
    let digit = |text: &str| text.chars().next().filter(|c| ('2'..='8').contains(c));
    let weights = |bits: char, note| Some((format!("W{bits}A16"), note));
    if let Some(rest) = plain.strip_prefix("IQ").or_else(|| plain.strip_prefix('Q'))
        && let Some(bits) = digit(rest)
    {
        return weights(bits, Some(GGUF));
    }
    for (before, after) in
        [("UINT", ""), ("INT", ""), ("INT", "WO"), ("INT", "WEIGHTONLY"), ("INT", "A16"), ("", "BIT"), ("W", "")]
    {
        let inner = plain.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        if let Some(bits) = inner.filter(|inner| inner.len() == 1).and_then(digit) {
            return weights(bits, None);
        }
    }
    None
}

/// Finds the scheme whose name stands at the beginning of another, as in `W4A16_G128` or `w4a16-asym-g32`.
pub(super) fn with_suffix<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = plain(name);
    known.filter(|known| name.starts_with(&plain(known))).max_by_key(|known| known.len())
}

#[cfg(test)]
mod tests {
    use qwen_fp8_schemes::registered;

    use super::*;

    /// The scheme for a name, among those of this build.
    fn scheme(name: &str) -> Option<String> {
        let known = || registered().into_iter().map(|scheme| scheme.name);
        meant(name, known()).map(|meant| meant.scheme).or_else(|| with_suffix(name, known()).map(str::to_owned))
    }

    #[test]
    fn each_name_leads_to_a_scheme_of_this_build() {
        for (name, expected, _) in NAMES {
            assert_eq!(*name, plain(name));
            assert_eq!(scheme(name).as_deref(), Some(*expected), "{name}");
            assert!(qwen_fp8_schemes::find(name).is_none(), "{name} is a name of a scheme itself");
        }
    }

    #[test]
    fn spelling_and_suffixes_do_not_matter() {
        for (name, expected) in [
            ("int4", "W4A16"),
            ("INT-3", "W3A16"),
            ("4bit", "W4A16"),
            ("8-bit", "W8A16"),
            ("int8_weight_only", "W8A16"),
            ("Q4_K_M", "W4A16"),
            ("iq3_xs", "W3A16"),
            ("q8_0", "W8A16"),
            ("fp8_e4m3", "FP8_DYNAMIC"),
            ("fp8-blockwise", "FP8_BLOCK"),
            ("nvfp4-w4a4", "NVFP4"),
            ("W4A16_G128", "W4A16"),
            ("w4a16-asym-g32", "W4A16_ASYM"),
            ("FP8-DYNAMIC", "FP8_DYNAMIC"),
            ("gptq", "W4A16"),
            ("none", "PASSTHROUGH"),
        ] {
            assert_eq!(scheme(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["", "INT9", "INT1", "INT44", "Q", "frobnicate", "-"] {
            assert_eq!(scheme(name), None, "{name}");
        }
    }
}
