//! The pattern language, and what is suggested for a pattern that matches nothing.

use proptest::prelude::*;
use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::pattern::{CLASSES, Pattern, PatternError};
use qwen_fp8::recipe::nearest;

const UP: &str = "model.language_model.layers.0.mlp.up_proj";

fn matches(pattern: &str, module: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(module, LayerKind::Other).unwrap()
}

#[test]
fn a_regex_must_match_from_the_start_and_may_end_early() {
    for (pattern, expected) in [
        ("re:model", true),
        ("re:^model", true),
        ("re:.*up_proj", true),
        ("re:.*up_proj$", true),
        ("re:.*mlp", true),
        ("re:up_proj", false),
        ("re:mlp|model", true),
        ("re:.*up_proj\\.weight", false),
        ("re:.*(gate|up)_proj$", true),
        ("re:(?i)MODEL", true),
        ("re:(?P<kind>model)\\.", true),
        ("re:(?x) model # the root\n", true),
        ("re:.*layers\\.[0-3]\\.", true),
        ("re:.*layers\\.1\\.", false),
    ] {
        assert_eq!(matches(pattern, UP), expected, "{pattern}");
    }
}

#[test]
fn look_around_and_back_references_work() {
    for (pattern, module, expected) in [
        ("re:^(?!.*lm_head).*proj$", UP, true),
        ("re:^(?!.*mlp).*proj$", UP, false),
        ("re:.*(?<=up)_proj", UP, true),
        ("re:.*(?<!up)_proj", UP, false),
        ("re:(?!model)", UP, false),
        ("re:(a)\\1", "aa", true),
        ("re:(a)\\1", "baa", false),
        ("re:(?x)(?!visual) model # not the tower", UP, true),
    ] {
        assert_eq!(matches(pattern, module), expected, "{pattern}");
    }
}

#[test]
fn a_glob_crosses_dots() {
    for (pattern, expected) in [
        ("*", true),
        ("*up_proj", true),
        ("*.mlp.*", true),
        ("model.*.up_proj", true),
        ("*mlp", false),
        ("mlp*", false),
        ("*.{up,gate}_proj", true),
        ("*layers.[0-3].*", true),
        ("*layers.[!0-3].*", false),
        ("*.u?_proj", true),
    ] {
        assert_eq!(matches(pattern, UP), expected, "{pattern}");
    }
}

#[test]
fn a_name_is_the_whole_name_or_that_of_its_weight() {
    assert!(matches(UP, UP));
    assert!(matches(&format!("{UP}.weight"), UP));
    assert!(!matches("up_proj", UP));
    assert!(!matches("model", UP));
    assert!(!matches(&format!("{UP}.bias"), UP));
    assert!(matches("lm_head", "lm_head"));
    assert!(!matches("lm_head", "model.lm_head"));
}

#[test]
fn a_class_is_spelled_exactly() {
    for class in CLASSES {
        let pattern = Pattern::parse(class.name()).unwrap();
        assert_eq!(pattern.text(), class.name());
        assert!(pattern.matches("any", class).unwrap());
        let other = if class == LayerKind::Linear { LayerKind::Norm } else { LayerKind::Linear };
        assert!(!pattern.matches("any", other).unwrap());
    }
    assert!(matches!(Pattern::parse("linear").unwrap(), Pattern::Exact(_)));
    assert!(matches!(Pattern::parse("PositionEmbedding").unwrap(), Pattern::Exact(_)));
}

#[test]
fn llm_compressor_has_no_globs() {
    let pattern = Pattern::parse_upstream("*.mlp.*").unwrap();
    assert!(!pattern.matches(UP, LayerKind::Linear).unwrap());
    assert!(matches!(pattern, Pattern::Exact(_)));
}

