//! Recipes that are good YAML or TOML, and say what cannot be or what may surprise.

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse};
use crate::support::scene::Scene;

fn yaml(scene: &mut Scene, text: impl AsRef<[u8]>) {
    scene.validate("a.yaml", text);
}

fn toml(scene: &mut Scene, text: impl AsRef<[u8]>) {
    scene.validate("a.toml", text);
}

/// A rule in blocks of this size, which stands in line 2.
fn blocks(scene: &mut Scene, size: &str) {
    yaml(scene, format!("scheme: FP8_BLOCK\nblock_size: {size}\ntargets: [Linear]\n"));
}

/// A rule that leaves out what this matches, which stands in line 3.
fn ignoring(scene: &mut Scene, pattern: &str) {
    yaml(scene, format!("scheme: FP8_DYNAMIC\ntargets: [Linear]\nignore: [{pattern}]\n"));
}

/// llm-compressor's nesting around this, which begins in line 4.
fn nested(scene: &mut Scene, inner: &str) {
    let lines: String = inner.lines().map(|line| format!("      {line}\n")).collect();
    yaml(scene, format!("default_stage:\n  default_modifiers:\n    QuantizationModifier:\n{lines}"));
}

/// One group of explicit arguments, whose weights stand in line 7.
fn group(scene: &mut Scene, weights: &str) {
    nested(
        scene,
        &format!(
            "config_groups:\n  group_0:\n    targets: [Linear]\n    weights: {{{weights}}}\n    input_activations: {{num_bits: 8, type: float, strategy: token, symmetric: true, dynamic: true}}"
        ),
    );
}

