//! Recipes that are broken, bombs or lies, alone and against a checkpoint.

use std::fs;

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse};
use crate::support::scene::{RECIPE, Scene};

fn yaml(scene: &mut Scene, text: impl AsRef<[u8]>) {
    scene.validate("a.yaml", text);
}

fn toml(scene: &mut Scene, text: impl AsRef<[u8]>) {
    scene.validate("a.toml", text);
}

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("x: {}1{}\n", open.repeat(depth), close.repeat(depth))
}

fn laughs(key: &str) -> String {
    let mut text = "a0: &a0 [a, a, a, a, a, a, a, a, a]\n".to_owned();
    for step in 1..10 {
        let aliases = vec![format!("*a{}", step - 1); 9].join(", ");
        text.push_str(&format!("{key}{step}: &a{step} [{aliases}]\n"));
    }
    text + RECIPE
}

/// With one line more.
fn with(line: &str) -> String {
    format!("{RECIPE}{line}\n")
}

pub(crate) const CASES: &[Case] = &[
    Case("fine", |s| yaml(s, RECIPE), Accept),
    Case("fine with CRLF", |s| yaml(s, RECIPE.replace('\n', "\r\n")), Accept),
    Case("fine with a mark", |s| yaml(s, format!("\u{feff}{RECIPE}")), Accept),
    Case("fine in large letters", |s| s.validate("A.YAML", RECIPE), Accept),
    Case(
        "fine with ten thousand patterns",
        |s| {
            yaml(
                s,
                format!(
                    "scheme: FP8_DYNAMIC\ntargets: Linear\nignore:\n{}",
                    (0..10_000).map(|i| format!("  - a.{i}\n")).collect::<String>()
                ),
            )
        },
        Accept,
    ),
    Case(
        "fine with a long name",
        |s| yaml(s, format!("scheme: FP8_DYNAMIC\ntargets: Linear\nignore: [{}]\n", "a".repeat(1 << 20))),
        Accept,
    ),
    Case("empty", |s| yaml(s, ""), Refuse(&["a.yaml"])),
    Case("a comment", |s| yaml(s, "# nothing\n"), Refuse(&["a.yaml"])),
    Case("null", |s| yaml(s, "~\n"), Refuse(&["a.yaml"])),
    Case("a text", |s| yaml(s, "FP8_DYNAMIC\n"), Refuse(&["a.yaml"])),
    Case("a list", |s| yaml(s, "- scheme: FP8_DYNAMIC\n"), Refuse(&["a.yaml"])),
    Case("a tab", |s| yaml(s, "scheme: FP8_DYNAMIC\n\ttargets: Linear\n"), Refuse(&["a.yaml:1:9"])),
    Case("open bracket", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: [Linear\n"), Refuse(&["a.yaml:"])),
    Case("open quote", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: \"Linear\n"), Refuse(&["a.yaml:"])),
    Case("a key twice", |s| yaml(s, with("scheme: FP8_BLOCK")), Refuse(&["a.yaml:4:", "duplicate"])),
    Case("two documents", |s| yaml(s, format!("{RECIPE}---\n{RECIPE}")), Refuse(&["a.yaml:4:", "one document"])),
    Case("not UTF-8", |s| yaml(s, b"scheme: FP8\xff\n"), Refuse(&["not UTF-8", "byte 11"])),
    Case("UTF-16", |s| yaml(s, b"\xff\xfes\0c\0"), Refuse(&["not UTF-8"])),
    Case("NUL", |s| yaml(s, "scheme: FP8\0\ntargets: Linear\n"), Refuse(&["a.yaml:1:"])),
    Case("alias of nothing", |s| yaml(s, "scheme: *nothing\ntargets: Linear\n"), Refuse(&["a.yaml:1:"])),
    Case("alias of itself", |s| yaml(s, "targets: &a [*a]\nscheme: FP8\n"), Refuse(&["a.yaml:1:"])),
    Case("a billion laughs", |s| yaml(s, laughs("a")), Refuse(&["aliases expand beyond the limit"])),
    Case("a billion laughs under other keys", |s| yaml(s, laughs("zzz")), Refuse(&["aliases expand beyond the limit"])),
    Case(
        "two gigabytes by aliases",
        |s| yaml(s, format!("a: &a \"{}\"\nignore: [{}]\n", "x".repeat(100_000), vec!["*a"; 20_000].join(","))),
        Refuse(&["limit"]),
    ),
    Case("a hundred thousand brackets", |s| yaml(s, nested("[", "]", 100_000)), Refuse(&["a.yaml", "recursion"])),
    Case("fifty thousand braces", |s| yaml(s, nested("{a: ", "}", 50_000)), Refuse(&["a.yaml", "nested"])),
    Case("open brackets", |s| yaml(s, "[".repeat(200_000)), Refuse(&["a.yaml"])),
    Case(
        "twenty thousand dashes",
        |s| yaml(s, format!("x:\n{}1\n", "- ".repeat(20_000))),
        Refuse(&["a.yaml", "nested"]),
    ),
    Case("a quadratic scanner", |s| yaml(s, "a: ".repeat(30_000)), Refuse(&["a.yaml"])),
    Case("a key of 2 MB", |s| yaml(s, with(&format!("{}: 1", "k".repeat(2 << 20)))), Refuse(&["a.yaml:4:1", "kkk..."])),
    Case("8 MB", |s| yaml(s, format!("# {}\n{RECIPE}", "x".repeat(8 << 20))), Refuse(&["too large"])),
    Case(
        "a tag that runs code",
        |s| yaml(s, "scheme: !!python/object/apply:os.system ['true']\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:"]),
    ),
    Case(
        "a tag that reads a file",
        |s| yaml(s, "scheme: !include /etc/passwd\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:"]),
    ),
    Case("a variable", |s| yaml(s, "scheme: ${HOME}\ntargets: Linear\n"), Refuse(&["a.yaml:1:", "${HOME}"])),
    Case("a template", |s| yaml(s, "scheme: {{ scheme }}\ntargets: Linear\n"), Refuse(&["a.yaml:1:"])),
    Case("a list as a key", |s| yaml(s, with("? [a, b]\n: 1")), Refuse(&["a.yaml:4:"])),
    Case(
        "escape codes",
        |s| yaml(s, "scheme: \"\\e]0;pwned\\a\\e[31m\"\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:", "\\u{1b}]0;pwned"]),
    ),
    Case("right to left", |s| yaml(s, "scheme: \u{202e}8PF\u{2066}\ntargets: Linear\n"), Refuse(&["a.yaml:1:"])),
    Case(
        "escape codes in TOML",
        |s| toml(s, "scheme = \"\\u001b[31m\"\ntargets = \"Linear\"\n"),
        Refuse(&["a.toml:1:"]),
    ),
    Case(
        "a key that is nearly right",
        |s| yaml(s, "scheme: FP8_DYNAMIC\ntargts: Linear\n"),
        Refuse(&["a.yaml:2:1", "`targets`"]),
    ),
    Case(
        "a scheme that is nearly right",
        |s| yaml(s, "scheme: FP8_DYNAMC\ntargets: Linear\n"),
        Refuse(&["a.yaml:1:9", "`FP8_DYNAMIC`"]),
    ),
    Case("no scheme", |s| yaml(s, "targets: Linear\n"), Refuse(&["a.yaml", "scheme"])),
    Case("a scheme that is a number", |s| yaml(s, "scheme: 8\ntargets: Linear\n"), Refuse(&["a.yaml:1:9"])),
    Case("block size 0", |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: 0\n"), Refuse(&["a.yaml:3:13"])),
    Case(
        "block size below 0",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: -128\n"),
        Refuse(&["a.yaml:3:13"]),
    ),
    Case(
        "block size with a fraction",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: 128.5\n"),
        Refuse(&["a.yaml:3:13"]),
    ),
    Case(
        "block size of 1e999",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: 1e999\n"),
        Refuse(&["a.yaml:3:"]),
    ),
    Case(
        "block size of 2^63",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: 9223372036854775808\n"),
        Refuse(&["a.yaml:3:13"]),
    ),
    Case(
        "block size beyond any integer",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: 99999999999999999999999\n"),
        Refuse(&["a.yaml:3:13"]),
    ),
    Case(
        "block size that is no number",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: .nan\n"),
        Refuse(&["a.yaml:3:"]),
    ),
    Case(
        "block size of three",
        |s| yaml(s, "scheme: FP8_BLOCK\ntargets: Linear\nblock_size: [128, 128, 128]\n"),
        Refuse(&["a.yaml:3:"]),
    ),
    Case("no targets", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: []\n"), Refuse(&["a.yaml:2:"])),
    Case("targets by number", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: 7\n"), Refuse(&["a.yaml:2:"])),
    Case(
        "null among the ignored",
        |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: Linear\nignore: [~]\n"),
        Refuse(&["a.yaml:3:"]),
    ),
    Case(
        "an unknown modifier",
        |s| yaml(s, "s:\n  m:\n    SparseGPTModifier: {sparsity: 0.5}\n"),
        Refuse(&["a.yaml:"]),
    ),
    Case(
        "integers of nine bits in groups",
        |s| {
            yaml(
                s,
                "s_stage:\n  q_modifiers:\n    QuantizationModifier:\n      config_groups:\n        group_0: {targets: [Linear], weights: {num_bits: 9, type: int}}\n",
            )
        },
        Refuse(&["a.yaml:5:"]),
    ),
    Case(
        "a regex that is none",
        |s| yaml(s, with("ignore: ['re:(']").replacen("ignore: [lm_head]\n", "", 1)),
        Refuse(&["a.yaml:3:", "not a valid regex"]),
    ),
    Case(
        "a regex of a billion states",
        |s| yaml(s, with("targets: ['re:((a{1,1000}){1,1000}){1,1000}']").replacen("targets: [Linear]\n", "", 1)),
        Refuse(&["a.yaml:3:", "too large"]),
    ),
    Case(
        "a regex of a thousand groups",
        |s| yaml(s, format!("scheme: FP8_DYNAMIC\ntargets: 're:{}a{}'\n", "(".repeat(1000), ")".repeat(1000))),
        Refuse(&["a.yaml:2:"]),
    ),
    Case(
        "a regex of a megabyte",
        |s| yaml(s, format!("scheme: FP8_DYNAMIC\ntargets: 're:{}'\n", "a|".repeat(1 << 19))),
        Refuse(&["a.yaml:2:", "4096"]),
    ),
    Case("an empty regex", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: 're:'\n"), Refuse(&["a.yaml:2:", "empty"])),
    Case("an empty pattern", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: ['']\n"), Refuse(&["a.yaml:2:"])),
    Case(
        "look-around of a thousand",
        |s| yaml(s, format!("scheme: FP8_DYNAMIC\ntargets: 're:{}a'\n", "(?=".repeat(1000))),
        Refuse(&["a.yaml:2:"]),
    ),
    Case("a bracket in a glob", |s| yaml(s, "scheme: FP8_DYNAMIC\ntargets: ['a[']\n"), Refuse(&["a.yaml:2:", "glob"])),
    Case(
        "braces that multiply",
        |s| yaml(s, format!("scheme: FP8_DYNAMIC\ntargets: ['{}']\n", "{a,b}".repeat(30))),
        Accept,
    ),
    Case("TOML empty", |s| toml(s, ""), Refuse(&["a.toml"])),
    Case("TOML key twice", |s| toml(s, "scheme = \"FP8\"\nscheme = \"FP8\"\n"), Refuse(&["a.toml:2:"])),
    Case("TOML open text", |s| toml(s, "scheme = \"FP8\n"), Refuse(&["a.toml:1:"])),
    Case("TOML without quotes", |s| toml(s, "scheme = FP8_DYNAMIC\n"), Refuse(&["a.toml:1:", "quotes"])),
    Case("YAML in TOML", |s| toml(s, RECIPE), Refuse(&["a.toml:1:"])),
    Case("TOML in YAML", |s| yaml(s, "scheme = \"FP8_DYNAMIC\"\ntargets = \"Linear\"\n"), Refuse(&["a.yaml"])),
    Case(
        "TOML integer",
        |s| toml(s, "scheme = \"FP8_BLOCK\"\ntargets = \"Linear\"\nblock_size = 99999999999999999999\n"),
        Refuse(&["a.toml:3:"]),
    ),
    Case("TOML date", |s| toml(s, "scheme = 1979-05-27\ntargets = \"Linear\"\n"), Refuse(&["a.toml:1:"])),
    Case(
        "TOML arrays",
        |s| toml(s, format!("x = {}{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        Refuse(&["a.toml", "recursion"]),
    ),
    Case(
        "TOML tables",
        |s| toml(s, format!("x = {}1{}\n", "{a = ".repeat(50_000), "}".repeat(50_000))),
        Refuse(&["a.toml"]),
    ),
    Case("TOML dotted key", |s| toml(s, format!("{} = 1\n", vec!["a"; 20_000].join("."))), Refuse(&["a.toml"])),
    Case("TOML dotted table", |s| toml(s, format!("[{}]\n", vec!["a"; 20_000].join("."))), Refuse(&["a.toml"])),
    Case("TOML long line", |s| toml(s, format!("scheme = {}\n", "x".repeat(300_000))), Refuse(&["a.toml:1:"])),
    Case("unknown extension", |s| s.validate("a.txt", RECIPE), Refuse(&["a.txt", "`.yaml`"])),
    Case("no extension", |s| s.validate("recipe", RECIPE), Refuse(&["`.yaml`"])),
    Case(
        "missing",
        |s| s.command = Some(vec!["validate".into(), "no.yaml".into()]),
        Refuse(&["no.yaml", "does not exist"]),
    ),
    Case(
        "a folder",
        |s| {
            s.dir("d.yaml");
            s.command = Some(vec!["validate".into(), "d.yaml".into()])
        },
        Refuse(&["d.yaml", "directory"]),
    ),
    Case(
        "a FIFO",
        |s| {
            s.fifo("f.yaml");
            s.command = Some(vec!["validate".into(), "f.yaml".into()])
        },
        Refuse(&["f.yaml", "FIFO"]),
    ),
    Case(
        "a device",
        |s| {
            s.link("/dev/zero", "z.yaml");
            s.command = Some(vec!["validate".into(), "z.yaml".into()])
        },
        Refuse(&["z.yaml", "device"]),
    ),
    Case(
        "100 MB",
        |s| {
            yaml(s, RECIPE);
            fs::File::options().write(true).open(s.at("a.yaml")).unwrap().set_len(100 << 20).unwrap()
        },
        Refuse(&["a.yaml", "too large"]),
    ),
    Case("name with escape codes", |s| s.validate("\u{1b}[31m.yaml", "x"), Refuse(&["\\u{1b}[31m.yaml"])),
];

pub(crate) const PLANNED: &[Case] = &[
    Case(
        "targets that match nothing",
        |s| s.recipe("scheme: FP8_DYNAMIC\ntargets: ['model.layer.*']\n"),
        Refuse(&["recipe.yaml:2:", "model.layer.*"]),
    ),
    Case(
        "everything is ignored",
        |s| s.recipe("scheme: FP8_DYNAMIC\ntargets: Linear\nignore: ['re:.*']\n"),
        Refuse(&["recipe.yaml:3:", "takes nothing", "ignore"]),
    ),
    Case(
        "llm-compressor's targets match nothing",
        |s| {
            s.recipe(
                "s_stage:\n  s_modifiers:\n    QuantizationModifier:\n      scheme: FP8_DYNAMIC\n      targets: ['re:.*frob.*']\n",
            )
        },
        Refuse(&["recipe.yaml:5:", "re:.*frob.*", "matches nothing"]),
    ),
    Case(
        "an ignored name that is not there",
        |s| s.recipe("scheme: FP8_DYNAMIC\ntargets: Linear\nignore: [lm_haed]\n"),
        Refuse(&["recipe.yaml:3:", "`lm_head`"]),
    ),
    Case(
        "a slow regex",
        |s| {
            s.extra(&format!("{}.weight", "a".repeat(50_000)), "BF16", &[1], &[0; 2]);
            s.recipe(&with("  - 're:(a+)+$'").replacen(" [lm_head]", "\n  - lm_head", 1))
        },
        Accept,
    ),
    Case(
        "a slow regex with look-around",
        |s| {
            s.extra(&format!("{}!", "a".repeat(50_000)), "BF16", &[1], &[0; 2]);
            s.recipe(&with("  - 're:(?=a)(a+)+$'").replacen(" [lm_head]", "\n  - lm_head", 1))
        },
        Refuse(&["recipe.yaml:", "takes too long on the name"]),
    ),
    Case(
        "a look-around over a megabyte",
        |s| {
            s.extra(&"a".repeat(1 << 20), "BF16", &[1], &[0; 2]);
            s.recipe(&with("  - 're:(?:(?=a*)a)*b'").replacen(" [lm_head]", "\n  - lm_head", 1))
        },
        Refuse(&["recipe.yaml:", "takes too long on the name"]),
    ),
    Case(
        "a glob of stars",
        |s| s.recipe(&with(&format!("  - '{}x'", "a*".repeat(500))).replacen(" [lm_head]", "\n  - lm_head", 1)),
        Refuse(&["recipe.yaml:5:"]),
    ),
    Case(
        "blocks larger than any weight",
        |s| s.recipe("scheme: FP8_BLOCK\nblock_size: 4294967296\ntargets: Linear\nignore: [lm_head]\n"),
        Refuse(&["recipe.yaml:"]),
    ),
    Case(
        "shards of a byte",
        |s| {
            s.write("recipe.yaml",
                "version: 1\nformat: compressed-tensors\nmax_shard_size: 1\nrules:\n  - {scheme: FP8_DYNAMIC, targets: Linear, ignore: [lm_head]}\n",
            )
        },
        Accept,
    ),
    Case(
        "a model that is not there",
        |s| {
            s.command = Some(["apply", "m.yaml", "--output=out"].map(Into::into).to_vec());
            s.write(
                "m.yaml",
                "version: 1\nmodel: \"./no\\u001b[31m\"\nrules: [{scheme: FP8_DYNAMIC, targets: Linear}]\n",
            )
        },
        Refuse(&["./no\\u{1b}[31m", "does not exist"]),
    ),
];