#[test]
fn malformed_patterns_are_refused_with_the_reason() {
    let error = |text: &str| Pattern::parse(text).unwrap_err().to_string();
    assert_eq!(error(""), "the pattern is empty");
    assert_eq!(error("re:"), "the regex is empty, which matches every name");
    let python = "not a valid regex to Python's `re`: ";
    for (regex, reason) in [
        ("re:[", "the set of characters has no `]`, at character 1 after `re:`"),
        ("re:(a", "the group has no `)`, at character 1 after `re:`"),
        ("re:a)b", "a `)` closes no group, at character 2 after `re:`"),
        ("re:*", "there is nothing to repeat, at character 1 after `re:`"),
        ("re:a**", "a repetition is repeated, at character 3 after `re:`; put what is repeated in `(?:…)`"),
        (r"re:.*down_proj\z", r"Python knows no escape `\z`, at character 12 after `re:`; write `\Z`"),
        (r"re:.*\pLown", r"Python knows no escape `\p`, at character 3 after `re:`; write a set such as `[a-z]`"),
        (
            r"re:\x{61}",
            r"the escape `\x` is incomplete, at character 1 after `re:`; write two digits after `\x`, four after `\u`, eight after `\U`, without braces",
        ),
        (
            "re:.*(?<n>up)",
            "Python knows no group `(?<n`, at character 3 after `re:`; write `(?P<name>…)` for a group with a name",
        ),
        (
            "re:.*(?i)UP",
            "the flags `(?i)` stand in the middle, at character 3 after `re:`; put them at the start, or write `(?i:…)` around what they are for",
        ),
        ("re:(?x-u)a", "Python does not turn the flag `u` off, at character 1 after `re:`; leave it out"),
        (
            "re:(?<=a|bc)d",
            "a look-behind takes texts of one length only, at character 1 after `re:`; write one for each length, as in `(?:(?<=a)|(?<=bc))`",
        ),
        (r"re:(?P<n>a)(?P<n>b)", "two groups have the name `n`, at character 9 after `re:`"),
        (r"re:é\", r"the backslash at the end escapes nothing, at character 2 after `re:`; write `\\` for a backslash"),
    ] {
        assert_eq!(error(regex), format!("{python}{reason}"));
    }
    assert_eq!(error("model.[abc"), "not a valid glob: unclosed character class; missing ']'");
    assert_eq!(error("re:(?:(?:a{1000}){1000}){1000}"), "not a valid regex: it is too large when compiled");
    assert_eq!(error(&format!("re:{}", "a".repeat(4097))), "the regex is 4097 bytes long; the limit is 4096");
    assert_eq!(error(&"*".repeat(1025)), "the glob is 1025 bytes long; the limit is 1024");
    assert!(error(&format!("re:{}a{}", "(".repeat(2000), ")".repeat(2000))).contains("not a valid regex"));
    assert!(error(&format!("re:(?!x){}a{}", "(".repeat(1500), ")".repeat(1500))).contains("not a valid regex"));
    assert!(error(&format!("re:{}a{}", "(?:".repeat(101), ")".repeat(101))).contains("groups lie more than 100 deep"));
    assert!(error("re:(?<!a+)b").contains("texts of one length"));
    let too_large = "not a valid regex: it is too large when compiled";
    assert_eq!(error("re:(?=a)(?:a{1000}){1000}"), too_large);
    assert_eq!(error(&format!("re:{}", r"(?=\w{90})".repeat(300))), too_large);
    let deep = format!("re:{}a{}", "(?>".repeat(80), ")".repeat(80));
    assert_eq!(error(&deep), "not a valid regex: its groups lie too deep in each other to look around or back");
}

/// Giving up is an error of its own: it is neither a match nor none.
#[test]
fn a_regex_that_gives_up_says_so() {
    let name = "a".repeat(5000);
    let linear = Pattern::parse("re:(a+)+$").unwrap();
    assert!(linear.matches(&name, LayerKind::Linear).unwrap());
    assert!(!linear.matches(&format!("{name}!"), LayerKind::Linear).unwrap());
    let backtracking = Pattern::parse("re:(a|aa)+\\1b").unwrap();
    let error = backtracking.matches(&format!("{name}!"), LayerKind::Linear).unwrap_err().to_string();
    assert!(error.starts_with("the pattern `re:(a|aa)+\\1b` takes too long on the name `aaaa"), "{error}");
    assert!(error.len() < 300);
}

fn names() -> Vec<String> {
    let mut names = vec!["lm_head".to_owned(), "model.language_model.embed_tokens".to_owned()];
    for layer in 0..40 {
        for part in ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj", "self_attn.o_proj"] {
            names.push(format!("model.language_model.layers.{layer}.{part}"));
            names.push(format!("model.visual.blocks.{layer}.{part}"));
        }
    }
    names
}