pub(crate) const CASES: &[Case] = &[
    Case("TOML", |s| toml(s, "scheme = \"FP8_DYNAMIC\"\ntargets = [\"Linear\"]\nignore = [\"lm_head\"]\n"), Accept),
    Case("JSON", |s| yaml(s, r#"{"scheme": "FP8_DYNAMIC", "targets": ["Linear"]}"#), Accept),
    Case("no newline at the end", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: [Linear]"), Accept),
    Case("a document that begins and ends", |s| yaml(s, "---\nscheme: FP8_DYNAMIC\ntargets: [Linear]\n...\n"), Accept),
    Case("an anchor of a list", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: &t [Linear]\n"), Accept),
    Case("texts where lists are meant", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: Linear\nignore: lm_head\n"), Accept),
    Case("names that YAML 1.1 takes for booleans", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: [no, on, y]\n"), Accept),
    Case("llm-compressor", |s| nested(s, "targets: [Linear]\nignore: [lm_head]\nscheme: FP8_DYNAMIC"), Accept),
    Case(
        "llm-compressor in TOML",
        |s| toml(s, "[a_stage.a_modifiers.QuantizationModifier]\ntargets = [\"Linear\"]\nscheme = \"FP8_DYNAMIC\"\n"),
        Accept,
    ),
    Case(
        "a table over lines in TOML",
        |s| {
            toml(
                s,
                "a_stage = { a_modifiers = {\n QuantizationModifier = { scheme = \"FP8_DYNAMIC\", targets = [\"Linear\"] } } }\n",
            )
        },
        Accept,
    ),
    Case(
        "groups",
        |s| group(s, "num_bits: 8, type: float, strategy: channel, symmetric: true, dynamic: false"),
        Accept,
    ),
    Case("a smaller indent", |s| yaml(s, "scheme: FP8_DYNAMIC\n  targets: [Linear]\n"), Refuse(&["a.yaml:2:"])),
    Case(
        "a key twice in a nested map",
        |s| nested(s, "targets: [Linear]\nscheme: FP8_DYNAMIC\nscheme: FP8_BLOCK"),
        Refuse(&["a.yaml:6:", "`scheme`", "duplicate"]),
    ),
    Case(
        "bytes that are no text",
        |s| yaml(s, (0..=255).cycle().take(4096).map(|byte: u8| byte.max(9)).collect::<Vec<_>>()),
        Refuse(&["not UTF-8", "a.yaml"]),
    ),
    Case(
        "a merge of itself",
        |s| yaml(s, "a: &a\n  <<: *a\nscheme: FP8_DYNAMIC\n"),
        Refuse(&["a.yaml:2:", "an alias cannot stand inside"]),
    ),
    Case(
        "a merge",
        |s| yaml(s, "base: &b {scheme: FP8_DYNAMIC}\n<<: *b\ntargets: [Linear]\n"),
        Refuse(&["a.yaml:1:1", "unknown key `base`"]),
    ),
    Case(
        "an anchor under a key of its own",
        |s| yaml(s, "common: &ig [lm_head]\nscheme: FP8_DYNAMIC\ntargets: [Linear]\nignore: *ig\n"),
        Refuse(&["a.yaml:1:1", "unknown key `common`"]),
    ),
    Case(
        "five thousand anchors",
        |s| ignoring(s, &(0..5000).map(|i| format!("&n{i} a{i}")).collect::<Vec<_>>().join(",")),
        Refuse(&["a.yaml:3:", "more anchors and aliases than the limit"]),
    ),
    Case(
        "a thousand brackets",
        |s| yaml(s, format!("targets: {}{}\n", "[".repeat(1000), "]".repeat(1000))),
        Refuse(&["a.yaml:1:", "recursion limit"]),
    ),
    Case(
        "a tag that runs code, in a field",
        |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: !!python/name:os.system [Linear]\n"),
        Refuse(&["a.yaml:2:", "unsupported tag"]),
    ),
    Case(
        "a nested key that is nearly right",
        |s| nested(s, "targets: [Linear]\ningore: [lm_head]\nscheme: FP8_DYNAMIC"),
        Refuse(&["a.yaml:5:7", "`ingore`", "did you mean `ignore`?"]),
    ),
    Case(
        "another version",
        |s| yaml(s, "version: 999\nscheme: FP8_DYNAMIC\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:10"]),
    ),
    Case(
        "a scheme in small letters",
        |s| yaml(s, "scheme: fp8_dynamic\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:9", "did you mean `FP8_DYNAMIC`?"]),
    ),
    Case("a scheme of null", |s| yaml(s, "scheme:\ntargets: Linear\n"), Refuse(&["a.yaml:1:", "not null"])),
    Case("two schemes", |s| yaml(s, "scheme: [FP8, FP8_BLOCK]\ntargets: Linear\n"), Refuse(&["a.yaml:1:", "a string"])),
    Case(
        "a scheme and groups",
        |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: Linear\nconfig_groups: {group_0: {targets: [Linear]}}\n"),
        Refuse(&["a.yaml:3:1", "`config_groups`"]),
    ),
    Case("blocks as a text", |s| blocks(s, "\"128\""), Refuse(&["a.yaml:2:13", "`block_size`", "the string `128`"])),
    Case("blocks as a boolean", |s| blocks(s, "true"), Refuse(&["a.yaml:2:13", "`block_size`"])),
    Case("blocks of null", |s| blocks(s, "null"), Refuse(&["a.yaml:2:13", "`block_size`", "not null"])),
    Case("blocks of one side", |s| blocks(s, "[128]"), Refuse(&["a.yaml:2:", "a list of 2 integers"])),
    Case("blocks of no height", |s| blocks(s, "[0, 128]"), Refuse(&["a.yaml:2:14", "entry 1 of `block_size`"])),
    Case("blocks in hexadecimal", |s| blocks(s, "0x80"), Accept),
    Case("blocks in octal", |s| blocks(s, "0o200"), Accept),
    Case("blocks of seven", |s| blocks(s, "7"), Accept),
    Case(
        "blocks of a fraction in TOML",
        |s| toml(s, "scheme = \"FP8_BLOCK\"\ntargets = \"Linear\"\nblock_size = 128.5\n"),
        Refuse(&["a.toml:3:14", "`block_size`"]),
    ),
    Case(
        "blocks without end in TOML",
        |s| toml(s, "scheme = \"FP8_BLOCK\"\ntargets = \"Linear\"\nblock_size = inf\n"),
        Refuse(&["a.toml:3:14", "`block_size`", "finite"]),
    ),
    Case(
        "blocks below 0 in TOML",
        |s| toml(s, "scheme = \"FP8_BLOCK\"\ntargets = \"Linear\"\nblock_size = -1\n"),
        Refuse(&["a.toml:3:14", "`block_size`"]),
    ),
    Case(
        "ignored as a map",
        |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: Linear\nignore: {lm_head: true}\n"),
        Refuse(&["a.yaml:3:"]),
    ),
    Case(
        "a modifier that needs data",
        |s| yaml(s, "a_stage:\n  a_modifiers:\n    GPTQModifier:\n      targets: [Linear]\n"),
        Refuse(&["a.yaml:3:5", "`GPTQModifier`"]),
    ),
    Case(
        "two modifiers, one of which needs data",
        |s| {
            yaml(
                s,
                "a_stage:\n  a_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n      scheme: FP8\n    SmoothQuantModifier: {}\n",
            )
        },
        Refuse(&["a.yaml:6:5", "`SmoothQuantModifier`"]),
    ),
    Case("a modifier of null", |s| nested(s, ""), Refuse(&["a.yaml:3:5", "`QuantizationModifier`", "not null"])),
    Case(
        "two stages",
        |s| {
            let stage = |name| {
                format!(
                    "{name}_stage:\n  q_modifiers:\n    QuantizationModifier: {{targets: [Linear], scheme: FP8_DYNAMIC}}\n"
                )
            };
            yaml(s, stage("one") + &stage("two"))
        },
        Accept,
    ),
    Case(
        "groups of eight and a half bits",
        |s| group(s, "num_bits: 8.5, type: float, strategy: channel, symmetric: true"),
        Refuse(&["a.yaml:7:", "`num_bits`"]),
    ),
    Case(
        "groups of an unknown strategy",
        |s| group(s, "num_bits: 8, type: float, strategy: chanel, symmetric: true"),
        Refuse(&["a.yaml:7:", "`chanel`", "did you mean `channel`?"]),
    ),
    Case(
        "groups that nothing computes",
        |s| group(s, "num_bits: 8, type: float, strategy: channel, symmetric: false"),
        Refuse(&["a.yaml:7:", "`symmetric: false`"]),
    ),
    Case("no groups", |s| nested(s, "config_groups: {}"), Refuse(&["a.yaml:4:"])),
    Case("groups as a list", |s| nested(s, "config_groups: [1]"), Refuse(&["a.yaml:4:", "config_groups"])),
    Case(
        "a group without targets",
        |s| nested(s, "config_groups:\n  group_0:\n    weights: {num_bits: 8, type: float}"),
        Refuse(&["a.yaml:", "targets"]),
    ),
    Case("a regex that backtracks", |s| ignoring(s, "'re:^(a|a|a|a|a|a)*b$'"), Accept),
    Case("a regex of two hundred stars", |s| ignoring(s, &format!("'re:{}x'", ".*".repeat(200))), Accept),
    Case(
        "a regex of all letters of all languages",
        |s| ignoring(s, &format!("'re:{}'", r"\w{1,500}".repeat(20))),
        Refuse(&["a.yaml:3:", "too large when compiled"]),
    ),
    Case("a back reference", |s| ignoring(s, r"'re:(a)\1'"), Accept),
    Case("look-behind", |s| ignoring(s, "'re:(?<!x)y'"), Accept),
    Case("look-ahead", |s| ignoring(s, "'re:(?!.*visual).*'"), Accept),
    Case("a group with Python's name", |s| ignoring(s, "'re:(?P<n>lm)_head'"), Accept),
    Case("flags in a regex", |s| ignoring(s, "'re:(?i)LM_HEAD', 're:(?x) lm _ head # c'"), Accept),
    Case("NUL in a regex", |s| ignoring(s, "\"re:a\\0b\""), Accept),
    Case("a bracket too many", |s| ignoring(s, "'re:a)b'"), Refuse(&["a.yaml:3:", "not a valid regex"])),
    Case("five thousand stars", |s| ignoring(s, &format!("'{}x'", "a*".repeat(5000))), Refuse(&["a.yaml:3:"])),
    Case("TOML table twice", |s| toml(s, "[a]\nx = 1\n[a]\ny = 1\n"), Refuse(&["a.toml:3:", "duplicate"])),
    Case("TOML open array", |s| toml(s, "targets = [\"Linear\"\nscheme = \"FP8\"\n"), Refuse(&["a.toml:2:"])),
    Case("TOML not UTF-8", |s| toml(s, b"scheme = \"\xff\"\n"), Refuse(&["not UTF-8", "byte 10"])),
    Case(
        "TOML array of all kinds",
        |s| toml(s, "scheme = \"FP8\"\ntargets = [\"Linear\", 1, {a = 2}]\n"),
        Refuse(&["a.toml:2:22", "entry 2 of `targets`", "a.toml:2:26"]),
    ),
    Case(
        "TOML key that is nearly right",
        |s| toml(s, "scheme = \"FP8\"\ntargts = \"Linear\"\n"),
        Refuse(&["a.toml:2:1", "did you mean `targets`?"]),
    ),
    Case(
        "TOML tables by the thousand",
        |s| toml(s, (0..20_000).map(|i| format!("[a{i}]\n")).collect::<String>()),
        Refuse(&["a.toml:1:2", "unknown key `a0`", "more errors are not shown"]),
    ),
];