#[test]
fn the_pattern_that_was_meant_is_suggested() {
    let names = names();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let one = "model.language_model.layers.3.mlp.up_proj";
    for (pattern, expected) in [
        // The classic: `re.match` begins at the start, the names begin with `model.`.
        ("re:visual.*", "re:.*visual.*"),
        ("re:^visual", "re:.*visual"),
        ("re:language_model\\.layers", "re:.*language_model\\.layers"),
        ("re:.*up_proj\\.weight$", "re:.*up_proj$"),
        ("visual", "re:.*visual.*"),
        (".*visual.*", "re:.*visual.*"),
        ("mlp.(up|gate)_proj", "re:.*mlp.(up|gate)_proj"),
        ("visual.*", "re:.*visual.*"),
        ("visual.block?", "*visual.block?*"),
        ("*.up_proj.", "*.up_proj"),
        // A word that no name holds.
        ("re:.*q_prj.*", "re:.*q_proj.*"),
        ("*.q_prj", "*.q_proj"),
        ("q_prj", "re:.*q_proj.*"),
        ("re:.*(gate|up)_prj$", "re:.*(gate|up)_proj$"),
        ("re:.*(q_prj|o_prj)", "re:.*(q_proj|o_proj)"),
        (r"re:.*\.Q_PROJ", r"re:.*\.q_proj"),
        ("re:.*vision_tower.*", "re:.*visual.*"),
        ("*.attention.q_proj", "*.self_attn.q_proj"),
        (r"re:self_atn\.q_proj", r"re:.*self_attn\.q_proj"),
        (r"re:.*layer\.(\d+)\.mlp", r"re:.*layers\.(\d+)\.mlp"),
        // The right words in another frame.
        (r"re:model\.layers\.\d+\.mlp", r"re:.*model\.layers\.\d+\.mlp"),
        (r"re:language_model\.model\.layers\.\d+\.mlp", r"re:.*model\.layers\.\d+\.mlp"),
        ("model.layers.*.up_proj", "re:.*model.layers.*.up_proj"),
        ("model.layers*up_proj", "*model.layers*up_proj"),
        ("language_model.model.layers*up_proj", "*model.layers*up_proj"),
        ("*.up_proj.weight", "*.up_proj"),
        ("re:.*self_attn$", "re:.*self_attn"),
        (r"re:.*\\.up_proj", r"re:.*\.up_proj"),
        (r"re:.*layers\.99\.mlp", r"re:.*layers\.\d+\.mlp"),
        ("*.layers.99.mlp.up_proj", "*.layers.*.mlp.up_proj"),
        ("*(up|gate)_proj", "re:.*(up|gate)_proj"),
        // A class in other words.
        ("nn.Linear", "Linear"),
        ("Linaer", "Linear"),
        ("RMSNorm", "Norm"),
        ("Conv3d", "Conv"),
        ("linear", "Linear"),
        ("LINEAR", "Linear"),
        ("lm_haed", "lm_head"),
        ("model.lm_head", "lm_head"),
        ("model.language_model.layers.3.mlp.up_prj", one),
        ("model.language_model.layers.3.mlp.up_prj.weight", one),
        ("model.layers.3.mlp.up_proj", one),
        ("re:.*frobnicate", ""),
        ("Router", ""),
        ("completely-other", ""),
    ] {
        let found = nearest(&Pattern::parse(pattern).unwrap(), &names);
        assert_eq!(found.first().map_or("", String::as_str), expected, "{pattern}: {found:?}");
        for suggestion in &found {
            let suggested = Pattern::parse(suggestion).unwrap();
            // Names alone do not tell the kinds that classes are about.
            let is_class = matches!(suggested, Pattern::Class(_));
            let finds = names.iter().any(|name| suggested.matches(name, LayerKind::Linear).unwrap());
            assert!(finds || is_class, "{pattern} → {suggestion} finds nothing");
        }
    }
}

proptest! {
    /// Whatever text: no panic, and a pattern keeps its text.
    #[test]
    fn any_text_is_a_pattern_or_an_error(text in "(re:)?[a-c.*?\\[\\](){}|\\\\+^$!<>=:,0-9-]{0,24}", name in "[a-c.]{0,12}") {
        match Pattern::parse(&text) {
            Ok(pattern) => {
                prop_assert_eq!(pattern.text(), text);
                let _ = pattern.matches(&name, LayerKind::Linear);
                let _ = nearest(&pattern, &[name.as_str(), "a.b"]);
            }
            Err(error) => {
                let printable = !error.to_string().contains(char::is_control);
                let short = !matches!(error, PatternError::TooLong { .. });
                prop_assert!(printable && short);
            }
        }
    }

    /// A name without special characters matches itself and nothing else.
    #[test]
    fn a_plain_name_matches_itself(name in "[a-z_]{1,6}(\\.[a-z_0-9]{1,6}){0,4}", other in "[a-z_]{1,6}(\\.[a-z_0-9]{1,6}){0,4}") {
        prop_assert!(matches(&name, &name));
        prop_assert_eq!(matches(&name, &other), name == other || name == format!("{other}.weight"));
    }
}

#[test]
fn a_backtracking_regex_meets_no_long_names() {
    let pattern = Pattern::parse("re:(?:(?=a*)a)*b").unwrap();
    assert!(pattern.matches(&"a".repeat(1024), LayerKind::Linear).is_ok());
    let error = pattern.matches(&"a".repeat(1 << 20), LayerKind::Linear).unwrap_err().to_string();
    assert!(error.starts_with("the pattern `re:(?:(?=a*)a)*b` takes too long on the name `aaa"), "{error}");
    // The linear engine takes any.
    let pattern = Pattern::parse("re:(a+)+$").unwrap();
    assert_eq!(pattern.matches(&"a".repeat(1 << 20), LayerKind::Linear), Ok(true));
}

/// vLLM takes the package `regex` for Python's `re`: what both read alike has no second reading.
#[test]
fn a_regex_that_vllm_reads_otherwise_has_a_second_reading() {
    let served = |text: &str| Pattern::parse_served(text).unwrap();
    for alike in ["lm_head", "re:.*up_proj$", r"re:(?i)(?:.*\.)UP_\w+", "re:.*[a-z]+_proj", "re:(a", "re:"] {
        assert!(served(alike).is_none(), "{alike}");
    }
    for (regex, module, takes) in [
        ("re:.*(?i)UP_PROJ", UP, true),
        ("re:.*(?<n>up)_proj", UP, true),
        (r"re:.*\pLp_proj", UP, true),
        (r"re:.*\p{Lu}p_proj", UP, false),
        (r"re:.*\P{Lu}p_proj\z", UP, true),
        ("re:.*[[:alpha:]]p_proj", UP, true),
        ("re:.*[^[:alpha:]]p_proj", UP, false),
        ("re:.*[[:^alpha:]]p_proj", UP, false),
        ("re:.*[[:^digit:]]p_proj", UP, true),
        ("re:.*(?<=mlp\\.|x)up", UP, true),
    ] {
        let pattern = served(regex).unwrap();
        assert_eq!(pattern.matches(module, LayerKind::Linear), Ok(takes), "{regex}");
        assert_eq!(pattern.text(), regex);
    }
    assert!(Pattern::parse_served(r"re:\p{Nonsense}").is_err());
}
